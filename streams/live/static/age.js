// How long an entity has been silent, and how much of its colour is left then.

const LEAST = 10; // seconds in which no entity fades
const MOST = 600; // seconds after which each does
const USUAL = 6; // times the age of the youngest quarter: entities that report in turn have ages of up to four times that
const PALE = 0.25; // of the colour stays

/** @typedef {import("./frames.js").Entity} Entity */

/** Seconds since the entity's newest posterior came, at a time of the server's clock. */
export const age = (/** @type {Entity} */ entity, /** @type {number} */ now) => Math.max(0, now - entity.stamp);

/** Seconds after which an entity counts as silent, by how often the others report. */
export function silence(/** @type {Iterable<Entity>} */ entities, /** @type {number} */ now) {
  const ages = Float64Array.from(entities, (each) => age(each, now)).sort();
  return Math.min(MOST, Math.max(LEAST, USUAL * (ages[Math.floor((ages.length - 1) / 4)] ?? 0)));
}

/** The share of its colour that an entity of an age has. */
export const strength = (/** @type {number} */ seconds, /** @type {number} */ silent) => Math.max(PALE, Math.min(1, silent / seconds));

/** Seconds as text, such as 4 min. */
export function span(/** @type {number} */ seconds) {
  const [size, unit] = [[86400, "d"], [3600, "h"], [60, "min"]].find(([each]) => seconds >= Number(each)) ?? [1, "s"];
  return `${Math.floor(seconds / Number(size))} ${unit}`;
}
