// The smallest regions that hold given shares of a mixture: its density on grids, one for each group of components
// that overlap, so that modes far apart are both seen sharply.
import { STRIDE } from "./frames.js";

const CELLS = 80; // along each side of a grid
const REACH = 3.5; // deviations around a component

/** @typedef {{x: number, y: number, dx: number, dy: number, density: Float64Array}} Grid */

/**
 * @param {Float64Array} components
 * @param {number[]} shares such as [0.5, 0.9]
 * @returns {number[][]} for each share the line segments of its border: x, y, x, y of each
 */
export function contours(components, shares) {
  const grids = boxes(components).map((box) => grid(box, components));
  return levels(grids, shares).map((level) => grids.flatMap((each) => border(each, level)));
}

/** @typedef {[number, number, number, number]} Box left, bottom, right, top */

/** Where components may be, those that overlap in one. */
function boxes(/** @type {Float64Array} */ components) {
  /** @type {Box[]} */
  let found = [];
  for (let k = 0; k < components.length; k += STRIDE) {
    if (components[k] < 1e-4) continue;
    const [, x, y, a, b, angle] = components.subarray(k, k + STRIDE);
    const c = Math.cos(angle), s = Math.sin(angle), w = REACH * Math.hypot(a * c, b * s), h = REACH * Math.hypot(a * s, b * c);
    /** @type {Box} */
    let box = [x - w, y - h, x + w, y + h];
    for (let apart = false; !apart;) {
      const touching = found.filter((o) => o[0] < box[2] && box[0] < o[2] && o[1] < box[3] && box[1] < o[3]);
      apart = !touching.length;
      found = found.filter((o) => !touching.includes(o));
      for (const o of touching) box = [Math.min(box[0], o[0]), Math.min(box[1], o[1]), Math.max(box[2], o[2]), Math.max(box[3], o[3])];
    }
    found.push(box);
  }
  return found;
}

/** @returns {Grid} */
function grid(/** @type {Box} */ [x, y, right, top], /** @type {Float64Array} */ components) {
  const dx = (right - x) / (CELLS - 1), dy = (top - y) / (CELLS - 1), density = new Float64Array(CELLS * CELLS);
  for (let k = 0; k < components.length; k += STRIDE) {
    const [weight, mx, my, a, b, angle] = components.subarray(k, k + STRIDE);
    const c = Math.cos(angle), s = Math.sin(angle), height = weight / (a * b);
    for (let j = 0, at = 0; j < CELLS; j++) for (let i = 0; i < CELLS; i++, at++) {
      const u = x + i * dx - mx, v = y + j * dy - my, p = (c * u + s * v) / a, q = (c * v - s * u) / b;
      const far = p * p + q * q;
      if (far < 40) density[at] += height * Math.exp(-far / 2);
    }
  }
  return { x, y, dx, dy, density };
}

/** The density at the border of the smallest region that holds each share. */
function levels(/** @type {Grid[]} */ grids, /** @type {number[]} */ shares) {
  /** @type {[number, number][]} */
  const cells = grids.flatMap(({ density, dx, dy }) => Array.from(density, (d) => /** @type {[number, number]} */ ([d, d * dx * dy]))).sort((p, q) => q[0] - p[0]);
  const whole = cells.reduce((sum, cell) => sum + cell[1], 0);
  let held = 0, i = 0;
  return shares.map((share) => {
    while (i < cells.length - 1 && held < share * whole) held += cells[i++][1];
    return cells[i][0];
  });
}

/** Marching squares. */
function border(/** @type {Grid} */ { x, y, dx, dy, density }, /** @type {number} */ level) {
  /** @type {number[]} */
  const segments = [];
  const part = (/** @type {number} */ p, /** @type {number} */ q) => (level - p) / (q - p);
  for (let j = 0; j < CELLS - 1; j++) for (let i = 0; i < CELLS - 1; i++) {
    const at = j * CELLS + i, a = density[at], b = density[at + 1], c = density[at + CELLS], d = density[at + CELLS + 1];
    /** @type {number[]} */
    const points = [];
    if (a > level !== b > level) points.push(x + (i + part(a, b)) * dx, y + j * dy);
    if (b > level !== d > level) points.push(x + (i + 1) * dx, y + (j + part(b, d)) * dy);
    if (c > level !== d > level) points.push(x + (i + part(c, d)) * dx, y + (j + 1) * dy);
    if (a > level !== c > level) points.push(x + i * dx, y + (j + part(a, c)) * dy);
    segments.push(...points);
  }
  return segments;
}
