// The coordinates of the selected entity over time: quantiles of the mixture's marginals.

import { colours } from "./colours.js";
import { penOf } from "./dom.js";

const SHARES = [0.05, 0.25, 0.5, 0.75, 0.95];
const MOST = 240; // samples
const ROW = 14; // pixels of text
const LEFT = 52; // pixels for the numbers of a coordinate
const TIMES = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400]; // seconds between two times of the axis
const CLOCK = 1e8; // seconds: an earlier time is none of this age, but one of a recording

/**
 * @typedef {{name: string, unit: string}} Coordinate
 * @typedef {{t: number, k: number, q: number[]}} Told weights, means and variances of the components at a time
 * @typedef {{t: number, bands: number[][]}} Sample quantiles of each coordinate
 * @typedef {{pen: CanvasRenderingContext2D, colours: import("./colours.js").Colours, left: number, right: number, from: number, to: number}} Frame
 *   what all coordinates share: the pixels, and the times at its left and right
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
    const { canvas, samples } = this, box = canvas.getBoundingClientRect(), scale = devicePixelRatio || 1;
    canvas.width = box.width * scale;
    canvas.height = box.height * scale;
    if (!samples.length || !box.width) return;
    const pen = penOf(canvas), first = samples[0].t, last = samples[samples.length - 1].t;
    pen.scale(scale, scale);
    pen.font = "11px system-ui, sans-serif";
    /** @type {Frame} */
    const frame = { pen, colours: colours(), left: LEFT, right: box.width - 8, from: first === last ? first - 1 : first, to: last };
    const high = (box.height - ROW) / this.coordinates.length;
    for (const [d, each] of this.coordinates.entries()) this.plot(frame, each, d, d * high, high);
    this.times(frame, box.height);
  }

  /** The axis of time, below all. */
  times(/** @type {Frame} */ { pen, colours, left, right, from, to }, /** @type {number} */ bottom) {
    const wide = right - left, room = wide / 70, step = TIMES.find((each) => (to - from) / each <= room) ?? nice((to - from) / room);
    const shift = Math.abs(to) < CLOCK ? 0 : 60 * new Date(1000 * to).getTimezoneOffset(); // a step of hours begins at a local hour
    pen.strokeStyle = colours.line;
    pen.fillStyle = colours.dim;
    pen.textAlign = "center";
    for (let t = Math.ceil((from - shift) / step) * step + shift; t <= to; t += step) {
      const x = left + wide * (t - from) / (to - from), text = timeText(t, step);
      pen.strokeRect(x, 0, 0, bottom - ROW);
      const half = pen.measureText(text).width / 2;
      pen.fillText(text, Math.min(Math.max(x, half), right + 8 - half), bottom - 3);
    }
    pen.textAlign = "left";
  }

  /**
   * Draw one coordinate.
   *
   * @param {Frame} frame
   * @param {Coordinate} coordinate
   * @param {number} d its number
   * @param {number} begin pixels from above
   * @param {number} height
   */
  plot({ pen, colours, left, right, from, to }, coordinate, d, begin, height) {
    const { samples } = this, rows = samples.map((sample) => sample.bands[d]), top = begin + ROW + 2, high = height - ROW - 8;
    const least = Math.min(...rows.map((r) => r[0])), most = Math.max(...rows.map((r) => r[4])), range = most - least || 1;
    const at = (/** @type {number} */ t) => left + (right - left) * (t - from) / (to - from);
    const x = (/** @type {number} */ i) => at(samples[i].t), y = (/** @type {number} */ v) => top + high * (1 - (v - least) / range);
    const band = (/** @type {number} */ a, /** @type {number} */ b, /** @type {number} */ opacity) => {
      pen.globalAlpha = opacity;
      pen.beginPath();
      for (const [i, r] of rows.entries()) pen.lineTo(x(i), y(r[a]));
      for (let i = rows.length - 1; i >= 0; i--) pen.lineTo(x(i), y(rows[i][b]));
      pen.fill();
    };
    const step = nice(range / Math.max(3, high / 20)), digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
    pen.strokeStyle = colours.line;
    pen.fillStyle = colours.dim;
    pen.textAlign = "right";
    for (let v = Math.ceil(least / step) * step; v <= most; v += step) {
      pen.strokeRect(left, y(v), right - left, 0);
      pen.fillText(v.toFixed(Math.min(digits, 12)), left - 4, y(v) + 4);
    }
    pen.textAlign = "left";
    pen.fillText(`${coordinate.name} (${coordinate.unit})`, left, begin + 11);
    pen.fillStyle = colours.belief;
    band(0, 4, 0.27);
    band(1, 3, 0.53);
    pen.globalAlpha = 1;
    pen.strokeStyle = colours.text;
    pen.beginPath();
    for (const [i, r] of rows.entries()) pen.lineTo(x(i), y(r[2]));
    pen.stroke();
    if (this.marked !== null && this.marked >= from && this.marked <= to) {
      pen.strokeStyle = colours.prior;
      pen.strokeRect(at(this.marked), top, 0, high);
    }
  }
}

/** The next of 1, 2, 5, 10, ... that is not less. */
function nice(/** @type {number} */ least) {
  const power = 10 ** Math.floor(Math.log10(least));
  return power * ([1, 2, 5, 10].find((digit) => digit * power >= least) ?? 10);
}

/** A time on the axis: of the day, or seconds where the times of a recording are no dates. */
function timeText(/** @type {number} */ time, /** @type {number} */ step) {
  if (Math.abs(time) < CLOCK) return `${+time.toPrecision(9)} s`;
  return new Date(1000 * time).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", ...(step < 60 && { second: "2-digit" }), hourCycle: "h23" });
}
