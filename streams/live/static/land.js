// Coastlines and borders of Natural Earth: world.json.gz is TopoJSON, made by research/coastlines.

const NARROW = 3000; // metres: the coastlines are good to about this much, and a narrower view has none
const LINE = 1.5; // pixels; corners that are nearer to the one before are not drawn

/**
 * @typedef {[number, number, number, number]} Box left, bottom, right, top
 * @typedef {{corners: Float64Array, box: Box, uses: number}} Line x and y of each corner on the map; a border is used twice
 * @typedef {{line: Line, back: boolean, turns: number}} Part of a ring: a line that is gone along, and how often around the earth before it
 * @typedef {{parts: Part[], box: Box, turns: number}} Ring turns: those that are left when it closes, of one around a pole
 * @typedef {{lines: Line[], rings: Ring[], turn: number}} Land
 * @typedef {{arcs: [number, number][][], transform: {scale: [number, number], translate: [number, number]},
 *   objects: {countries: {geometries: {type: string, arcs: number[][] | number[][][]}[]}}}} World
 */

/** @returns {Promise<World>} */
export async function load() {
  const { body } = await fetch("world.json.gz");
  if (!body) throw new Error("world.json.gz is empty");
  return new Response(body.pipeThrough(new DecompressionStream("gzip"))).json();
}

/**
 * The world's land on the map.
 *
 * @param {World} world
 * @param {import("./earth.js").Projection} projection
 * @returns {Land}
 */
export function place({ arcs, transform: { scale: [sx, sy], translate: [tx, ty] }, objects }, projection) {
  const { turn } = projection, lines = arcs.map((arc) => {
    const corners = new Float64Array(2 * arc.length);
    let x = 0, y = 0, turns = 0;
    for (const [i, [dx, dy]] of arc.entries()) {
      x += dx;
      y += dy;
      const [px, py] = projection.toPlane(ty + sy * y, tx + sx * x);
      if (i) turns += around(corners[2 * i - 2], px + turns * turn, turn);
      corners.set([px + turns * turn, py], 2 * i);
    }
    return { corners, box: boxOf(corners), uses: 0 };
  });
  const rings = objects.countries.geometries.flatMap(({ type, arcs: found }) => /** @type {number[][]} */ (type === "Polygon" ? found : found.flat()))
    .map((ring) => joined(ring.map((i) => ({ line: lines[i < 0 ? ~i : i], back: i < 0, turns: 0 })), turn));
  return { lines, rings, turn };
}

/** Turns to add to a place, so that it is near the one before. */
const around = (/** @type {number} */ before, /** @type {number} */ x, /** @type {number} */ turn) => turn ? Math.round((before - x) / turn) : 0;

/** @returns {Ring} of parts that each begin where the one before ends */
function joined(/** @type {Part[]} */ parts, /** @type {number} */ turn) {
  const first = (/** @type {Part} */ { line: { corners: c }, back }) => back ? c[c.length - 2] : c[0];
  const last = (/** @type {Part} */ { line: { corners: c }, back }) => back ? c[0] : c[c.length - 2];
  let end = first(parts[0]);
  for (const part of parts) {
    part.turns = around(end, first(part), turn);
    end = last(part) + part.turns * turn;
    part.line.uses++;
  }
  const boxes = parts.map(({ line: { box: [l, b, r, t] }, turns }) => [l + turns * turn, b, r + turns * turn, t]);
  const box = /** @type {Box} */ ([Math.min, Math.min, Math.max, Math.max].map((f, i) => f(...boxes.map((each) => each[i]))));
  return { parts, box, turns: around(first(parts[0]), end, turn) };
}

/** @returns {Box} */
function boxOf(/** @type {Float64Array} */ corners) {
  const box = /** @type {Box} */ ([Infinity, Infinity, -Infinity, -Infinity]);
  for (let i = 0; i < corners.length; i++) {
    const side = i % 2;
    if (corners[i] < box[side]) box[side] = corners[i];
    if (corners[i] > box[side + 2]) box[side + 2] = corners[i];
  }
  return box;
}

/**
 * Draw what is in view; returns whether there is anything to see at this scale.
 *
 * @param {import("./map.js").BeliefMap} map
 * @param {CanvasRenderingContext2D | OffscreenCanvasRenderingContext2D} pen
 * @param {Land} land
 * @param {number} metre in units of the map
 */
export function draw(map, pen, { lines, rings, turn }, metre) {
  const [right, top] = [map.left + map.width / map.scale, map.bottom + map.height / map.scale];
  if (right - map.left < NARROW * metre) return false;
  /** @type {Map<Line, number[]>} */
  const thinned = new Map();
  const pixels = (/** @type {Line} */ line) => {
    const found = thinned.get(line) ?? thin(map, line.corners);
    thinned.set(line, found);
    return found;
  };
  const sees = (/** @type {Box} */ [l, b, r, t], shift = 0) => l + shift < right && map.left < r + shift && b < top && map.bottom < t;
  const shifts = turn ? [-2, -1, 0, 1, 2].map((each) => each * turn) : [0];
  const { line: grey, dim } = map.colours;
  pen.beginPath();
  for (const shift of shifts) for (const ring of rings) if (sees(ring.box, shift)) trace(map, pen, ring, shift, turn, pixels);
  pen.globalAlpha = 0.4;
  pen.fillStyle = grey;
  pen.fill("evenodd");
  pen.strokeStyle = dim;
  pen.lineWidth = 1;
  for (const [border, alpha] of /** @type {const} */ ([[false, 0.6], [true, 0.3]])) {
    pen.beginPath();
    for (const shift of shifts) for (const line of lines) {
      if (line.uses > 1 !== border || !sees(line.box, shift)) continue;
      const at = pixels(line), far = shift * map.scale;
      for (let i = 0; i < at.length; i += 2) if (i) pen.lineTo(at[i] + far, at[i + 1]); else pen.moveTo(at[0] + far, at[1]);
    }
    pen.globalAlpha = alpha;
    pen.stroke();
  }
  pen.globalAlpha = 1;
  return true;
}

/** The corners of a line in pixels, without those that nobody would tell apart. */
function thin(/** @type {import("./map.js").BeliefMap} */ map, /** @type {Float64Array} */ corners) {
  /** @type {number[]} */
  const kept = [];
  let before = [Infinity, Infinity];
  for (let i = 0; i < corners.length; i += 2) {
    const x = map.x(corners[i]), y = map.y(corners[i + 1]);
    if (i && i < corners.length - 2 && Math.abs(x - before[0]) + Math.abs(y - before[1]) < LINE) continue;
    kept.push(x, y);
    before = [x, y];
  }
  return kept;
}

/**
 * @param {import("./map.js").BeliefMap} map
 * @param {CanvasRenderingContext2D | OffscreenCanvasRenderingContext2D} pen
 * @param {Ring} ring
 * @param {number} shift
 * @param {number} turn
 * @param {(line: Line) => number[]} pixels
 */
function trace(map, pen, { parts, turns }, shift, turn, pixels) {
  let begin = 0, x = 0;
  for (const [n, { line, back, turns: before }] of parts.entries()) {
    const at = pixels(line), far = (shift + before * turn) * map.scale;
    for (let i = 0; i < at.length; i += 2) {
      const k = back ? at.length - 2 - i : i;
      x = at[k] + far;
      if (n || i) pen.lineTo(x, at[k + 1]); else { pen.moveTo(x, at[k + 1]); begin = x; }
    }
  }
  if (turns) for (const end of [x, begin]) pen.lineTo(end, map.y(-90)); // around the south pole, to the border of the map
  pen.closePath();
}
