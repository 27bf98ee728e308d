// Sensors: where they stand on the map, and the list of them, each with its verdict in colour, shape and word.
import { FONT, beside, write } from "./text.js";

const LABELS = 40; // sensors, at most, whose names are written; those that are faulty always have theirs
const MOST = 300; // rows of the list
const SIZE = 6; // pixels

/**
 * @typedef {{verdict: string, count: number, bias: number | null, bias_deviation: number | null,
 *   noise_scale: number | null, outlier_share: number | null, stated_share: number | null}} Channel
 * @typedef {{verdict: string, because: string, channels: Channel[]}} Verdict
 * @typedef {{name: string, kind: string, place: [number, number] | null}} Sensor
 */

const LIGHT = matchMedia("(prefers-color-scheme: light)");

/**
 * @typedef {"triangle" | "square" | "diamond" | "circle" | "plus" | "cross"} Shape
 *
 * @param {string} dark colour, of Okabe and Ito
 * @param {string} light colour that is seen on white
 * @param {Shape} shape
 */
const drawnAs = (dark, light, shape, { hollow = false, faulty = true } = {}) =>
  ({ shape, hollow, faulty, get colour() { return LIGHT.matches ? light : dark; } });

// Told apart by shape, by word and by colour.
/** @type {Record<string, ReturnType<typeof drawnAs>>} */
export const MARKS = {
  healthy: drawnAs("#2fc19a", "#00805c", "triangle", { faulty: false }),
  biased: drawnAs("#e69f00", "#a86f00", "square"),
  noisier: drawnAs("#ff7f50", "#c94a15", "diamond"),
  quieter: drawnAs("#56b4e9", "#0072b2", "circle", { hollow: true }),
  outliers: drawnAs("#f0e442", "#857a00", "plus"),
  lasting: drawnAs("#f0803c", "#b3541e", "square", { hollow: true }),
  silent: drawnAs("#e8ecf3", "#131a26", "cross"),
  unclear: drawnAs("#e39bc3", "#a3457c", "diamond", { hollow: true }),
  unknown: drawnAs("#a9b5c9", "#5d6a80", "triangle", { hollow: true, faulty: false }),
};

/**
 * @param {Record<string, Verdict>} verdicts
 * @param {string} name of a sensor
 */
export const verdictOf = (verdicts, name) => Object.hasOwn(verdicts, name) ? verdicts[name].verdict : "unknown";

/** @param {string} verdict */
export const markOf = (verdict) => MARKS[verdict] ?? MARKS.unknown;

/**
 * Draw a mark.
 *
 * @param {CanvasRenderingContext2D} pen
 * @param {number} x
 * @param {number} y
 * @param {string} verdict
 */
export function mark(pen, x, y, verdict) {
  const { colour, shape, hollow } = markOf(verdict), r = SIZE;
  pen.fillStyle = pen.strokeStyle = colour;
  pen.lineWidth = 2;
  pen.beginPath();
  if (shape === "triangle") { pen.moveTo(x, y - r); pen.lineTo(x + r - 1, y + r - 2); pen.lineTo(x - r + 1, y + r - 2); }
  if (shape === "square") pen.rect(x - r + 1, y - r + 1, 2 * r - 2, 2 * r - 2);
  if (shape === "diamond") { pen.moveTo(x, y - r); pen.lineTo(x + r, y); pen.lineTo(x, y + r); pen.lineTo(x - r, y); }
  if (shape === "circle") pen.arc(x, y, r - 1, 0, 7);
  if (shape === "plus") { pen.moveTo(x, y - r); pen.lineTo(x, y + r); pen.moveTo(x - r, y); pen.lineTo(x + r, y); }
  if (shape === "cross") { pen.moveTo(x - r, y - r); pen.lineTo(x + r, y + r); pen.moveTo(x + r, y - r); pen.lineTo(x - r, y + r); }
  if (shape !== "plus" && shape !== "cross") pen.closePath();
  if (hollow || shape === "plus" || shape === "cross") pen.stroke(); else pen.fill();
}

/** @returns {sensor is Sensor & {place: [number, number]}} */
const isPlaced = (/** @type {Sensor} */ sensor) => sensor.place !== null;

/**
 * Draw all sensors that have a place; faulty ones last, so that they are on top.
 *
 * @param {import("./map.js").BeliefMap} map
 * @returns {[number, number, number][]} left, right and base line of their names
 */
export function drawSensors(map) {
  const { pen, world } = map, placed = world.sensors.filter(isPlaced);
  /** @type {[number, number, number][]} */
  const names = [];
  pen.font = FONT;
  for (const faulty of [false, true]) for (const sensor of placed) {
    const verdict = verdictOf(world.verdicts, sensor.name), found = markOf(verdict);
    if (found.faulty !== faulty) continue;
    const [x, y] = [map.x(sensor.place[0]), map.y(sensor.place[1])];
    mark(pen, x, y, verdict);
    const text = faulty ? `${sensor.name}: ${verdict}` : placed.length <= LABELS ? sensor.name : "";
    const left = beside(map, text, x);
    write(map, text, left, y + 4, found.colour);
    if (text) names.push([left, left + pen.measureText(text).width, y + 4]);
  }
  return names;
}

/** @param {number | null} number */
const short = (number) => number === null ? "unknown" : String(+number.toPrecision(3));

/** @param {Channel} channel */
function numbers({ count, bias, bias_deviation: deviation, noise_scale: noise, outlier_share: share, stated_share: stated }) {
  const off = bias === null ? "unknown" : `${bias > 0 ? "+" : ""}${short(bias)} ±\u00a0${short(deviation)}`;
  const percent = share === null ? "unknown" : `${(100 * share).toFixed(1)} of ${(100 * (stated ?? 0)).toFixed(1)}\u00a0%`;
  return [String(count), off, noise === null ? "unknown" : `×\u00a0${short(noise)}`, percent];
}

/**
 * The rows of the list: a row for each reported number, faulty sensors first.
 *
 * @param {Sensor[]} sensors
 * @param {Record<string, Verdict>} verdicts
 * @returns {{rows: HTMLTableRowElement[], faulty: number, rest: number}}
 */
export function listed(sensors, verdicts) {
  const order = (/** @type {Sensor} */ sensor) => markOf(verdictOf(verdicts, sensor.name)).faulty ? 0 : 1;
  const sorted = [...sensors].sort((a, b) => order(a) - order(b) || a.name.localeCompare(b.name));
  const rows = sorted.slice(0, MOST).flatMap((sensor) => rowsOf(sensor, verdicts));
  return { rows, faulty: sorted.filter((sensor) => order(sensor) === 0).length, rest: Math.max(0, sorted.length - MOST) };
}

/** @param {Sensor} sensor @param {Record<string, Verdict>} verdicts */
function rowsOf(sensor, verdicts) {
  const word = verdictOf(verdicts, sensor.name), known = Object.hasOwn(verdicts, sensor.name) ? verdicts[sensor.name] : null;
  const channels = known?.channels.length ? known.channels.map(numbers) : [["", "", "", ""]];
  return channels.map((cells, i) => {
    const row = document.createElement("tr");
    row.dataset.verdict = word;
    row.insertCell().textContent = i ? "" : sensor.name;
    const said = row.insertCell(), icon = document.createElement("canvas");
    if (!i) {
      icon.width = icon.height = 14;
      const pen = icon.getContext("2d");
      if (pen) mark(pen, 7, 7, word);
      const both = document.createElement("span");
      both.className = "word";
      both.append(icon, ` ${word}`);
      said.append(both, known?.because ? ` by ${known.because}` : "");
    }
    for (const cell of cells) row.insertCell().textContent = cell;
    return row;
  });
}
