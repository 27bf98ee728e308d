// The address keeps the view, the selection and the filters after its #, so that it can be sent on and come back to.

const WAIT = 300; // milliseconds between two changes of the address: browsers allow a few a second
const VIEW = ["x", "y", "width"]; // of the map: its centre, and how much of the first coordinate it shows

/** @typedef {{[name: string]: string}} Parts */

export class Address {
  /** @param {(parts: Parts) => void} changed called when somebody has put another address */
  constructor(changed) {
    this.waiting = 0;
    addEventListener("hashchange", () => changed(this.parts));
  }

  /** @returns {Parts} */
  get parts() { return Object.fromEntries(new URLSearchParams(location.hash.slice(1))); }

  /** Have the address say what `parts` returns, soon; no entry is added to the browser's history. */
  keep(/** @type {() => Parts} */ parts) {
    this.waiting ||= setTimeout(() => {
      this.waiting = 0;
      const text = String(new URLSearchParams(parts()));
      if (text !== location.hash.slice(1)) history.replaceState(null, "", text ? `#${text}` : location.pathname + location.search);
    }, WAIT);
  }
}

/**
 * The view of a map.
 *
 * @param {import("./map.js").BeliefMap} map
 * @param {number} stretch units of the map in one of the first coordinate
 * @returns {Parts}
 */
export function viewOf(map, stretch) {
  if (!map.touched || !map.fitted) return {}; // it follows what there is
  const numbers = [(map.left + map.width / 2 / map.scale) / stretch, map.bottom + map.height / 2 / map.scale, map.width / map.scale / stretch];
  return Object.fromEntries(VIEW.map((name, i) => [name, String(+numbers[i].toPrecision(7))]));
}

/**
 * Have a map show the view, if it says one.
 *
 * @param {import("./map.js").BeliefMap} map
 * @param {number} stretch
 * @param {Parts} parts
 */
export function goTo(map, stretch, parts) {
  const [x, y, width] = VIEW.map((name) => parts[name]?.trim() ? Number(parts[name]) : NaN);
  if (!Number.isFinite(x + y) || !(width > 0 && width < Infinity)) return;
  map.resize();
  map.scale = map.width / width / stretch;
  map.left = x * stretch - map.width / 2 / map.scale;
  map.bottom = y - map.height / 2 / map.scale;
  map.touched = map.fitted = true;
}
