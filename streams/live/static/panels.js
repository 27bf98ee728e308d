// What stands beside the map. Text from topics is only ever set as textContent.

import { MARKS, listed, mark as drawMark } from "./sensors.js";

const MOST = 300; // entities listed

const find = (selector) => document.querySelector(selector);
const write = (selector, text) => { find(selector).textContent = text; };

/** A row of a table. */
function row(cells) {
  const made = document.createElement("tr");
  for (const cell of cells) made.insertCell().textContent = cell;
  return made;
}

function fill(selector, rows) { find(selector).replaceChildren(...rows); }

function pair(name, value) {
  const made = document.createElement("div");
  for (const [tag, text] of [["dt", name], ["dd", value]]) made.append(Object.assign(document.createElement(tag), { textContent: text }));
  return made;
}

function item(name, text, select) {
  const button = Object.assign(document.createElement("button"), { type: "button", textContent: text });
  button.dataset.name = name;
  button.addEventListener("click", () => select(name));
  const made = document.createElement("li");
  made.append(button);
  return made;
}

const clock = (time) => Math.abs(time) < 1e8 ? `${time.toFixed(2)} s` : new Date(1000 * time).toISOString().slice(0, 23).replace("T", " ");
const short = (number) => Math.abs(number) >= 1e6 || (number && Math.abs(number) < 1e-3) ? number.toExponential(3) : String(+number.toPrecision(5));

/** Seconds as text. */
function span(seconds) {
  if (seconds === null) return "-";
  return seconds < 1 ? `${(1000 * seconds).toFixed(0)} ms` : `${seconds.toPrecision(3)} s`;
}

const WHY = {
  lag: "Messages that the workers have not committed; they commit once a second",
  workers: "Members of the workers' group",
};

/** List the entities whose name has the searched text in it. */
export function list(entities, selected, select) {
  const wanted = find("#search").value.trim().toLowerCase();
  const names = [...entities.values()].map((each) => each.name).filter((name) => name.toLowerCase().includes(wanted)).sort();
  fill("#list", names.slice(0, MOST).map((name) => item(name, name, select)));
  mark(selected);
  write("#rest", names.length > MOST ? `and ${names.length - MOST} more` : names.length ? "" : "no entity");
}

/** Mark the selected entity in the list. */
export function mark(name) {
  for (const button of find("#list").querySelectorAll("button")) button.setAttribute("aria-current", String(button.dataset.name === name));
}

export function health(told, select) {
  write("#posteriors", told.posteriors.toFixed(1));
  write("#observations", told.observations.toFixed(1));
  write("#entities", told.entities);
  const [median, most] = told.latency ?? [null, null];
  for (const [selector, seconds] of [["#latency", median], ["#latency-most", most], ["#delay", told.delay]]) write(selector, span(seconds));
  for (const [name, count] of [["lag", told.lag], ["workers", told.workers]]) {
    write(`#${name}`, count === null ? "-" : count);
    find(`#${name}-why`).title = told.group_note || WHY[name];
  }
  write("#poor-count", told.poor_count);
  write("#letter-count", told.letter_count);
  write("#reasons", Object.entries(told.reasons).map(([reason, count]) => `${reason}: ${count}`).join(", ") || "none");
  fill("#poor", told.poor.map(({ name, ess }) => item(name, `${name}: ${ess}`, select)));
}

/** The sensors with their verdicts. */
export function sensors(known, verdicts) {
  const { rows, ill, rest } = listed(known, verdicts);
  fill("#sensors tbody", rows);
  write("#ill-count", ill);
  write("#sensors-rest", rest ? `and ${rest} more` : known.length ? "" : "no sensor is defined");
}

/** What the marks of sensors mean. */
export function legend() {
  for (const verdict of Object.keys(MARKS)) {
    const icon = Object.assign(document.createElement("canvas"), { width: 14, height: 14 });
    drawMark(icon.getContext("2d"), 7, 7, verdict);
    find("#verdicts").append(icon, ` ${verdict} `);
  }
}

export function letters(told) {
  fill("#letters tbody", told.map((each) => {
    const made = row([clock(each.time), each.reason, each.entity ?? "", each.sensor ?? "", each.detail]);
    made.title = `${each.source}\n${each.value}`;
    return made;
  }));
}

/** The selected entity. */
export function details(told, bands) {
  write("#who", told.name);
  fill("#facts", [
    pair("effective sample size", told.ess.toFixed(3)),
    pair("method", told.method),
    pair("surprise (p-value)", told.surprise.toPrecision(3)),
    pair("accumulated error", told.error === null ? "-" : `${told.error.toFixed(3)} nats`),
    pair("components", told.components),
    pair("sequence", `${told.sequence}, revision ${told.revision}`),
    pair("priors", told.prior_sequence),
    pair("model", told.model),
    pair("time", clock(told.time)),
  ]);
  fill("#now tbody", told.coordinates.slice(0, bands.length).map(({ name, unit }, d) => row([`${name} (${unit})`, ...bands[d].map(short)])));
  fill("#reports tbody", told.observations.map((each) => row([each.sensor, each.values.map(short).join(", "), (told.time - each.time).toFixed(2)])));
}

export function plane([first, second]) {
  write("#axis-x", first ? `${first.name} (${first.unit})` : "x");
  write("#axis-y", second ? `${second.name} (${second.unit})` : "y");
}

export const status = (text) => write("#status", text);
