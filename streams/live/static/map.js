// The map: beliefs as mixtures, trails, sensors, the drawn prior; pan, zoom, pick.
import { contours } from "./contours.js";
import { STRIDE, mean } from "./frames.js";
import { penOf } from "./dom.js";
import { drawGrid } from "./grid.js";
import { drawSensors } from "./sensors.js";

export const R50 = Math.sqrt(-2 * Math.log(0.5)); // of an ellipse that holds 50 % of a Gaussian, in deviations
export const R90 = Math.sqrt(-2 * Math.log(0.1));
const FAINT = 0.02; // components of less weight are not drawn, except of the selected entity
const PICK = 14; // pixels
const REFIT = 15; // frames
const MOST_DOTS = 10000; // of all trails
// of Okabe and Ito, a little lighter: told apart by all, on the dark ground
const COLOUR = { belief: "#56b4e9", selected: "#f0e442", poor: "#e6803c", sensor: "#2fc19a", prior: "#e39bc3", text: "#a9b5c9" };

/**
 * @typedef {import("./frames.js").Entity} Entity
 * @typedef {{x: number, y: number, rx: number, ry: number, angle: number, weight: number}} Ellipse of a prior, in units of
 *   the map and degrees
 * @typedef {{entities: Map<number, Entity>, names: Map<number, string>, methods: string[],
 *   sensors: import("./sensors.js").Sensor[], verdicts: Record<string, import("./sensors.js").Verdict>,
 *   plane: import("./series.js").Coordinate[], earth: import("./grid.js").EarthNote | null, low: number, drawn: number}} World
 */

export class BeliefMap {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {World} world
   */
  constructor(canvas, world) {
    this.canvas = canvas;
    this.pen = penOf(canvas);
    this.world = world;
    this.scale = 1; // pixels a unit
    this.left = 0; // of the map, in units of its coordinates
    this.bottom = 0;
    this.width = this.height = 1; // pixels
    this.fitted = false;
    this.touched = false; // by the user: until then the map follows what there is
    /** @type {import("./frames.js").Entity | null} */
    this.selected = null;
    /** @type {string[]} */
    this.reports = []; // names of the sensors of the last observations
    /** @type {Ellipse[]} */
    this.ellipses = []; // of the prior
  }

  x(/** @type {number} */ x) { return (x - this.left) * this.scale; }
  y(/** @type {number} */ y) { return this.height - (y - this.bottom) * this.scale; }

  /**
   * The place on the map under a pointer.
   *
   * @param {{clientX: number, clientY: number}} event
   * @returns {[number, number]}
   */
  at(event) {
    const box = this.canvas.getBoundingClientRect();
    return [this.left + (event.clientX - box.left) / this.scale, this.bottom + (box.bottom - event.clientY) / this.scale];
  }

  /** Show everything. */
  fit() {
    /** @type {[number, number, number][]} */
    const seen = this.world.sensors.flatMap((s) => s.place ? [[s.place[0], s.place[1], 0]] : []);
    for (const { components: c } of this.world.entities.values())
      for (let k = 0; k < c.length; k += STRIDE) if (c[k] > FAINT) seen.push([c[k + 1], c[k + 2], 2 * c[k + 3]]);
    if (!seen.length) return;
    const [left, right] = [Math.min, Math.max].map((f, i) => seen.reduce((b, [x, , r]) => f(b, x + (i ? r : -r)), i ? -Infinity : Infinity));
    const [bottom, top] = [Math.min, Math.max].map((f, i) => seen.reduce((b, [, y, r]) => f(b, y + (i ? r : -r)), i ? -Infinity : Infinity));
    this.scale = 0.9 * Math.min(this.width / (right - left || 1), this.height / (top - bottom || 1));
    this.left = (left + right - this.width / this.scale) / 2;
    this.bottom = (bottom + top - this.height / this.scale) / 2;
    this.fitted = true;
  }

  /** Move by pixels. */
  pan(/** @type {number} */ dx, /** @type {number} */ dy) {
    this.touched = true;
    this.left -= dx / this.scale;
    this.bottom += dy / this.scale;
  }

  /** Zoom by a factor around a place that stays where it is. */
  zoom(/** @type {number} */ factor, x = this.left + this.width / 2 / this.scale, y = this.bottom + this.height / 2 / this.scale) {
    this.touched = true;
    this.scale *= factor;
    this.left = x - (x - this.left) / factor;
    this.bottom = y - (y - this.bottom) / factor;
  }

  /**
   * The entity next to a place, if there is one close by: by its mean or one of its components.
   *
   * @param {number} x
   * @param {number} y
   */
  pick(x, y) {
    /** @type {Entity | null} */
    let best = null;
    let least = (PICK / this.scale) ** 2;
    for (const entity of this.world.entities.values()) {
      const c = entity.components, middle = mean(entity);
      const places = middle ? [middle] : [];
      for (let k = 0; k < c.length; k += STRIDE) if (c[k] > FAINT) places.push([c[k + 1], c[k + 2]]);
      for (const [px, py] of places) {
        const far = (px - x) ** 2 + (py - y) ** 2;
        if (far < least) { least = far; best = entity; }
      }
    }
    return best;
  }

  resize() {
    const box = this.canvas.getBoundingClientRect(), dots = devicePixelRatio || 1;
    if (this.canvas.width === Math.round(box.width * dots) && this.canvas.height === Math.round(box.height * dots)) return;
    this.canvas.width = Math.round(box.width * dots);
    this.canvas.height = Math.round(box.height * dots);
    this.pen.setTransform(dots, 0, 0, dots, 0, 0);
    this.width = box.width;
    this.height = box.height;
    this.fitted = this.fitted && this.touched; // a view that the user has chosen stays
  }

  draw() {
    this.resize();
    if (!this.fitted || (!this.touched && this.world.drawn % REFIT === 0)) this.fit();
    this.pen.clearRect(0, 0, this.width, this.height);
    drawGrid(this);
    for (const entity of this.world.entities.values()) if (entity !== this.selected) this.ellipsesOf(entity.components, COLOUR.belief, FAINT);
    this.drawTrails();
    drawSensors(this);
    if (this.selected) this.drawSelected(this.selected);
    this.drawPrior();
  }

  /** Trails, shorter with many entities; and a ring around those with a low effective sample size. */
  drawTrails() {
    const { pen, world } = this, most = Math.max(4, Math.floor(MOST_DOTS / world.entities.size));
    pen.globalAlpha = 0.5;
    pen.fillStyle = COLOUR.text;
    pen.beginPath();
    for (const { trail } of world.entities.values())
      for (let i = Math.max(0, trail.length - 2 * most); i < trail.length; i += 2) pen.rect(this.x(trail[i]) - 0.5, this.y(trail[i + 1]) - 0.5, 1, 1);
    pen.fill();
    pen.globalAlpha = 1;
    pen.strokeStyle = COLOUR.poor;
    pen.lineWidth = 2;
    for (const { trail, ess } of world.entities.values()) {
      if (ess >= world.low || !trail.length) continue;
      pen.beginPath();
      pen.arc(this.x(trail[trail.length - 2]), this.y(trail[trail.length - 1]), 6, 0, 7);
      pen.stroke();
    }
  }

  /** 50 and 90 % of each component, the stronger the more weight it has. */
  ellipsesOf(/** @type {Float64Array} */ c, /** @type {string} */ colour, /** @type {number} */ least) {
    const { pen } = this;
    pen.fillStyle = colour;
    for (let k = 0; k < c.length; k += STRIDE) {
      const weight = c[k], x = this.x(c[k + 1]), y = this.y(c[k + 2]), a = c[k + 3] * this.scale, b = c[k + 4] * this.scale;
      const reach = R90 * a;
      if (weight < least || x < -reach || y < -reach || x > this.width + reach || y > this.height + reach) continue;
      pen.globalAlpha = 0.04 + 0.3 * weight;
      for (const radius of [R90, R50]) {
        pen.beginPath();
        pen.ellipse(x, y, Math.max(radius * a, 1), Math.max(radius * b, 1), -c[k + 5], 0, 7);
        pen.fill();
      }
    }
    pen.globalAlpha = 1;
  }

  drawSelected(/** @type {Entity} */ entity) {
    const { pen } = this, trail = entity.trail, middle = mean(entity);
    if (!middle) return;
    pen.fillStyle = COLOUR.selected;
    for (let i = 0; i < trail.length; i += 2) pen.fillRect(this.x(trail[i]) - 1, this.y(trail[i + 1]) - 1, 2, 2);
    this.ellipsesOf(entity.components, COLOUR.selected, 0);
    pen.strokeStyle = COLOUR.selected;
    pen.lineWidth = 1.5;
    for (const [i, segments] of contours(entity.components, [0.5, 0.9]).entries()) {
      pen.setLineDash(i ? [5, 4] : []);
      pen.beginPath();
      for (let s = 0; s < segments.length; s += 4) {
        if (i && (s / 4) % 8 > 4) continue; // dashes: the segments are too short for those of the canvas
        pen.moveTo(this.x(segments[s]), this.y(segments[s + 1]));
        pen.lineTo(this.x(segments[s + 2]), this.y(segments[s + 3]));
      }
      pen.stroke();
    }
    pen.setLineDash([]);
    pen.strokeStyle = COLOUR.sensor;
    pen.globalAlpha = 0.5;
    pen.beginPath();
    for (const sensor of this.world.sensors) {
      if (!sensor.place || !this.reports.includes(sensor.name)) continue;
      pen.moveTo(this.x(sensor.place[0]), this.y(sensor.place[1]));
      pen.lineTo(this.x(middle[0]), this.y(middle[1]));
    }
    pen.stroke();
    pen.globalAlpha = 1;
  }

  drawPrior() {
    const { pen } = this;
    pen.strokeStyle = COLOUR.prior;
    pen.fillStyle = COLOUR.prior;
    pen.lineWidth = 2;
    pen.setLineDash([6, 4]);
    for (const { x, y, rx, ry, angle } of this.ellipses) {
      pen.beginPath();
      pen.ellipse(this.x(x), this.y(y), Math.abs(rx) * this.scale, Math.abs(ry) * this.scale, -angle * Math.PI / 180, 0, 7);
      pen.globalAlpha = 0.2;
      pen.fill();
      pen.globalAlpha = 1;
      pen.stroke();
    }
    pen.setLineDash([]);
  }
}
