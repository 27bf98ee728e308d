// Names on the map, with the age of what is silent, and what is told of the thing under the mouse.
import { age, span } from "./age.js";
import { STRIDE, mean } from "./frames.js";
import { verdictOf } from "./sensors.js";
import { FONT, beside, write } from "./text.js";

const MOST = 80; // names at once
const HIGH = 14; // pixels of a line
const REACH = 14; // pixels around the mouse

/** @typedef {import("./frames.js").Entity} Entity */

/**
 * Name the entities in view, as many as have room; the selected one always.
 *
 * @param {import("./map.js").BeliefMap} map
 * @param {[number, number, number][]} taken left, right and base line of other names
 */
export function drawLabels(map, taken) {
  const { pen, selected, colours } = map, most = taken.length + MOST;
  const others = [...map.world.entities.values()].filter((entity) => entity !== selected);
  pen.font = FONT;
  for (const entity of selected ? [selected, ...others] : others) {
    const { trail } = entity, at = map.x(trail[trail.length - 2]), y = map.y(trail[trail.length - 1]) + 4;
    if (!trail.length || at < 0 || y < 0 || at > map.width || y > map.height) continue;
    const seconds = age(entity, map.now), silent = seconds > map.silence;
    const text = silent ? `${entity.name} · ${span(seconds)}` : entity.name, x = beside(map, text, at), right = x + pen.measureText(text).width;
    if (entity !== selected && taken.some(([l, r, b]) => x < r && l < right && Math.abs(b - y) < HIGH)) continue;
    taken.push([x, right, y]);
    pen.globalAlpha = silent ? 0.6 : 1;
    write(map, text, x, y, entity === selected ? colours.selected : colours.text);
    if (taken.length >= most) break;
  }
  pen.globalAlpha = 1;
}

/** What a number is with a sensible number of digits beside its deviation. */
function rounded(/** @type {number} */ value, /** @type {number} */ deviation) {
  const digits = Math.max(0, Math.min(9, 1 - Math.floor(Math.log10(deviation || 1))));
  return `${value.toFixed(digits)} ± ${deviation.toFixed(digits)}`;
}

/** @returns {string[]} the lines that tell of an entity */
function told(/** @type {import("./map.js").BeliefMap} */ map, /** @type {Entity} */ entity) {
  const { plane, earth } = map.world, c = entity.components, [x, y] = mean(entity) ?? [0, 0];
  let xx = 0, yy = 0;
  for (let k = 0; k < c.length; k += STRIDE) {
    const [w, mx, my, a, b, angle] = c.subarray(k, k + STRIDE), cos = Math.cos(angle), sin = Math.sin(angle);
    xx += w * ((a * cos) ** 2 + (b * sin) ** 2 + (mx - x) ** 2);
    yy += w * ((a * sin) ** 2 + (b * cos) ** 2 + (my - y) ** 2);
  }
  const stretch = earth?.kind === "degrees" ? earth.stretch : 1;
  const values = [[x / stretch, Math.sqrt(xx) / stretch], [y, Math.sqrt(yy)]].map(([value, deviation]) => rounded(value, deviation));
  return [
    entity.name,
    `${span(age(entity, map.now))} ago`,
    ...plane.slice(0, 2).map(({ name, unit }, i) => `${name} ${values[i]} ${unit}`),
    `sample efficiency ${entity.efficiency.toFixed(2)}, ${entity.method}`,
  ];
}

/**
 * Tell of the entity under the mouse, or of the sensor.
 *
 * @param {import("./map.js").BeliefMap} map
 */
export function drawHover(map) {
  if (!map.hover) return;
  const [x, y] = map.hover, { pen, colours, world } = map, entity = map.pick(x, y);
  const near = (/** @type {[number, number]} */ [px, py]) => Math.hypot(px - x, py - y) * map.scale < REACH;
  const sensor = entity ? null : world.sensors.find(({ place }) => place && near(place));
  if (!entity && !sensor) return;
  const lines = entity ? told(map, entity) : sensor ? [sensor.name, sensor.kind, verdictOf(world.verdicts, sensor.name)] : [];
  pen.font = FONT;
  const wide = Math.max(...lines.map((line) => pen.measureText(line).width)) + 16, high = HIGH * lines.length + 12;
  const left = Math.max(0, Math.min(map.x(x) + 14, map.width - wide)), top = map.y(y) + 14 + high > map.height ? map.y(y) - 10 - high : map.y(y) + 14;
  pen.fillStyle = colours.panel;
  pen.strokeStyle = colours.line;
  pen.lineWidth = 1;
  pen.beginPath();
  pen.rect(left, top, wide, high);
  pen.fill();
  pen.stroke();
  for (const [i, line] of lines.entries()) {
    pen.fillStyle = i ? colours.dim : colours.text;
    pen.fillText(line, left + 8, top + HIGH * (i + 1) + 2);
  }
}
