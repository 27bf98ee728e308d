// The page: frames from the server, the map and what stands beside it, mouse and keys.
import { find } from "./dom.js";
import { apply, sentAt } from "./frames.js";
import { BeliefMap } from "./map.js";
import * as panels from "./panels.js";
import { PastSlider } from "./past.js";
import { listen } from "./pointers.js";
import { PriorForm } from "./priors.js";
import { Series } from "./series.js";

/**
 * @typedef {{time: number, health: import("./panels.js").Health, verdicts: Record<string, string>}} Past
 * @typedef {{whole?: boolean, range?: [number, number], past?: Past, methods?: string[], gone?: number[],
 *   names?: [number, string][], plane?: import("./series.js").Coordinate[], earth?: import("./earth.js").EarthNote | null,
 *   sensors?: import("./sensors.js").Sensor[], verdicts?: Record<string, import("./sensors.js").Verdict>,
 *   health?: import("./panels.js").Health, letters?: import("./panels.js").Letter[],
 *   details?: import("./panels.js").Details}} Notes what the server sends as JSON
 */

const RETRY = 1000; // milliseconds
const LIST = 500; // milliseconds between two changes of the list
const STEP = 60; // pixels that an arrow key moves the map

const canvas = find("#canvas", HTMLCanvasElement);
/** @type {import("./map.js").World} */
const world = { entities: new Map(), names: new Map(), methods: [], sensors: [], verdicts: {}, plane: [], earth: null, low: 0.5, drawn: 1 };
const map = new BeliefMap(canvas, world, redraw);
const series = new Series(find("#chart", HTMLCanvasElement));
const form = new PriorForm(find("#prior", HTMLFormElement), map, redraw);
const past = new PastSlider(find("#time", HTMLInputElement), find("#shown", HTMLOutputElement), goTo);
/** @type {WebSocket} */
let socket;
/** @type {string | null} */
let selected = null;
let acknowledge = false, waiting = false, listing = 0;
Object.assign(window, { beliefstream: { world, map, series, past } }); // to look at from the console

function connect() {
  const address = new URL("ws", document.baseURI);
  address.protocol = address.protocol.replace("http", "ws");
  socket = new WebSocket(address);
  socket.binaryType = "arraybuffer";
  socket.onopen = () => {
    panels.status("connected");
    if (selected) send({ type: "select", name: selected });
    if (past.moment !== null) past.show(past.moment);
  };
  socket.onmessage = ({ data }) => typeof data === "string" ? hear(JSON.parse(data)) : frame(data);
  socket.onclose = () => { panels.status("disconnected, trying again"); setTimeout(connect, RETRY); };
}

function send(/** @type {Record<string, unknown>} */ message) { if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message)); }

/** What comes as JSON before a frame. */
function hear(/** @type {Notes} */ notes) {
  if (notes.whole) { forget(); world.names.clear(); listSoon(); }
  if (notes.range) past.range(...notes.range);
  if (notes.past) hearPast(notes.past);
  if (notes.methods) world.methods = notes.methods;
  for (const id of notes.gone ?? []) { world.entities.delete(id); world.names.delete(id); }
  for (const [id, name] of notes.names ?? []) world.names.set(id, name);
  if (notes.plane) { world.plane = notes.plane; panels.plane(notes.plane); }
  if (notes.earth !== undefined) world.earth = notes.earth;
  if (notes.sensors) { world.sensors = notes.sensors; map.fitted &&= map.touched; } // a view that nobody has chosen takes them in
  if (notes.verdicts) world.verdicts = notes.verdicts;
  if (notes.sensors || notes.verdicts) panels.sensors(world.sensors, world.verdicts);
  if (notes.health) { world.low = notes.health.low; panels.health(notes.health, select); }
  if (notes.letters) panels.letters(notes.letters);
  if (notes.details && notes.details.name === selected) {
    series.add(notes.details);
    map.reports = notes.details.observations.map((each) => each.sensor);
    panels.details(notes.details, series.now());
    form.see(notes.details);
  }
  if (notes.names || notes.gone) listSoon();
}

/** The beliefs that follow are of another time than those that are shown. */
function forget() { world.entities.clear(); map.selected = null; }

function hearPast(/** @type {Past} */ { time, health, verdicts }) {
  forget();
  past.shown(time);
  document.body.classList.add("past");
  world.verdicts = Object.fromEntries(Object.entries(verdicts).map(([name, verdict]) => [name, { verdict, because: "", channels: [] }]));
  panels.sensors(world.sensors, world.verdicts);
  panels.health(health, select);
  series.mark(time);
  listSoon();
}

/** Show what was at a time; null for now. */
function goTo(/** @type {number | null} */ moment) {
  if (moment === null) { document.body.classList.remove("past"); series.mark(null); }
  send(moment === null ? { type: "live" } : { type: "past", time: moment });
}

function frame(/** @type {ArrayBuffer} */ data) {
  apply(data, world.entities, world.names, world.methods);
  map.now = past.moment ?? sentAt(data);
  if (selected && map.selected?.name !== selected) map.selected = byName(selected);
  acknowledge = true;
  redraw();
}

/** Draw with the next picture of the screen; only then is the frame acknowledged. */
function redraw() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    map.draw();
    if (acknowledge) { acknowledge = false; world.drawn++; send({ type: "drawn" }); }
  });
}

function byName(/** @type {string} */ name) {
  for (const entity of world.entities.values()) if (entity.name === name) return entity;
  return null;
}

function select(/** @type {string | null} */ name) {
  map.touched = true;
  selected = name;
  map.selected = name === null ? null : byName(name);
  map.reports = [];
  series.clear();
  if (name !== null) find("input[name=entity]", HTMLInputElement).value = name;
  panels.mark(name);
  send({ type: "select", name });
  redraw();
}

function listSoon() {
  if (listing) return;
  listing = setTimeout(() => { listing = 0; panels.list(world.entities, selected, select); }, LIST);
}

function draw(/** @type {boolean} */ on) {
  map.touched = true;
  form.drawing = on;
  find("#draw", HTMLButtonElement).setAttribute("aria-pressed", String(on));
  canvas.classList.toggle("drawing", on);
}

listen(map, form, { select, draw, redraw });
canvas.addEventListener("keydown", (event) => {
  /** @type {Record<string, () => void>} */
  const keys = {
    ArrowLeft: () => map.pan(STEP, 0), ArrowRight: () => map.pan(-STEP, 0), ArrowUp: () => map.pan(0, STEP), ArrowDown: () => map.pan(0, -STEP),
    "+": () => map.zoom(1.25), "=": () => map.zoom(1.25), "-": () => map.zoom(0.8), f: () => map.fit(), p: () => draw(true), l: () => past.show(null),
    Escape: () => { if (form.drawing) draw(false); else select(null); },
  };
  if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  keys[event.key]();
  redraw();
});
find("#draw", HTMLButtonElement).addEventListener("click", () => draw(!form.drawing));
find("#fit", HTMLButtonElement).addEventListener("click", () => { map.fit(); redraw(); });
find("#search", HTMLInputElement).addEventListener("input", listSoon);
find("#list", HTMLUListElement).addEventListener("keydown", (event) => {
  const item = event.target instanceof Element ? event.target.closest("li") : null;
  const next = event.key === "ArrowDown" ? item?.nextElementSibling : event.key === "ArrowUp" ? item?.previousElementSibling : null;
  if (next) { event.preventDefault(); next.querySelector("button")?.focus(); }
});
addEventListener("resize", () => { series.draw(); redraw(); });
panels.legend();
connect();
