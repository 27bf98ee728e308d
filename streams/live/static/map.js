// The map: beliefs as mixtures, trails, names, sensors, the drawn prior; pan, zoom, pick.
import { age, silence, strength } from "./age.js";
import { Background } from "./background.js";
import { colours } from "./colours.js";
import { contours } from "./contours.js";
import { STRIDE, heaviest, mean } from "./frames.js";
import { penOf } from "./dom.js";
import { drawGrid, writeGrid } from "./grid.js";
import { drawHover, drawLabels } from "./labels.js";
import { MARKS, drawSensors } from "./sensors.js";

export const R50 = Math.sqrt(-2 * Math.log(0.5)); // of an ellipse that holds 50 % of a Gaussian, in deviations
export const R90 = Math.sqrt(-2 * Math.log(0.1));
const FAINT = 0.02; // components of less weight are not drawn, except of the selected entity
const PICK = 14; // pixels
const REFIT = 15; // frames
const MOST_DOTS = 10000; // of all trails
const NEW = 12; // points of a trail that are drawn strongly
const SOLID = 0.34; // opacity of a component that has all the weight
const VAGUE = 0.1; // a component with less of its opacity left is drawn as a thin line too
const LEAST = 2; // pixels of a half-axis

/**
 * @typedef {import("./frames.js").Entity} Entity
 * @typedef {{x: number, y: number, rx: number, ry: number, angle: number, weight: number}} Ellipse of a prior, in units of
 *   the map and degrees
 * @typedef {{entities: Map<number, Entity>, names: Map<number, string>, methods: string[],
 *   sensors: import("./sensors.js").Sensor[], verdicts: Record<string, import("./sensors.js").Verdict>,
 *   plane: import("./series.js").Coordinate[], earth: import("./earth.js").EarthNote | null, low: number, drawn: number}} World
 */

export class BeliefMap {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {World} world
   * @param {() => void} redraw called when there is more to draw, such as a map that has been loaded
   */
  constructor(canvas, world, redraw) {
    this.canvas = canvas;
    this.pen = penOf(canvas);
    this.world = world;
    this.scale = 1; // pixels a unit
    this.left = 0; // of the map, in units of its coordinates
    this.bottom = 0;
    this.width = this.height = 1; // pixels
    this.dots = 1; // of the screen a pixel
    this.inset = { top: 0, bottom: 0 }; // pixels that other elements cover
    this.colours = colours();
    this.now = 0; // seconds since the epoch by the server's clock: ages are up to then
    this.silence = Infinity; // seconds after which an entity counts as silent
    this.stale = false; // whether the stream stands still: then the beliefs are grey
    this.usual = 1; // area of a component, of which weight alone gives the opacity
    this.exposure = 1; // times that opacity: the less, the more lies over each other
    /** @type {[number, number] | null} */
    this.hover = null; // the place under the mouse
    this.background = new Background(this, redraw);
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
    for (const [x, y] of this.background.corners()) seen.push([x, y, 0]);
    if (!seen.length) return;
    const [left, right] = [Math.min, Math.max].map((f, i) => seen.reduce((b, [x, , r]) => f(b, x + (i ? r : -r)), i ? -Infinity : Infinity));
    const [bottom, top] = [Math.min, Math.max].map((f, i) => seen.reduce((b, [, y, r]) => f(b, y + (i ? r : -r)), i ? -Infinity : Infinity));
    const { inset } = this, high = Math.max(this.height / 4, this.height - inset.top - inset.bottom);
    this.scale = 0.9 * Math.min(this.width / (right - left || 1), high / (top - bottom || 1));
    this.left = (left + right - this.width / this.scale) / 2;
    this.bottom = (bottom + top - (this.height - inset.top + inset.bottom) / this.scale) / 2;
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
   * @param {number} reach pixels
   */
  pick(x, y, reach = PICK) {
    /** @type {Entity | null} */
    let best = null;
    let least = (reach / this.scale) ** 2;
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
    const box = this.canvas.getBoundingClientRect();
    this.inset = this.covered(box);
    this.dots = devicePixelRatio || 1;
    if (this.canvas.width === Math.round(box.width * this.dots) && this.canvas.height === Math.round(box.height * this.dots)) return;
    this.canvas.width = Math.round(box.width * this.dots);
    this.canvas.height = Math.round(box.height * this.dots);
    this.pen.setTransform(this.dots, 0, 0, this.dots, 0, 0);
    this.width = box.width;
    this.height = box.height;
    this.fitted = this.fitted && this.touched; // a view that the user has chosen stays
  }

  /** How much of the map's upper and lower border lies under elements beside the canvas, such as buttons and the legend. */
  covered(/** @type {DOMRect} */ box) {
    const inset = { top: 0, bottom: 0 };
    for (const each of this.canvas.parentElement?.children ?? []) {
      const { top, bottom, height } = each.getBoundingClientRect();
      if (each === this.canvas || !height || bottom < box.top || top > box.bottom) continue;
      if (top + bottom < box.top + box.bottom) inset.top = Math.max(inset.top, bottom - box.top);
      else inset.bottom = Math.max(inset.bottom, box.bottom - top);
    }
    return inset;
  }

  draw() {
    this.resize();
    this.colours = colours();
    if (!this.fitted || (!this.touched && this.world.drawn % REFIT === 0)) this.fit();
    this.pen.clearRect(0, 0, this.width, this.height);
    this.background.draw();
    const labels = drawGrid(this);
    this.silence = silence(this.world.entities.values(), this.now);
    this.expose();
    const colour = this.stale ? this.colours.dim : this.colours.belief;
    for (const entity of this.world.entities.values()) if (entity !== this.selected) this.ellipsesOf(entity, colour, FAINT);
    this.drawTrails(colour);
    const taken = drawSensors(this);
    if (this.selected) this.drawSelected(this.selected);
    this.drawPrior();
    writeGrid(this, labels);
    drawLabels(this, taken);
    drawHover(this);
  }

  /** The share of its colour that is left to an entity. */
  strength(/** @type {Entity} */ entity) { return strength(age(entity, this.now), this.silence); }

  /** Find the usual area of a component, and how deep the components lie over each other. */
  expose() {
    const entities = [...this.world.entities.values()].filter(({ components }) => components.length);
    const areas = entities.map(({ components: c }) => c[heaviest(c) + 3] * c[heaviest(c) + 4]).sort((p, q) => p - q);
    this.usual = areas[Math.floor((areas.length - 1) / 2)] || 1;
    const view = this.width * this.height;
    let ink = 0;
    for (const { components: c } of entities) for (let k = 0; k < c.length; k += STRIDE) {
      if (this.sees(c, k)) ink += this.density(c, k) * Math.min(view, Math.PI * (R90 * this.scale) ** 2 * c[k + 3] * c[k + 4]);
    }
    this.exposure = Math.min(1, view / ink);
  }

  /** The weight of a component, diluted by its area. */
  density(/** @type {Float64Array} */ c, /** @type {number} */ k) { return c[k] * Math.min(1, this.usual / (c[k + 3] * c[k + 4])); }

  /** Whether a component may be in view. */
  sees(/** @type {Float64Array} */ c, /** @type {number} */ k) {
    const x = this.x(c[k + 1]), y = this.y(c[k + 2]), reach = R90 * c[k + 3] * this.scale;
    return x > -reach && y > -reach && x < this.width + reach && y < this.height + reach;
  }

  /** Trails, shorter with many entities; and a ring around those with a low sample efficiency. */
  drawTrails(/** @type {string} */ colour) {
    const { pen, world } = this, most = Math.max(4, Math.floor(MOST_DOTS / world.entities.size));
    pen.strokeStyle = colour;
    pen.lineWidth = 1.5;
    for (const entity of world.entities.values()) {
      if (entity === this.selected) continue;
      pen.globalAlpha = 0.35 * this.strength(entity);
      for (const points of [most, Math.min(most, NEW)]) this.line(entity.trail, points); // the older, the paler
    }
    pen.globalAlpha = 1;
    pen.strokeStyle = this.colours.poor;
    pen.lineWidth = 2;
    for (const { trail, efficiency } of world.entities.values()) {
      if (efficiency >= world.low || !trail.length) continue;
      pen.beginPath();
      pen.arc(this.x(trail[trail.length - 2]), this.y(trail[trail.length - 1]), 6, 0, 7);
      pen.stroke();
    }
  }

  /** Stroke the last points of a trail. */
  line(/** @type {number[]} */ trail, most = Infinity) {
    const { pen } = this;
    pen.beginPath();
    for (let i = Math.max(0, trail.length - 2 * most); i < trail.length; i += 2) pen.lineTo(this.x(trail[i]), this.y(trail[i + 1]));
    pen.stroke();
  }

  /** 50 and 90 % of each component: the denser, the stronger; vague ones as a thin line that holds 90 %. */
  ellipsesOf(/** @type {Entity} */ entity, /** @type {string} */ colour, /** @type {number} */ least) {
    const { pen } = this, c = entity.components, left = this.strength(entity);
    pen.fillStyle = pen.strokeStyle = colour;
    pen.lineWidth = 1;
    for (let k = 0; k < c.length; k += STRIDE) {
      if (c[k] < least || !this.sees(c, k)) continue;
      const share = this.exposure * this.density(c, k), x = this.x(c[k + 1]), y = this.y(c[k + 2]);
      const ellipse = (/** @type {number} */ radius) => {
        const [a, b] = [c[k + 3], c[k + 4]].map((each) => Math.max(radius * each * this.scale, LEAST));
        pen.beginPath();
        pen.ellipse(x, y, a, b, -c[k + 5], 0, 7);
      };
      const dot = Math.min(1, LEAST / (R50 * c[k + 3] * this.scale)) ** 2; // small ones are as strong as points
      for (const radius of [R90, R50]) {
        pen.globalAlpha = left * share * (SOLID + (1 - SOLID) * dot);
        ellipse(radius);
        pen.fill();
      }
      if (share > VAGUE * c[k]) continue;
      pen.globalAlpha = left * SOLID * c[k];
      ellipse(R90);
      pen.stroke();
    }
    pen.globalAlpha = 1;
  }

  drawSelected(/** @type {Entity} */ entity) {
    const { pen } = this, trail = entity.trail, middle = mean(entity);
    if (!middle) return;
    this.ellipsesOf(entity, this.colours.selected, 0);
    pen.strokeStyle = this.colours.selected;
    pen.lineWidth = 1.5;
    this.line(trail);
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
    pen.strokeStyle = MARKS.healthy.colour;
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
    pen.strokeStyle = this.colours.prior;
    pen.fillStyle = this.colours.prior;
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
