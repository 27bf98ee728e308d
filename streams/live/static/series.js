// The coordinates of the selected entity over time: quantiles of the mixture's marginals.

import { penOf } from "./dom.js";

const SHARES = [0.05, 0.25, 0.5, 0.75, 0.95];
const MOST = 240; // samples
const ROW = 14; // pixels of text

/**
 * @typedef {{name: string, unit: string}} Coordinate
 * @typedef {{t: number, k: number, q: number[]}} Told weights, means and variances of the components at a time
 * @typedef {{t: number, bands: number[][]}} Sample quantiles of each coordinate
 */

/** Standard normal distribution function, to 1e-7 (Abramowitz and Stegun 7.1.26). */
function phi(/** @type {number} */ z) {
  const t = 1 / (1 + 0.3275911 * Math.abs(z) / Math.SQRT2);
  const tail = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429)))) * Math.exp(-z * z / 2) / 2;
  return z > 0 ? 1 - tail : tail;
}

/** The quantiles of coordinate d, by bisection. */
function quantiles(/** @type {Told} */ { k, q }, /** @type {number} */ d, /** @type {number} */ size) {
  const at = (/** @type {number} */ i) => [q[i], q[k + i * size + d], Math.sqrt(q[k + k * size + i * size + d])];
  const parts = Array.from({ length: k }, (_, i) => at(i));
  const below = (/** @type {number} */ v) => parts.reduce((sum, [w, m, s]) => sum + w * phi((v - m) / s), 0);
  return SHARES.map((share) => {
    let low = Math.min(...parts.map(([, m, s]) => m - 6 * s)), high = Math.max(...parts.map(([, m, s]) => m + 6 * s));
    for (let i = 0; i < 40; i++) {
      const middle = (low + high) / 2;
      if (below(middle) < share) low = middle; else high = middle;
    }
    return (low + high) / 2;
  });
}

export class Series {
  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.canvas = canvas;
    /** @type {number | null} */
    this.marked = null;
    /** @type {Sample[]} */
    this.samples = [];
    /** @type {Coordinate[]} */
    this.coordinates = [];
    this.draw();
  }

  /** Mark a time with a line; null for none. */
  mark(/** @type {number | null} */ time) { this.marked = time; this.draw(); }

  clear() {
    this.samples = [];
    this.coordinates = [];
    this.draw();
  }

  /** Add samples; one that is not newer than those before it replaces them. */
  add(/** @type {{whole: boolean, coordinates: Coordinate[], samples: Told[]}} */ details) {
    if (details.whole) this.samples = [];
    this.coordinates = details.coordinates;
    const size = this.coordinates.length;
    for (const sample of details.samples) {
      if (sample.q.length !== sample.k * (1 + 2 * size)) continue; // of another model
      while (this.samples.length && this.samples[this.samples.length - 1].t >= sample.t) this.samples.pop();
      this.samples.push({ t: sample.t, bands: this.coordinates.map((_, d) => quantiles(sample, d, size)) });
    }
    this.samples = this.samples.filter((sample) => sample.bands.length === size).slice(-MOST);
    this.draw();
  }

  /** The quantiles of each coordinate now. */
  now() {
    return this.samples.length ? this.samples[this.samples.length - 1].bands : [];
  }

  draw() {
    const { canvas } = this, box = canvas.getBoundingClientRect(), scale = devicePixelRatio || 1;
    canvas.width = box.width * scale;
    canvas.height = box.height * scale;
    const pen = penOf(canvas);
    pen.scale(scale, scale);
    if (!this.samples.length) return;
    for (const [d, each] of this.coordinates.entries()) this.plot(pen, each, d, box.width, box.height / this.coordinates.length);
  }

  /**
   * Draw one coordinate.
   *
   * @param {CanvasRenderingContext2D} pen
   * @param {Coordinate} coordinate
   * @param {number} d its number
   * @param {number} width
   * @param {number} height
   */
  plot(pen, coordinate, d, width, height) {
    const { samples } = this, rows = samples.map((sample) => sample.bands[d]), top = d * height + ROW, high = height - ROW - 4;
    const from = samples[0].t, span = samples[samples.length - 1].t - from || 1;
    const low = Math.min(...rows.map((r) => r[0])), range = Math.max(...rows.map((r) => r[4])) - low || 1;
    const x = (/** @type {number} */ i) => 4 + (width - 8) * (samples[i].t - from) / span, y = (/** @type {number} */ v) => top + high * (1 - (v - low) / range);
    const band = (/** @type {number} */ a, /** @type {number} */ b, /** @type {string} */ colour) => {
      pen.fillStyle = colour;
      pen.beginPath();
      for (const [i, r] of rows.entries()) pen.lineTo(x(i), y(r[a]));
      for (let i = rows.length - 1; i >= 0; i--) pen.lineTo(x(i), y(rows[i][b]));
      pen.fill();
    };
    band(0, 4, "#56b4e944");
    band(1, 3, "#56b4e988");
    pen.strokeStyle = "#fff";
    pen.beginPath();
    for (const [i, r] of rows.entries()) pen.lineTo(x(i), y(r[2]));
    pen.stroke();
    if (this.marked !== null && this.marked >= from && this.marked <= from + span) {
      pen.strokeStyle = "#e39bc3";
      const at = 4 + (width - 8) * (this.marked - from) / span;
      pen.strokeRect(at, top, 0, high);
    }
    pen.fillStyle = "#a9b5c9";
    pen.font = "11px system-ui, sans-serif";
    pen.fillText(`${coordinate.name} (${coordinate.unit}): ${low.toPrecision(5)} to ${(low + range).toPrecision(5)}, ${span.toFixed(1)} s`, 4, d * height + 11);
  }
}
