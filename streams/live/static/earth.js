// Latitude and longitude on the map: of a plane that touches the earth, or of degrees.

const MAJOR = 6378137; // metres, of the WGS 84 ellipsoid
const FLATTENING = 1 / 298.257223563;
const SQUARE = FLATTENING * (2 - FLATTENING); // of the eccentricity
const RADIANS = Math.PI / 180;
const FAR = Math.PI / 3; // from the origin; beyond, the plane is unrolled, so that nothing comes back from behind the earth

/** @typedef {{kind: "tangent", latitude: number, longitude: number, altitude: number} | {kind: "degrees", stretch: number}} EarthNote */

/**
 * How the map lies on the earth.
 *
 * @typedef {object} Projection
 * @property {number} metre its length in units of the map
 * @property {number} turn once around the earth, in units of the map to the right; 0 where that comes back to the same place
 * @property {(latitude: number, longitude: number) => [number, number]} toPlane
 * @property {(x: number, y: number) => [number, number]} toDegrees latitude and longitude
 */

/** @returns {Projection} */
export const projection = (/** @type {EarthNote} */ earth) => earth.kind === "tangent" ? new Tangent(earth) : new Degrees(earth.stretch);

/** Metres east, north in the plane that touches the ellipsoid at an origin, and degrees. */
export class Tangent {
  metre = 1;
  turn = 0;

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
    const [dx, , dz] = [x - this.centre[0], y, z - this.centre[2]], c = Math.cos(p), s = Math.sin(p);
    const north = dz * c - dx * s, away = Math.atan2(Math.hypot(y, north), MAJOR + dx * c + dz * s);
    const longer = away > FAR ? MAJOR * (Math.sin(FAR) + away - FAR) / (Math.hypot(y, north) || 1) : 1;
    return [longer * y, longer * north];
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

/** Degrees of longitude to the right, shortened, and of latitude upwards. */
class Degrees {
  metre = 1 / (MAJOR * RADIANS);

  constructor(/** @type {number} */ stretch) {
    this.stretch = stretch;
    this.turn = 360 * stretch;
  }

  /** @returns {[number, number]} */
  toPlane(/** @type {number} */ latitude, /** @type {number} */ longitude) { return [longitude * this.stretch, latitude]; }

  /** @returns {[number, number]} */
  toDegrees(/** @type {number} */ x, /** @type {number} */ y) { return [y, x / this.stretch]; }
}
