// The page: frames from the server, the map and what stands beside it, mouse and keys.
import { apply } from "./frames.js";
import { BeliefMap } from "./map.js";
import * as panels from "./panels.js";
import { PastSlider } from "./past.js";
import { PriorForm } from "./priors.js";
import { Series } from "./series.js";

const RETRY = 1000; // milliseconds
const LIST = 500; // milliseconds between two changes of the list
const STEP = 60; // pixels that an arrow key moves the map

const canvas = document.querySelector("#canvas");
const world = { entities: new Map(), names: new Map(), methods: [], sensors: [], verdicts: {}, plane: [], earth: null, low: 0.5, drawn: 1 };
const map = new BeliefMap(canvas, world);
const series = new Series(document.querySelector("#chart"));
const form = new PriorForm(document.querySelector("#prior"), map, redraw);
const past = new PastSlider(document.querySelector("#time"), document.querySelector("#shown"), goTo);
let socket, selected = null, acknowledge = false, waiting = false, listing = 0;
window.beliefstream = { world, map, series, past }; // to look at from the console

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

function send(message) { if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message)); }

/** What comes as JSON before a frame. */
function hear(notes) {
  if (notes.whole) { forget(); world.names.clear(); listSoon(); }
  if (notes.range) past.range(...notes.range);
  if (notes.past) hearPast(notes.past);
  if (notes.methods) world.methods = notes.methods;
  for (const id of notes.gone ?? []) { world.entities.delete(id); world.names.delete(id); }
  for (const [id, name] of notes.names ?? []) world.names.set(id, name);
  if (notes.plane) { world.plane = notes.plane; panels.plane(notes.plane); }
  if ("earth" in notes) world.earth = notes.earth;
  if (notes.sensors) world.sensors = notes.sensors;
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

function hearPast({ time, health, verdicts }) {
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
function goTo(moment) {
  if (moment === null) { document.body.classList.remove("past"); series.mark(null); }
  send(moment === null ? { type: "live" } : { type: "past", time: moment });
}

function frame(data) {
  apply(data, world.entities, world.names, world.methods);
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

function byName(name) {
  for (const entity of world.entities.values()) if (entity.name === name) return entity;
  return null;
}

function select(name) {
  map.touched = true;
  selected = name;
  map.selected = name === null ? null : byName(name);
  map.reports = [];
  series.clear();
  if (name !== null) document.querySelector("#prior").elements.entity.value = name;
  panels.mark(name);
  send({ type: "select", name });
  redraw();
}

function listSoon() {
  if (listing) return;
  listing = setTimeout(() => { listing = 0; panels.list(world.entities, selected, select); }, LIST);
}

function draw(on) {
  map.touched = true;
  form.drawing = on;
  document.querySelector("#draw").setAttribute("aria-pressed", String(on));
  canvas.classList.toggle("drawing", on);
}

let last = null; // of the pointer that is down
canvas.addEventListener("pointerdown", (event) => {
  canvas.setPointerCapture(event.pointerId);
  last = { x: event.clientX, y: event.clientY, moved: false };
  if (form.drawing) form.begin(map.at(event));
});
canvas.addEventListener("pointermove", (event) => {
  if (!last) return;
  const dx = event.clientX - last.x, dy = event.clientY - last.y;
  if (form.draft) form.drag(map.at(event));
  else if (last.moved || Math.hypot(dx, dy) > 3) { map.pan(dx, dy); redraw(); Object.assign(last, { x: event.clientX, y: event.clientY, moved: true }); }
});
canvas.addEventListener("pointerup", (event) => {
  if (form.draft) { if (form.end()) draw(false); }
  else if (last && !last.moved) { const found = map.pick(...map.at(event)); if (found) select(found.name); }
  last = null;
});
canvas.addEventListener("wheel", (event) => { event.preventDefault(); map.zoom(Math.exp(-event.deltaY / 500), ...map.at(event)); redraw(); }, { passive: false });
canvas.addEventListener("keydown", (event) => {
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
document.querySelector("#draw").addEventListener("click", () => draw(!form.drawing));
document.querySelector("#fit").addEventListener("click", () => { map.fit(); redraw(); });
document.querySelector("#search").addEventListener("input", listSoon);
document.querySelector("#list").addEventListener("keydown", (event) => {
  const item = event.target.closest("li"), next = { ArrowDown: item?.nextSibling, ArrowUp: item?.previousSibling }[event.key];
  if (next) { event.preventDefault(); next.querySelector("button").focus(); }
});
addEventListener("resize", () => { series.draw(); redraw(); });
panels.legend();
connect();
