// The grid below the map: of the plane's own numbers, or of degrees where the plane lies on the earth.

const APART = 90; // pixels between two lines, about
const PIECES = 16; // of a line of degrees, which is curved
const GRID = "#232d40";
const TEXT = "#a9b5c9";
const MAJOR = 6378137; // metres, of the WGS 84 ellipsoid
const FLATTENING = 1 / 298.257223563;
const SQUARE = FLATTENING * (2 - FLATTENING); // of the eccentricity
const RADIANS = Math.PI / 180;

/** @typedef {{kind: "tangent", latitude: number, longitude: number, altitude: number} | {kind: "degrees", stretch: number}} EarthNote */

/** Metres east, north in the plane that touches the ellipsoid at an origin, and degrees. */
export class Tangent {
  /** @param {{latitude: number, longitude: number, altitude: number}} origin */
  constructor({ latitude, longitude, altitude }) {
    this.latitude = latitude;
    this.longitude = longitude;
    this.altitude = altitude;
    this.centre = this.cartesian(latitude, longitude);
  }

  /** Earth-centred coordinates, at the origin's altitude; x points to the origin's meridian. */
  cartesian(/** @type {number} */ latitude, /** @type {number} */ longitude) {
    const p = latitude * RADIANS, l = (longitude - this.longitude) * RADIANS;
    const radius = MAJOR / Math.sqrt(1 - SQUARE * Math.sin(p) ** 2), out = (radius + this.altitude) * Math.cos(p);
    return [out * Math.cos(l), out * Math.sin(l), ((1 - SQUARE) * radius + this.altitude) * Math.sin(p)];
  }

  /** @returns {[number, number]} metres east and north */
  toPlane(/** @type {number} */ latitude, /** @type {number} */ longitude) {
    const [x, y, z] = this.cartesian(latitude, longitude), p = this.latitude * RADIANS;
    return [y, (z - this.centre[2]) * Math.cos(p) - (x - this.centre[0]) * Math.sin(p)];
  }

  /** @returns {[number, number]} latitude and longitude, by steps along the meridian and the parallel */
  toDegrees(/** @type {number} */ east, /** @type {number} */ north) {
    let latitude = this.latitude, longitude = this.longitude;
    for (let i = 0; i < 8; i++) {
      const [x, y] = this.toPlane(latitude, longitude);
      latitude = Math.max(-89.9, Math.min(89.9, latitude + (north - y) / (MAJOR * RADIANS)));
      longitude += (east - x) / (MAJOR * RADIANS * Math.cos(latitude * RADIANS));
    }
    return [latitude, longitude];
  }
}

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

/** @param {import("./map.js").BeliefMap} map */
export function drawGrid(map) {
  const { pen, world } = map, [first, second] = world.plane, earth = world.earth;
  pen.strokeStyle = GRID;
  pen.fillStyle = TEXT;
  pen.font = "11px system-ui, sans-serif";
  pen.lineWidth = 1;
  pen.beginPath();
  if (earth?.kind === "tangent") graticule(map, new Tangent(earth));
  else if (earth?.kind === "degrees") straight(map, earth.stretch, (value, digits, axis) => degrees(value, digits, axis ? "NS" : "EW"));
  else straight(map, 1, (value, digits) => value.toFixed(digits));
  pen.stroke();
  const said = earth?.kind === "tangent" ? "degrees of latitude and longitude; " : "";
  if (first && second) pen.fillText(`${said}${first.name} (${first.unit}) to the right, ${second.name} (${second.unit}) upwards`, 8, 52);
}

/**
 * @param {import("./map.js").BeliefMap} map
 * @param {number} stretch units of the map in one of the first coordinate
 * @param {(value: number, digits: number, axis: number) => string} text
 */
function straight(map, stretch, text) {
  const { pen, width, height } = map, right = map.left + width / map.scale, top = map.bottom + height / map.scale;
  const across = nice(APART / map.scale / stretch), up = nice(APART / map.scale);
  for (const v of multiples(map.left / stretch, right / stretch, across)) {
    const x = map.x(v * stretch);
    pen.moveTo(x, 0);
    pen.lineTo(x, height);
    pen.fillText(text(v, digitsOf(across), 0), x + 3, height - 36);
  }
  for (const v of multiples(map.bottom, top, up)) {
    const y = map.y(v);
    pen.moveTo(0, y);
    pen.lineTo(width, y);
    pen.fillText(text(v, digitsOf(up), 1), 3, y - 3);
  }
}

/** Meridians and parallels. */
function graticule(/** @type {import("./map.js").BeliefMap} */ map, /** @type {Tangent} */ tangent) {
  const { pen, width, height } = map, right = map.left + width / map.scale, top = map.bottom + height / map.scale;
  const border = [map.left, (map.left + right) / 2, right].flatMap((x) => [map.bottom, (map.bottom + top) / 2, top].map((y) => tangent.toDegrees(x, y)));
  const [low, high] = [Math.min, Math.max].map((f) => f(...border.map(([latitude]) => latitude)));
  const [west, east] = [Math.min, Math.max].map((f) => f(...border.map(([, longitude]) => longitude)));
  const up = nice((high - low) * APART / height), across = nice((east - west) * APART / width);
  const line = (/** @type {(share: number) => [number, number]} */ place) => {
    for (let i = 0; i <= PIECES; i++) {
      const [x, y] = place(i / PIECES), [px, py] = [map.x(x), map.y(y)];
      if (i) pen.lineTo(px, py); else pen.moveTo(px, py);
    }
  };
  for (const v of multiples(low, high, up)) {
    line((share) => tangent.toPlane(v, west + share * (east - west)));
    pen.fillText(degrees(v, digitsOf(up), "NS"), 3, map.y(tangent.toPlane(v, west)[1]) - 3);
  }
  for (const v of multiples(west, east, across)) {
    line((share) => tangent.toPlane(low + share * (high - low), v));
    pen.fillText(degrees(v, digitsOf(across), "EW"), map.x(tangent.toPlane(low, v)[0]) + 3, height - 36);
  }
}
