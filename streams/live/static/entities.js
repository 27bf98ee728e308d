// The list of entities: filtered, grouped, each with its age. The map shows what passes the filters, too.

import { age, span } from "./age.js";
import { find } from "./dom.js";

const MOST = 300; // entities listed
const FILTERS = ["search", "only", "model", "group"]; // by id
const SEPARATORS = /[-_/.: ]*[^-_/.: ]*$/; // what a name has after that of its group
const { compare } = new Intl.Collator(undefined, { numeric: true });

/**
 * @typedef {import("./frames.js").Entity} Entity
 * @typedef {{now: number, silence: number, low: number}} Limits the time, seconds after which an entity is silent, and
 *   what is a low sample efficiency
 */

export class EntityList {
  /**
   * @param {(name: string) => void} select
   * @param {() => void} changed called when other entities pass
   */
  constructor(select, changed) {
    this.select = select;
    this.fields = FILTERS.map((id) => find(`#${id}`, HTMLElement)).filter((each) => each instanceof HTMLInputElement || each instanceof HTMLSelectElement);
    /** @type {Map<number, string>} */
    this.models = new Map(); // of the entities, by number
    /** @type {Set<string>} */
    this.closed = new Set(); // groups
    /** @type {Map<string, HTMLLIElement>} */
    this.rows = new Map();
    this.place = find("#list", HTMLUListElement);
    for (const field of this.fields) field.addEventListener("input", changed);
    this.place.addEventListener("keydown", (event) => this.move(event));
  }

  /** What the filters say, by name; those that say nothing are left out. */
  get filters() { return Object.fromEntries(this.fields.filter((each) => each.value).map((each) => [each.id, each.value])); }

  set filters(wanted) {
    for (const field of this.fields) {
      const value = wanted[field.id] ?? "";
      if (field.id === "model" && value) this.offer([value]); // it may come later
      field.value = value;
    }
  }

  /** Have these models among the choices. */
  offer(/** @type {Iterable<string>} */ names) {
    const choice = find("#model", HTMLSelectElement), known = new Set([...choice.options].map((each) => each.value));
    for (const name of names) if (!known.has(name)) choice.add(new Option(name));
  }

  /** @returns {(entity: Entity) => boolean} whether an entity passes */
  passes(/** @type {Limits} */ { now, silence, low }) {
    const { search = "", only, model } = this.filters, text = search.trim().toLowerCase();
    return (entity) => (!text || entity.name.toLowerCase().includes(text)) && (!model || this.models.get(entity.id) === model)
      && (!only || (only === "poor" ? entity.efficiency < low : (age(entity, now) > silence) === (only === "silent")));
  }

  /** Whether all entities pass. */
  get isOpen() { return !["search", "only", "model"].some((name) => name in this.filters); }

  /**
   * List entities.
   *
   * @param {Iterable<Entity>} entities that pass
   * @param {string | null} selected
   * @param {Limits} limits
   */
  show(entities, selected, limits) {
    this.offer(this.models.values());
    const found = [...entities].sort((a, b) => compare(a.name, b.name)), shown = found.slice(0, MOST);
    /** @type {Map<string, Entity[]>} */
    const groups = new Map();
    for (const entity of shown) {
      const group = this.groupOf(entity, limits), members = groups.get(group) ?? [];
      groups.set(group, members);
      members.push(entity);
    }
    const rows = [];
    for (const [group, members] of [...groups].sort(([a], [b]) => compare(a, b))) {
      if (group) rows.push(this.heading(group, members.length));
      if (!this.closed.has(group)) rows.push(...members.map((entity) => this.row(entity, selected, limits)));
    }
    if (rows.length !== this.place.children.length || rows.some((row, i) => row !== this.place.children[i])) {
      const focused = document.activeElement;
      this.place.replaceChildren(...rows);
      if (focused instanceof HTMLElement && this.place.contains(focused)) focused.focus();
    }
    if (this.rows.size > 4 * MOST) this.rows = new Map([...this.rows].filter(([, row]) => row.isConnected));
    find("#rest", HTMLElement).textContent = found.length > MOST ? `and ${found.length - MOST} more` : found.length ? "" : this.isOpen ? "no entity" : "no entity passes the filters";
  }

  groupOf(/** @type {Entity} */ entity, /** @type {Limits} */ { now, silence }) {
    switch (this.filters.group) {
      case "model": return this.models.get(entity.id) || "unknown model";
      case "name": return entity.name.replace(SEPARATORS, "") || "others";
      case "state": return age(entity, now) > silence ? "silent" : "heard lately";
      default: return "";
    }
  }

  /** The row of a key, with a button that is pressed. */
  made(/** @type {string} */ key, /** @type {string} */ text, /** @type {() => void} */ press) {
    const known = this.rows.get(key);
    if (known) return known;
    const row = document.createElement("li"), button = Object.assign(document.createElement("button"), { type: "button", textContent: text });
    button.addEventListener("click", press);
    row.append(button);
    this.rows.set(key, row);
    return row;
  }

  row(/** @type {Entity} */ entity, /** @type {string | null} */ selected, /** @type {Limits} */ { now, silence, low }) {
    const { name, efficiency } = entity, seconds = age(entity, now);
    const row = this.made(`entity ${name}`, name, () => this.select(name));
    const told = row.querySelector("span") ?? row.appendChild(Object.assign(document.createElement("span"), { className: "age" }));
    if (told.textContent !== span(seconds)) told.textContent = span(seconds);
    told.title = `newest posterior ${span(seconds)} ago${efficiency < low ? `, sample efficiency ${efficiency.toFixed(2)}` : ""}`;
    row.classList.toggle("silent", seconds > silence);
    row.classList.toggle("poor", efficiency < low);
    row.firstElementChild?.setAttribute("aria-current", String(name === selected));
    return row;
  }

  heading(/** @type {string} */ group, /** @type {number} */ count) {
    const row = this.made(`group ${group}`, "", () => {
      if (!this.closed.delete(group)) this.closed.add(group);
      this.fields[0].dispatchEvent(new Event("input"));
    });
    row.className = "group";
    if (row.firstElementChild) row.firstElementChild.textContent = `${group} (${count})`;
    row.firstElementChild?.setAttribute("aria-expanded", String(!this.closed.has(group)));
    return row;
  }

  /** Arrow keys go through the list. */
  move(/** @type {KeyboardEvent} */ event) {
    const item = event.target instanceof Element ? event.target.closest("li") : null;
    const next = event.key === "ArrowDown" ? item?.nextElementSibling : event.key === "ArrowUp" ? item?.previousElementSibling : null;
    if (next) { event.preventDefault(); next.querySelector("button")?.focus(); }
  }
}
