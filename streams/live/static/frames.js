// Binary frames: a head, then a block for each entity that has changed. beliefs.py and viewers.py write them.

const MAGIC = 0x31464c42;
const HEAD = 24;
const BLOCK = 28;
const COMPONENT = 6; // numbers: weight, mean (2), covariance (3)
export const STRIDE = 6; // of what is kept of a component: weight, x, y, two half-axes (one deviation), angle
const TRAIL = 40; // points
const STEP = 0.5; // deviations between two points of a trail
const LEAP = 8; // times the usual step of a trail: a correction, such as to another component, and no way that was gone
const FEW = 5; // steps of which none is usual yet

/**
 * @typedef {object} Entity
 * @property {number} id
 * @property {string} name
 * @property {string} method
 * @property {number} efficiency sample efficiency, 0 to 1
 * @property {number} stamp when its newest posterior was written, seconds since the epoch
 * @property {number} time of the state, seconds since the epoch
 * @property {Float64Array} components STRIDE numbers each
 * @property {number[]} trail x and y of where the heaviest component was
 */

/**
 * @param {ArrayBuffer} buffer
 * @param {Map<number, Entity>} entities which the frame changes
 * @param {Map<number, string>} names
 * @param {string[]} methods
 * @returns {number} how many entities have changed, or -1 if it is no frame
 */
export function apply(buffer, entities, names, methods) {
  const data = new DataView(buffer);
  if (data.byteLength < HEAD || data.getUint32(0, true) !== MAGIC) return -1;
  const count = data.getUint32(16, true);
  let at = HEAD;
  for (let i = 0; i < count; i++) {
    const id = data.getUint32(at, true), size = data.getUint16(at + 4, true);
    /** @type {Entity} */
    const entity = entities.get(id) ?? { id, name: names.get(id) ?? "?", method: "?", efficiency: 1, stamp: 0, time: 0, components: new Float64Array(), trail: [] };
    entity.method = methods[data.getUint16(at + 6, true)] ?? "?";
    entity.efficiency = data.getFloat32(at + 8, true);
    entity.stamp = data.getFloat64(at + 12, true);
    entity.time = data.getFloat64(at + 20, true);
    at += BLOCK;
    entity.components = components(data, at, size);
    at += 4 * COMPONENT * size;
    follow(entity);
    entities.set(id, entity);
  }
  return count;
}

/** When the server has sent a frame, seconds since the epoch. */
export const sentAt = (/** @type {ArrayBuffer} */ buffer) => new DataView(buffer).getFloat64(8, true);

/** Half-axes and angle of each component's ellipse, from its covariance. */
function components(/** @type {DataView} */ data, /** @type {number} */ at, /** @type {number} */ size) {
  const found = new Float64Array(STRIDE * size);
  for (let k = 0; k < size; k++, at += 4 * COMPONENT) {
    const xx = data.getFloat32(at + 12, true), xy = data.getFloat32(at + 16, true), yy = data.getFloat32(at + 20, true);
    const middle = (xx + yy) / 2, spread = Math.sqrt((xx - yy) ** 2 / 4 + xy ** 2);
    for (let i = 0; i < 3; i++) found[STRIDE * k + i] = data.getFloat32(at + 4 * i, true); // weight and mean
    found[STRIDE * k + 3] = Math.sqrt(middle + spread);
    found[STRIDE * k + 4] = Math.sqrt(Math.max(middle - spread, 1e-9 * middle));
    found[STRIDE * k + 5] = Math.atan2(2 * xy, xx - yy) / 2;
  }
  return found;
}

/** Where the heaviest component begins. */
export function heaviest(/** @type {Float64Array} */ c) {
  let found = 0;
  for (let k = STRIDE; k < c.length; k += STRIDE) if (c[k] > c[found]) found = k;
  return found;
}

/** Lengthen the trail. While the entity stays where it is, the last point moves; what came before a leap is forgotten. */
export function follow(/** @type {Pick<Entity, "components" | "trail">} */ { components: c, trail }) {
  if (!c.length) return;
  const top = heaviest(c), steps = stepsOf(trail);
  if (steps.length && steps[steps.length - 1] < STEP * c[top + 3]) trail.splice(-2);
  trail.push(c[top + 1], c[top + 2]);
  const now = stepsOf(trail), usual = now.toSorted((p, q) => p - q)[Math.floor(now.length / 2)];
  const leap = now.length < FEW ? -1 : now.findLastIndex((step) => step > LEAP * usual);
  trail.splice(0, Math.max(2 * (leap + 1), trail.length - 2 * TRAIL));
}

/** How long each step of a trail is. */
function stepsOf(/** @type {number[]} */ trail) {
  return Array.from({ length: Math.max(0, trail.length / 2 - 1) }, (_, i) => Math.hypot(trail[2 * i + 2] - trail[2 * i], trail[2 * i + 3] - trail[2 * i + 1]));
}

/**
 * The mean of the whole mixture, or null where it has no place on the map.
 *
 * @param {Entity} entity
 * @returns {[number, number] | null}
 */
export function mean(entity) {
  const c = entity.components;
  if (!c.length) return null;
  let x = 0, y = 0;
  for (let k = 0; k < c.length; k += STRIDE) { x += c[k] * c[k + 1]; y += c[k] * c[k + 2]; }
  return [x, y];
}
