// What stands beside the map. Text from topics is only ever set as textContent.

import { find, penOf } from "./dom.js";
import { clock as timeOfDay } from "./past.js";
import { MARKS, listed, mark as drawMark } from "./sensors.js";

/**
 * @typedef {{posteriors: number, observations: number, entities: number, delay: number | null,
 *   latency: [number, number] | null, lag: number | null, workers: number | null, group_note: string, low: number,
 *   refined: number | null, poor: {name: string, efficiency: number}[], poor_count: number, letter_count: number,
 *   reasons: Record<string, number>}} Health
 * @typedef {{time: number, reason: string, detail: string, entity: string | null, sensor: string | null,
 *   source: string, value: string}} Letter
 * @typedef {{id: number, name: string, time: number, sequence: number, revision: number, prior_sequence: number,
 *   model: string, coordinates: import("./series.js").Coordinate[], efficiency: number, p_value: number,
 *   error: number | null, method: string, likelihood: string, outside: number | null, components: number, whole: boolean,
 *   samples: import("./series.js").Told[],
 *   observations: {sensor: string, time: number, values: number[]}[], letters: Letter[]}} Details
 * @typedef {(name: string) => void} Select
 */

const element = (/** @type {string} */ selector) => find(selector, HTMLElement);
const write = (/** @type {string} */ selector, /** @type {string | number} */ text) => { element(selector).textContent = String(text); };

/** A row of a table. */
function row(/** @type {(string | number)[]} */ cells) {
  const made = document.createElement("tr");
  for (const cell of cells) made.insertCell().textContent = String(cell);
  return made;
}

function fill(/** @type {string} */ selector, /** @type {Node[]} */ rows) { element(selector).replaceChildren(...rows); }

/** A name and its value. */
function pair(/** @type {string} */ name, /** @type {string | number} */ value) {
  const made = document.createElement("div");
  for (const [tag, text] of [["dt", name], ["dd", String(value)]]) made.append(Object.assign(document.createElement(tag), { textContent: text }));
  return made;
}

/** An entry of a list that selects an entity. */
function item(/** @type {string} */ name, /** @type {string} */ text, /** @type {Select} */ select) {
  const button = Object.assign(document.createElement("button"), { type: "button", textContent: text });
  button.dataset.name = name;
  button.addEventListener("click", () => select(name));
  const made = document.createElement("li");
  made.append(button);
  return made;
}

const clock = (/** @type {number} */ time) => Math.abs(time) < 1e8 ? `${time.toFixed(2)} s` : new Date(1000 * time).toISOString().slice(0, 23).replace("T", " ");
const short = (/** @type {number} */ number) => Math.abs(number) >= 1e6 || (number && Math.abs(number) < 1e-3) ? number.toExponential(3) : String(+number.toPrecision(5));

/** Seconds as text. */
function span(/** @type {number | null} */ seconds) {
  if (seconds === null) return "-";
  return seconds < 1 ? `${(1000 * seconds).toFixed(0)} ms` : `${seconds.toPrecision(3)} s`;
}

/** @type {Record<string, string>} */
const WHY = {
  lag: "Messages that the workers have not committed; they commit once a second",
  workers: "Members of the workers' group",
};

export function health(/** @type {Health} */ told, /** @type {Select} */ select) {
  write("#posteriors", told.posteriors.toFixed(1));
  write("#observations", told.observations.toFixed(1));
  write("#entities", told.entities);
  const [median, most] = told.latency ?? [null, null];
  write("#latency", span(median));
  write("#latency-most", span(most));
  write("#delay", span(told.delay));
  for (const [name, count] of Object.entries({ lag: told.lag, workers: told.workers })) {
    write(`#${name}`, count === null ? "-" : count);
    element(`#${name}-why`).title = told.group_note || WHY[name];
  }
  write("#refined", told.refined === null ? "-" : `${(100 * told.refined).toFixed(1)} %`);
  write("#poor-count", told.poor_count);
  write("#letter-count", told.letter_count);
  write("#reasons", Object.entries(told.reasons).map(([reason, count]) => `${reason}: ${count}`).join(", "));
  fill("#poor", told.poor.map(({ name, efficiency }) => item(name, `${name}: ${efficiency}`, select)));
}

/**
 * The sensors with their verdicts.
 *
 * @param {import("./sensors.js").Sensor[]} known
 * @param {Record<string, import("./sensors.js").Verdict>} verdicts
 */
export function sensors(known, verdicts) {
  const { rows, faulty, rest } = listed(known, verdicts);
  fill("#sensors tbody", rows);
  write("#faulty-count", faulty);
  write("#sensors-rest", rest ? `and ${rest} more` : known.length ? "" : "no sensor is defined");
}

/** What the marks of sensors mean. */
export function legend() {
  fill("#verdicts", Object.keys(MARKS).map((verdict) => {
    const icon = Object.assign(document.createElement("canvas"), { width: 14, height: 14 }), made = document.createElement("span");
    drawMark(penOf(icon), 7, 7, verdict);
    made.append(icon, ` ${verdict} `);
    return made;
  }));
}

export const letters = (/** @type {Letter[]} */ told) => fill("#letters tbody", told.map(letter));

function letter(/** @type {Letter} */ each) {
  const made = row([timeOfDay(each.time), each.reason, [each.entity, each.sensor, each.detail].filter(Boolean).join(" · ")]);
  made.title = `${clock(each.time)}\n${each.source}\n${each.value}`;
  return made;
}

/** Quantiles with as many digits as tell them apart. */
function rounded(/** @type {number[]} */ band) {
  const digits = 2 - Math.floor(Math.log10(band[band.length - 1] - band[0]));
  return band.map((each) => digits >= 0 && digits < 16 && Math.abs(each) < 1e9 ? each.toFixed(digits) : short(each));
}

/** Where an observation is in time, beside the belief. */
const beside = (/** @type {number} */ before) => before >= 0 ? `${span(before)} before` : `${span(-before)} after: not in it yet`;

/** What is known of the selected entity before its details come; null if none is selected. */
export function selected(/** @type {string | null} */ name) {
  document.body.classList.toggle("none", name === null);
  write("#who", name ?? "Nothing is selected");
  for (const place of ["#facts", "#now tbody", "#reports tbody", "#own-letters tbody"]) fill(place, []);
}

/** The selected entity. */
export function details(/** @type {Details} */ told, /** @type {number[][]} */ bands) {
  write("#who", told.name);
  fill("#facts", [
    pair("sample efficiency", told.efficiency.toFixed(3)),
    pair("method", told.method),
    pair("likelihood", likelihood(told)),
    pair("p-value", told.p_value.toPrecision(3)),
    pair("accumulated error", told.error === null ? "-" : `${told.error.toFixed(3)} nats`),
    pair("components", told.components),
    pair("sequence", `${told.sequence}, revision ${told.revision}`),
    pair("priors", told.prior_sequence),
    pair("model", told.model),
    pair("time", clock(told.time)),
  ]);
  fill("#now tbody", told.coordinates.slice(0, bands.length).map(({ name, unit }, d) => row([`${name} (${unit})`, ...rounded(bands[d])])));
  fill("#reports tbody", told.observations.map((each) => row([each.sensor, each.values.map(short).join(", "), beside(told.time - each.time)])));
  fill("#own-letters tbody", told.letters.map(letter));
}

function likelihood(/** @type {Details} */ { likelihood, outside }) {
  return outside ? `${likelihood}, outside its training by ${outside.toPrecision(2)} widths: do not rely on this belief` : likelihood;
}

export function plane(/** @type {import("./series.js").Coordinate[]} */ [first, second]) {
  write("#axis-x", first ? `${first.name} (${first.unit})` : "x");
  write("#axis-y", second ? `${second.name} (${second.unit})` : "y");
}

