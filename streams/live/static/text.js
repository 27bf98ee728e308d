// Text on the map.

export const FONT = "11px system-ui, sans-serif";
const APART = 9; // pixels between a mark and its name

/** Write over whatever is below. */
export function write(/** @type {import("./map.js").BeliefMap} */ { pen, colours }, /** @type {string} */ text, /** @type {number} */ x, /** @type {number} */ y, colour = colours.dim) {
  pen.lineWidth = 3;
  pen.lineJoin = "round";
  pen.strokeStyle = colours.back;
  pen.strokeText(text, x, y);
  pen.fillStyle = colour;
  pen.fillText(text, x, y);
}

/** Where a text begins that stands beside a mark: to its right, or to its left where the map ends. */
export function beside(/** @type {import("./map.js").BeliefMap} */ { pen, width }, /** @type {string} */ text, /** @type {number} */ x) {
  const wide = pen.measureText(text).width;
  return x + APART + wide < width ? x + APART : x - APART - wide;
}
