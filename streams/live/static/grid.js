// The grid below the map: of the plane's own numbers, or of degrees where the plane lies on the earth.
import { Tangent } from "./earth.js";
import { FONT, write } from "./text.js";
import { viewOf } from "./tiles.js";

const APART = 90; // pixels between two lines, about
const PIECES = 16; // of a line of degrees, which is curved
const EDGE = 6; // pixels between a label and the border
const LINE = 16; // pixels of a line of text

/** The next of 1, 2, 5, 10, ... that is not less. */
function nice(/** @type {number} */ least) {
  const power = 10 ** Math.floor(Math.log10(least));
  return power * ([1, 2, 5, 10].find((digit) => digit * power >= least) ?? 10);
}

const digitsOf = (/** @type {number} */ step) => Math.max(0, -Math.floor(Math.log10(step) + 1e-9));

/** Degrees as text, such as 50.75° N. */
export function degrees(/** @type {number} */ value, /** @type {number} */ digits, /** @type {string} */ letters) {
  const turned = letters === "EW" ? ((value + 540) % 360 + 360) % 360 - 180 : value;
  return `${Math.abs(turned).toFixed(digits)}° ${turned < 0 ? letters[1] : letters[0]}`;
}

/** @returns {number[]} the multiples of the step between two numbers */
function multiples(/** @type {number} */ low, /** @type {number} */ high, /** @type {number} */ step) {
  const first = Math.ceil(low / step), count = Math.max(0, Math.min(200, Math.floor(high / step) - first + 1));
  return Array.from({ length: count }, (_, i) => (first + i) * step);
}

/**
 * @typedef {[string, number, number]} Label its text, and where it begins
 */

/**
 * Draw the lines; returns their labels, to be written over what else is drawn.
 *
 * @param {import("./map.js").BeliefMap} map
 */
export function drawGrid(map) {
  const { pen, world: { earth } } = map;
  pen.strokeStyle = map.colours.line;
  pen.globalAlpha = 0.6;
  pen.lineWidth = 1;
  pen.beginPath();
  const labels = earth?.kind === "tangent" ? graticule(map, new Tangent(earth))
    : earth ? straight(map, earth.stretch, (value, digits, axis) => degrees(value, digits, axis ? "NS" : "EW"), 90)
    : straight(map, 1, (value, digits) => value.toFixed(digits));
  pen.stroke();
  pen.globalAlpha = 1;
  return labels;
}

/** Write the labels and the names of the axes, between what lies over the map. */
export function writeGrid(/** @type {import("./map.js").BeliefMap} */ map, /** @type {{across: Label[], up: Label[]}} */ { across, up }) {
  const { pen, width, height, inset, background, world: { plane: [first, second] } } = map, low = height - inset.bottom;
  const end = (/** @type {string} */ text, /** @type {number} */ high) => write(map, text, width - pen.measureText(text).width - EDGE, low - EDGE - high);
  pen.font = FONT;
  for (const [text, x] of across) if (x + pen.measureText(text).width < width) write(map, text, x, low - EDGE);
  for (const [text, x, y] of up) if (y > inset.top + 2 * LINE && y < low - 2 * LINE) write(map, text, x, y);
  if (!first || !second) return;
  end(`${first.name} (${first.unit}) →`, LINE);
  write(map, `↑ ${second.name} (${second.unit})`, EDGE, inset.top + LINE);
  end(background.said, 2 * LINE);
}

/**
 * @param {import("./map.js").BeliefMap} map
 * @param {number} stretch units of the map in one of the first coordinate
 * @param {(value: number, digits: number, axis: number) => string} text
 * @param {number} most of the second coordinate, upwards and downwards
 */
function straight(map, stretch, text, most = Infinity) {
  const { pen, width, height } = map, right = map.left + width / map.scale, top = map.bottom + height / map.scale;
  const across = nice(APART / map.scale / stretch), up = nice(APART / map.scale);
  /** @type {{across: Label[], up: Label[]}} */
  const labels = { across: [], up: [] };
  for (const v of multiples(map.left / stretch, right / stretch, across)) {
    const x = map.x(v * stretch);
    pen.moveTo(x, 0);
    pen.lineTo(x, height);
    labels.across.push([text(v, digitsOf(across), 0), x + 3, height]);
  }
  for (const v of multiples(Math.max(map.bottom, -most), Math.min(top, most), up)) {
    const y = map.y(v);
    pen.moveTo(0, y);
    pen.lineTo(width, y);
    labels.up.push([text(v, digitsOf(up), 1), 3, y - 3]);
  }
  return labels;
}

/** Meridians and parallels. */
function graticule(/** @type {import("./map.js").BeliefMap} */ map, /** @type {Tangent} */ tangent) {
  const { pen, width, height } = map, { south, north, west, east } = viewOf(map, tangent);
  const up = nice((north - south) * APART / height), across = nice((east - west) * APART / width);
  const line = (/** @type {(share: number) => [number, number]} */ place) => {
    for (let i = 0; i <= PIECES; i++) {
      const [x, y] = place(i / PIECES), [px, py] = [map.x(x), map.y(y)];
      if (i) pen.lineTo(px, py); else pen.moveTo(px, py);
    }
  };
  /** @type {{across: Label[], up: Label[]}} */
  const labels = { across: [], up: [] };
  for (const v of multiples(south, north, up)) {
    line((share) => tangent.toPlane(v, west + share * (east - west)));
    labels.up.push([degrees(v, digitsOf(up), "NS"), 3, map.y(tangent.toPlane(v, west)[1]) - 3]);
  }
  for (const v of multiples(west, east, across)) {
    line((share) => tangent.toPlane(south + share * (north - south), v));
    labels.across.push([degrees(v, digitsOf(across), "EW"), map.x(tangent.toPlane(south, v)[0]) + 3, height]);
  }
  return labels;
}
