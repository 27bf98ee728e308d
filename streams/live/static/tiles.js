// Map tiles in Web Mercator, of the URL template that the server names; each is bent into the plane of the map.

const SIZE = 256; // pixels of a tile
const HIGHEST = 85.0511; // degrees of latitude, where the tiles end
const DEEPEST = 19; // level
const MOST = 200; // tiles at once
const KEPT = 600; // in memory
const RETRY = 30_000; // milliseconds after which a tile that has not come is asked for again
const VEIL = 0.5; // opacity of the ground's colour over the tiles, so that beliefs are seen on them
const RADIANS = Math.PI / 180;

/** @typedef {{x: number, y: number, z: number}} Tile */

/** Where a latitude is in a square of side 1, from its top. */
const down = (/** @type {number} */ latitude) => 0.5 - Math.asinh(Math.tan(Math.max(-HIGHEST, Math.min(HIGHEST, latitude)) * RADIANS)) / (2 * Math.PI);
/** The latitude there. */
const latitudeAt = (/** @type {number} */ share) => Math.atan(Math.sinh(Math.PI * (1 - 2 * share))) / RADIANS;

/**
 * The tiles that cover what is between two latitudes and two longitudes, at a level or, if they are too many, above it.
 *
 * @param {{south: number, north: number, west: number, east: number}} view
 * @param {number} level
 * @returns {Tile[]} x is below 0 or beyond the last where the view goes around the earth
 */
export function cover({ south, north, west, east }, level) {
  for (let z = Math.max(0, Math.min(DEEPEST, Math.round(level))); ; z--) {
    const n = 2 ** z, [x, right] = [west, east].map((each) => Math.floor((each / 360 + 0.5) * n));
    const [y, bottom] = [north, south].map((each) => Math.min(n - 1, Math.floor(down(each) * n)));
    const [across, high] = [right - x + 1, bottom - y + 1];
    if (across * high <= MOST || !z) return Array.from({ length: Math.min(MOST, across * high) }, (_, i) => ({ x: x + i % across, y: y + Math.floor(i / across), z }));
  }
}

export class Tiles {
  /**
   * @param {{url: string, attribution: string}} layer the URL has {z}, {x} and {y}
   * @param {() => void} changed called when a tile has come
   */
  constructor({ url, attribution }, changed) {
    this.template = url;
    this.attribution = attribution;
    this.changed = changed;
    this.missing = 0; // tiles that have not come
    /** @type {Map<string, HTMLImageElement>} */
    this.images = new Map(); // those that were used last at the end
  }

  /** Whose the tiles are, and whether some have not come. */
  get said() { return this.missing ? `${this.attribution} (${this.missing} tiles have not come)` : this.attribution; }

  /** The address of a tile. */
  address(/** @type {Tile} */ { x, y, z }) {
    const n = 2 ** z;
    return this.template.replace("{z}", String(z)).replace("{x}", String(((x % n) + n) % n)).replace("{y}", String(y));
  }

  /** The tile's image, if it has come; otherwise it is asked for, where that is wanted. */
  image(/** @type {Tile} */ tile, wanted = true) {
    const address = this.address(tile);
    let image = this.images.get(address);
    if (!image && wanted) {
      image = new Image();
      image.referrerPolicy = "strict-origin-when-cross-origin"; // who serves tiles may ask which site uses them
      image.onload = this.changed;
      image.onerror = () => {
        this.missing++;
        this.changed();
        setTimeout(() => { this.missing--; this.images.delete(address); this.changed(); }, RETRY);
      };
      image.src = address;
    }
    if (!image) return null;
    this.images.delete(address);
    this.images.set(address, image);
    for (const oldest of this.images.keys()) if (this.images.size > KEPT) this.images.delete(oldest); else break;
    return image.complete && image.naturalWidth ? image : null;
  }

  /**
   * Draw those in view; where one has not come, what a level above has.
   *
   * @param {import("./map.js").BeliefMap} map
   * @param {CanvasRenderingContext2D | OffscreenCanvasRenderingContext2D} pen
   * @param {import("./earth.js").Projection} projection
   */
  draw(map, pen, projection) {
    const view = viewOf(map, projection), middle = (view.south + view.north) / 2, [x] = projection.toPlane(middle, view.west);
    const degree = (projection.toPlane(middle, view.west + 1e-3)[0] - x) * 1e3 * map.scale * map.dots; // pixels, about
    const tiles = cover(view, Math.log2(360 * degree / SIZE));
    /** @type {Map<string, {tile: Tile, image: HTMLImageElement}>} */
    const found = new Map();
    for (const tile of tiles) {
      let { x, y, z } = tile, image = this.image(tile);
      for (; !image && z > 0;) {
        [x, y, z] = [Math.floor(x / 2), Math.floor(y / 2), z - 1];
        image = this.image({ x, y, z }, false);
      }
      if (image) found.set(`${z} ${x} ${y}`, { tile: { x, y, z }, image });
    }
    const sorted = [...found.values()].sort((a, b) => a.tile.z - b.tile.z);
    for (const { tile, image } of sorted) paint(map, pen, projection, tile, image);
    pen.setTransform(map.dots, 0, 0, map.dots, 0, 0);
    pen.globalAlpha = VEIL;
    pen.fillStyle = map.colours.back;
    pen.fillRect(0, 0, map.width, map.height);
    pen.globalAlpha = 1;
  }
}

/** Between which latitudes and longitudes the map is. */
export function viewOf(/** @type {import("./map.js").BeliefMap} */ map, /** @type {import("./earth.js").Projection} */ projection) {
  const right = map.left + map.width / map.scale, top = map.bottom + map.height / map.scale;
  const places = [map.left, (map.left + right) / 2, right].flatMap((x) => [map.bottom, (map.bottom + top) / 2, top].map((y) => projection.toDegrees(x, y)));
  const [south, north] = [Math.min, Math.max].map((f) => f(...places.map(([latitude]) => latitude)));
  const [west, east] = [Math.min, Math.max].map((f) => f(...places.map(([, longitude]) => longitude)));
  return { south, north, west, east };
}

/**
 * @param {import("./map.js").BeliefMap} map
 * @param {CanvasRenderingContext2D | OffscreenCanvasRenderingContext2D} pen
 * @param {import("./earth.js").Projection} projection
 * @param {Tile} tile
 * @param {HTMLImageElement} image
 */
function paint(map, pen, projection, { x, y, z }, image) {
  const pieces = z < 5 ? 8 : z < 9 ? 4 : 1, w = image.naturalWidth / pieces, h = image.naturalHeight / pieces, d = map.dots;
  const at = (/** @type {number} */ i, /** @type {number} */ j) => {
    const [px, py] = projection.toPlane(latitudeAt((y + j / pieces) / 2 ** z), ((x + i / pieces) / 2 ** z - 0.5) * 360);
    return [d * map.x(px), d * map.y(py)];
  };
  for (let j = 0; j < pieces; j++) for (let i = 0; i < pieces; i++) {
    const [[left, top], [rx, ry], [bx, by]] = [at(i, j), at(i + 1, j), at(i, j + 1)];
    pen.setTransform((rx - left) / w, (ry - top) / w, (bx - left) / h, (by - top) / h, left, top);
    const more = [w / Math.hypot(rx - left, ry - top), h / Math.hypot(bx - left, by - top)]; // a pixel, so that no seam is seen
    pen.drawImage(image, i * w, j * h, w, h, 0, 0, w + more[0] / 2, h + more[1] / 2);
  }
}
