// What lies below the grid: land or tiles where the plane is on the earth, and a floor plan. Drawn again only when the view changes.
import { penOf } from "./dom.js";
import { projection } from "./earth.js";
import * as lands from "./land.js";
import { Tiles } from "./tiles.js";

/**
 * @typedef {{resolution: number, origin: [number, number, number]}} FloorPlan units of the map a pixel; x, y and angle (radians)
 *   of the lower left corner
 * @typedef {{tiles: {url: string, attribution: string} | null, floor_plan: FloorPlan | null}} Layers what the server is set to
 */

export class Background {
  /**
   * @param {import("./map.js").BeliefMap} map
   * @param {() => void} redraw called when there is more to draw
   */
  constructor(map, redraw) {
    this.map = map;
    this.canvas = document.createElement("canvas"); // as it was drawn last
    this.drawn = ""; // the view then
    this.version = 0; // of what has been loaded
    this.changed = () => { this.version++; redraw(); };
    /** @type {Tiles | null} */
    this.tiles = null;
    /** @type {FloorPlan | null} */
    this.plan = null;
    this.picture = new Image();
    this.said = ""; // whose map it is
    this.trouble = ""; // what could not be loaded
    /** @type {Promise<void> | null} */
    this.loading = null;
    /** @type {import("./land.js").World | null} */
    this.world = null;
    /** @type {{land: import("./land.js").Land, earth: string} | null} */
    this.placed = null;
    this.ready = this.ask().catch((error) => this.fail("The layers of the map", error));
  }

  /** Ask the server which layers it is set to. */
  async ask() {
    /** @type {Layers} */
    const { tiles, floor_plan } = await (await fetch("layers")).json();
    if (tiles) this.tiles = new Tiles(tiles, this.changed);
    if (floor_plan) {
      this.picture.src = "floor-plan";
      await this.picture.decode().then(() => { this.plan = floor_plan; }, (error) => this.fail("The picture of the floor plan", error));
      this.map.fitted &&= this.map.touched; // a view that nobody has chosen takes it in
    }
    this.changed();
  }

  fail(/** @type {string} */ what, /** @type {unknown} */ error) {
    this.trouble = `${what} cannot be shown: ${error instanceof Error ? error.message : error}`;
    this.changed();
  }

  /** The corners of the floor plan. */
  corners() {
    if (!this.plan) return [];
    const { resolution, origin: [x, y, angle] } = this.plan, { naturalWidth: w, naturalHeight: h } = this.picture;
    const [c, s] = [resolution * Math.cos(angle), resolution * Math.sin(angle)];
    return [[0, 0], [w, 0], [0, h], [w, h]].map(([i, j]) => [x + c * i - s * j, y + s * i + c * j]);
  }

  draw() {
    const { map, canvas } = this, { earth } = map.world;
    if (!map.canvas.width || !map.canvas.height) return; // there is no room for it
    if (!earth && !this.plan) { this.said = this.trouble; return; }
    const view = JSON.stringify([map.left, map.bottom, map.scale, map.width, map.height, map.dots, earth, this.version, map.colours]);
    if (view !== this.drawn) {
      this.drawn = view;
      canvas.width = map.canvas.width;
      canvas.height = map.canvas.height;
      const pen = penOf(canvas);
      pen.setTransform(map.dots, 0, 0, map.dots, 0, 0);
      this.said = [this.trouble, earth ? this.drawEarth(pen, earth) : ""].filter(Boolean).join("; ");
      if (this.plan) this.drawPlan(pen, this.plan);
    }
    map.pen.drawImage(canvas, 0, 0, map.width, map.height);
  }

  /** Draw tiles or land; returns whose they are. */
  drawEarth(/** @type {CanvasRenderingContext2D} */ pen, /** @type {import("./earth.js").EarthNote} */ earth) {
    const lies = projection(earth), key = JSON.stringify(earth);
    if (this.tiles) {
      this.tiles.draw(this.map, pen, lies);
      return this.tiles.said;
    }
    this.loading ??= this.ready.then(lands.load).then((world) => { this.world = world; this.changed(); }, (error) => this.fail("The coastlines", error));
    if (!this.world) return "";
    if (this.placed?.earth !== key) this.placed = { land: lands.place(this.world, lies), earth: key };
    return lands.draw(this.map, pen, this.placed.land, lies.metre) ? "Natural Earth, 1:10 000 000" : "";
  }

  drawPlan(/** @type {CanvasRenderingContext2D} */ pen, /** @type {FloorPlan} */ { resolution, origin: [, , angle] }) {
    const { map, picture } = this, [, , [x, y]] = this.corners(), size = map.dots * map.scale * resolution;
    const [c, s] = [size * Math.cos(angle), size * Math.sin(angle)];
    pen.setTransform(c, -s, s, c, map.dots * map.x(x), map.dots * map.y(y));
    pen.globalAlpha = 0.7;
    pen.drawImage(picture, 0, 0);
    pen.globalAlpha = 1;
  }
}
