// A prior: ellipses drawn on the map or typed in, sent to the server, and the posterior that answers it.
import { find } from "./dom.js";
import { R90 } from "./map.js";

/** @typedef {import("./map.js").Ellipse} Ellipse */

/** @type {Record<keyof Ellipse, string>} */
const FIELDS = { x: "#axis-x", y: "#axis-y", rx: "half-width", ry: "half-height", angle: "angle °", weight: "weight" }; // headings, or where they are
const LEAST = 3; // pixels; a shorter drag is a click

export class PriorForm {
  /**
   * @param {HTMLFormElement} form
   * @param {import("./map.js").BeliefMap} map
   * @param {() => void} changed called when the map shall be drawn again
   * @param {(name: string) => import("./frames.js").Entity | null} known returns an entity that the page knows
   */
  constructor(form, map, changed, known) {
    this.form = form;
    this.map = map;
    this.changed = changed;
    this.known = known;
    this.rows = find("#ellipses", HTMLTableSectionElement);
    this.answer = find("#answer", HTMLOutputElement);
    this.drawing = false;
    /** @type {Ellipse | null} */
    this.draft = null; // the ellipse under the mouse
    /** @type {{entity: string, prior_sequence: number, place: string} | null} */
    this.sent = null; // what the broker has, and no posterior shows yet
    /** @type {import("./panels.js").Details | null} */
    this.seen = null; // the newest details; they may come before the answer to the prior that they have taken in
    form.addEventListener("submit", (event) => { event.preventDefault(); this.send(); });
    this.rows.addEventListener("input", (event) => { if (event.target instanceof HTMLInputElement) this.typed(event.target); });
    find("#add", HTMLButtonElement).addEventListener("click", () => this.addInTheMiddle());
    find("#clear", HTMLButtonElement).addEventListener("click", () => this.clear());
  }

  get ellipses() { return this.map.ellipses; }

  /** Units of the map in one of the first coordinate. */
  get stretch() { return this.map.world.earth?.kind === "degrees" ? this.map.world.earth.stretch : 1; }

  /** Draw an ellipse from its centre to a corner of its box. */
  begin(/** @type {[number, number]} */ [x, y]) {
    this.draft = { x, y, rx: 0, ry: 0, angle: 0, weight: 1 };
    this.ellipses.push(this.draft);
  }

  drag(/** @type {[number, number]} */ [x, y]) {
    if (!this.draft) return;
    this.draft.rx = Math.abs(x - this.draft.x);
    this.draft.ry = Math.abs(y - this.draft.y);
    this.changed();
  }

  /** End drawing; returns whether an ellipse has been drawn. */
  end() {
    if (!this.draft) return false;
    const drawn = Math.max(this.draft.rx, this.draft.ry) * this.map.scale >= LEAST, least = LEAST / this.map.scale;
    if (drawn) Object.assign(this.draft, { rx: Math.max(this.draft.rx, least), ry: Math.max(this.draft.ry, least) });
    else this.ellipses.pop();
    this.draft = null;
    this.list();
    return drawn;
  }

  addInTheMiddle() {
    const { map } = this, radius = Math.min(map.width, map.height) / 8 / map.scale;
    const [x, y] = [map.left + map.width / 2 / map.scale, map.bottom + map.height / 2 / map.scale];
    this.ellipses.push({ x, y, rx: radius, ry: radius, angle: 0, weight: 1 });
    this.list();
  }

  clear() {
    this.ellipses.length = 0;
    this.list();
  }

  /** Write the ellipses into the form. */
  list() {
    this.rows.replaceChildren(...this.ellipses.map((ellipse, i) => {
      const row = document.createElement("tr");
      for (const [field, heading] of Object.entries(FIELDS)) {
        const input = Object.assign(document.createElement("input"), { type: "number", step: "any", required: true });
        input.value = String(+(ellipse[/** @type {keyof Ellipse} */ (field)] / (field === "x" ? this.stretch : 1)).toPrecision(field === "x" || field === "y" ? 9 : 7));
        input.dataset.field = field;
        input.setAttribute("aria-label", `${field} of ellipse ${i + 1}`);
        if (["rx", "ry", "weight"].includes(field)) input.min = "0";
        const cell = row.insertCell();
        cell.dataset.name = heading.startsWith("#") ? find(heading, HTMLElement).textContent ?? "" : heading;
        cell.append(input);
      }
      const remove = Object.assign(document.createElement("button"), { type: "button", textContent: "×" });
      remove.setAttribute("aria-label", `remove ellipse ${i + 1}`);
      remove.addEventListener("click", () => { this.ellipses.splice(i, 1); this.list(); });
      row.insertCell().append(remove);
      return row;
    }));
    this.changed();
  }

  typed(/** @type {HTMLInputElement} */ input) {
    const row = input.closest("tr"), field = /** @type {(keyof Ellipse)[]} */ (Object.keys(FIELDS)).find((each) => each === input.dataset.field);
    if (!row || !field) return;
    const factor = field === "x" ? this.stretch : 1;
    if (Number.isFinite(input.valueAsNumber)) this.ellipses[row.sectionRowIndex][field] = factor * input.valueAsNumber;
    this.changed();
  }

  /** What a field of the form says. */
  value(/** @type {string} */ name) {
    const field = this.form.elements.namedItem(name);
    return field instanceof HTMLInputElement || field instanceof HTMLSelectElement ? field.value : "";
  }

  async send() {
    const [entity, mode, when] = ["entity", "mode", "when"].map((name) => this.value(name));
    if (!this.ellipses.length) { this.answer.textContent = "Draw an ellipse first, or add one."; return; }
    /** @type {Record<string, unknown>} */
    const body = { entity, mode, coordinates: this.map.world.plane.map((each) => each.name), mixture: mixture(this.ellipses, this.stretch) };
    const known = this.known(entity);
    if (when === "newest" && known) body.time = known.time;
    this.answer.textContent = "sending";
    try {
      const response = await fetch("priors", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
      if (response.status === 401) { this.answer.textContent = "Not sent: your session has ended. Log in in another tab, then send again."; return; }
      const told = await response.json().catch(() => ({ error: `status ${response.status}` }));
      if (!response.ok) { this.answer.textContent = `Refused: ${told.error}`; return; }
      this.sent = told;
      this.answer.textContent = `Sent (${told.place}); waiting for the next posterior.`;
      if (this.seen) this.see(this.seen);
    } catch (error) {
      this.answer.textContent = `Not sent: ${error instanceof Error ? error.message : error}`;
    }
  }

  /** Tell when a posterior of the entity has taken the prior in. */
  see(/** @type {import("./panels.js").Details} */ details) {
    this.seen = details;
    if (!this.sent || details.name !== this.sent.entity || details.prior_sequence <= this.sent.prior_sequence) return;
    this.answer.textContent = `Applied: posterior ${details.sequence} has prior ${details.prior_sequence}, sample efficiency ${details.efficiency.toFixed(2)}, ${details.method}.`;
    this.sent = null;
  }
}

/**
 * The Gaussian mixture whose components hold 90 % in the ellipses.
 *
 * @param {Ellipse[]} ellipses
 * @param {number} stretch units of the map in one of the first coordinate
 */
export function mixture(ellipses, stretch = 1) {
  const total = ellipses.reduce((sum, each) => sum + each.weight, 0);
  const covariance = (/** @type {Ellipse} */ { rx, ry, angle }) => {
    const c = Math.cos(angle * Math.PI / 180), s = Math.sin(angle * Math.PI / 180), a = (rx / R90) ** 2, b = (ry / R90) ** 2;
    const xx = (a * c * c + b * s * s) / stretch ** 2, xy = (a - b) * c * s / stretch;
    return [[xx, xy], [xy, a * s * s + b * c * c]];
  };
  return {
    weights: ellipses.map((each) => each.weight / total),
    means: ellipses.map((each) => [each.x / stretch, each.y]),
    covariances: ellipses.map(covariance),
  };
}
