// The page: frames from the server, the map and what stands beside it, keys.
import { Address, goTo as goToView, viewOf } from "./address.js";
import { find } from "./dom.js";
import { EntityList } from "./entities.js";
import { apply, mean, sentAt } from "./frames.js";
import { BeliefMap } from "./map.js";
import * as panels from "./panels.js";
import { PastSlider } from "./past.js";
import { listen } from "./pointers.js";
import { PriorForm } from "./priors.js";
import { Series } from "./series.js";
import * as sheets from "./sheets.js";
import { StreamState } from "./stream.js";

/**
 * @typedef {{time: number, health: import("./panels.js").Health, verdicts: Record<string, string>}} Past
 * @typedef {{whole?: boolean, range?: [number, number], past?: Past, methods?: string[], gone?: number[],
 *   names?: [number, string, string?][], plane?: import("./series.js").Coordinate[], earth?: import("./earth.js").EarthNote | null,
 *   sensors?: import("./sensors.js").Sensor[], verdicts?: Record<string, import("./sensors.js").Verdict>,
 *   health?: import("./panels.js").Health, letters?: import("./panels.js").Letter[],
 *   details?: import("./panels.js").Details, stream?: import("./stream.js").Told, may_write?: boolean}} Notes what the
 *   server sends as JSON
 */

const RETRY = 1000; // milliseconds
const LIST = 500; // milliseconds between two changes of the list
const SECOND = 1000; // milliseconds: ages rise, whether a frame comes or not
const STEP = 60; // pixels that an arrow key moves the map

const canvas = find("#canvas", HTMLCanvasElement);
/** @type {Map<number, import("./frames.js").Entity>} */
const all = new Map(); // entities; the map has those that pass the filters of the list
/** @type {import("./map.js").World} */
const world = { entities: all, names: new Map(), methods: [], sensors: [], verdicts: {}, plane: [], earth: null, low: 0.5, drawn: 1 };
const map = new BeliefMap(canvas, world, redraw);
const series = new Series(find("#chart", HTMLCanvasElement));
const form = new PriorForm(find("#prior", HTMLFormElement), map, redraw, byName);
const past = new PastSlider(find("#time", HTMLInputElement), find("#shown", HTMLOutputElement), goTo);
const stream = new StreamState();
const list = new EntityList(select, () => { filter(); listSoon(); redraw(); });
const address = new Address(open);
/** @type {WebSocket} */
let socket;
/** @type {string | null} */
let selected = null;
/** @type {import("./address.js").Parts | null} */
let wanted = null; // a view that is shown once it is known where the map is
let acknowledge = false, waiting = false, listing = 0, writes = true;
let sent = 0; // time of the newest frame by the server's clock, seconds since the epoch
Object.assign(window, { beliefstream: { world, map, series, past } }); // to look at from the console

function connect() {
  const address = new URL("ws", document.baseURI);
  address.protocol = address.protocol.replace("http", "ws");
  socket = new WebSocket(address);
  socket.binaryType = "arraybuffer";
  socket.onopen = () => {
    if (selected !== null) send({ type: "select", name: selected });
    if (past.moment !== null) past.show(past.moment);
  };
  socket.onmessage = ({ data }) => typeof data === "string" ? hear(JSON.parse(data)) : frame(data);
  socket.onclose = reconnect;
}

/** Connect again, or show the login if the session has ended: a WebSocket does not tell why it was refused. */
async function reconnect() {
  const answer = await fetch("layers").catch(() => null);
  if (answer?.status === 401) location.reload(); // which the server answers with the login
  else setTimeout(connect, RETRY);
}

function send(/** @type {Record<string, unknown>} */ message) { if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message)); }

/** What comes as JSON before a frame. */
function hear(/** @type {Notes} */ notes) {
  if (notes.may_write !== undefined) { writes = notes.may_write; document.body.classList.toggle("looks", !writes); }
  if (notes.whole) { forget(); world.names.clear(); listSoon(); }
  if (notes.range) past.range(...notes.range);
  if (notes.past) hearPast(notes.past);
  if (notes.methods) world.methods = notes.methods;
  for (const id of notes.gone ?? []) for (const each of [all, world.names, list.models]) each.delete(id);
  for (const [id, name, model] of notes.names ?? []) { world.names.set(id, name); if (model !== undefined) list.models.set(id, model); }
  if (notes.plane) { world.plane = notes.plane; panels.plane(notes.plane); }
  if (notes.earth !== undefined) world.earth = notes.earth;
  if (notes.sensors) { world.sensors = notes.sensors; map.fitted &&= map.touched; } // a view that nobody has chosen takes them in
  if (notes.verdicts) world.verdicts = notes.verdicts;
  if (notes.sensors || notes.verdicts) panels.sensors(world.sensors, world.verdicts);
  if (notes.health) { world.low = notes.health.low; panels.health(notes.health, select); }
  if (notes.letters) panels.letters(notes.letters);
  if (notes.stream) stream.hear(notes.stream);
  if (notes.details && notes.details.name === selected) {
    series.add(notes.details);
    map.reports = notes.details.observations.map((each) => each.sensor);
    panels.details(notes.details, series.now());
    form.see(notes.details);
  }
  if (notes.names || notes.gone) listSoon();
}

/** The beliefs that follow are of another time than those that are shown. */
function forget() { all.clear(); map.selected = null; }

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
  apply(data, all, world.names, world.methods);
  sent = sentAt(data);
  stream.frame();
  tick();
  if (selected !== null && map.selected?.name !== selected) map.selected = byName(selected);
  if (wanted && world.plane.length) { goToView(map, form.stretch, wanted); wanted = null; }
  acknowledge = true;
  redraw();
}

/** What changes with time alone. */
function tick() {
  const stale = stream.show();
  map.now = past.moment ?? sent + stream.silence;
  if (stale !== map.stale) { map.stale = stale; redraw(); }
  filter();
}

const limits = () => ({ now: map.now, silence: map.silence, low: world.low });

/** Have the map show what passes the filters. */
function filter() {
  const passes = list.passes(limits());
  world.entities = list.isOpen ? all : new Map([...all].filter(([, entity]) => passes(entity)));
}

/** Draw with the next picture of the screen; only then is the frame acknowledged. */
function redraw() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    resize();
    map.draw();
    address.keep(parts);
    if (acknowledge) { acknowledge = false; world.drawn++; send({ type: "drawn" }); }
  });
}

function byName(/** @type {string} */ name) {
  for (const entity of all.values()) if (entity.name === name) return entity;
  return null;
}

function select(/** @type {string | null} */ name) {
  map.touched = true;
  selected = name;
  map.selected = name === null ? null : byName(name);
  map.reports = [];
  series.clear();
  if (name !== null) find("input[name=entity]", HTMLInputElement).value = name;
  panels.selected(name);
  sheets.name(name);
  bringIntoView();
  if (document.body.dataset.open === "entities") sheets.open(null); // it lies on the map
  send({ type: "select", name });
  showList();
  redraw();
}

/** Move the map to the selected entity if that is not in view. */
function bringIntoView() {
  const middle = map.selected && mean(map.selected);
  if (!middle) return;
  const x = map.x(middle[0]), y = map.y(middle[1]);
  if (x < 0 || y < 0 || x > map.width || y > map.height) map.pan(map.width / 2 - x, map.height / 2 - y);
}

/** Keep the middle of the map where it is when its size changes. */
function resize() {
  const { width, height, scale } = map, x = map.left + width / 2 / scale, y = map.bottom + height / 2 / scale;
  map.resize();
  if (!map.touched || (map.width === width && map.height === height)) return;
  map.left = x - map.width / 2 / scale;
  map.bottom = y - map.height / 2 / scale;
  bringIntoView();
}

function listSoon() { listing ||= setTimeout(showList, LIST); }

function showList() {
  clearTimeout(listing);
  listing = 0;
  list.show(world.entities.values(), selected, limits());
}

/** @returns {import("./address.js").Parts} what the address keeps */
function parts() {
  return wanted ?? { ...(selected !== null && { entity: selected }), ...list.filters, ...viewOf(map, form.stretch) };
}

/** Show what an address says. */
function open(/** @type {import("./address.js").Parts} */ said) {
  list.filters = said;
  wanted = said;
  const touched = map.touched;
  if ((said.entity ?? null) !== selected) select(said.entity ?? null);
  map.touched = touched;
  filter();
  showList();
  redraw();
}

function draw(/** @type {boolean} */ on) {
  if (on && !writes) return;
  map.touched = true;
  if (form.drawing && !on && form.ellipses.length) sheets.showPrior();
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
const sized = new ResizeObserver(() => { series.draw(); redraw(); });
for (const each of [canvas, series.canvas]) sized.observe(each);
matchMedia("(prefers-color-scheme: light)").addEventListener("change", () => { panels.legend(); panels.sensors(world.sensors, world.verdicts); series.draw(); redraw(); });
setInterval(() => { tick(); listSoon(); }, SECOND);
sheets.listen();
panels.legend();
connect();
open(address.parts);
