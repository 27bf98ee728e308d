// The colours of app.css, for the canvas.

const NAMES = /** @type {const} */ (["back", "panel", "line", "text", "dim", "belief", "selected", "poor", "prior"]);

/** @typedef {Record<typeof NAMES[number], string>} Colours */

/** @returns {Colours} as they are now: a change of scheme is seen with the next drawing */
export function colours() {
  const style = getComputedStyle(document.documentElement);
  return /** @type {Colours} */ (Object.fromEntries(NAMES.map((name) => [name, style.getPropertyValue(`--${name}`)])));
}
