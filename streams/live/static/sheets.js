// On a narrow screen, what stands beside the map comes over its lower part: one sheet at a time.

import { find } from "./dom.js";

const NARROW = matchMedia("(max-width: 899px)"); // as in app.css

const buttons = () => [...find("#sheets", HTMLElement).querySelectorAll("button")];

/** Open a sheet; null closes it. */
export function open(/** @type {string | null} */ sheet) {
  document.body.dataset.open = sheet ?? "";
  for (const button of buttons()) button.setAttribute("aria-expanded", String(button.dataset.sheet === sheet));
}

/** Give each button its sheet, and close the legend where there is little room. */
export function listen() {
  for (const button of buttons())
    button.addEventListener("click", () => open(document.body.dataset.open === button.dataset.sheet ? null : button.dataset.sheet ?? null));
  const legend = find("#legend", HTMLDetailsElement), fit = () => { legend.open = !NARROW.matches; };
  NARROW.addEventListener("change", fit);
  fit();
}

/** Name the selected entity on the button of its details. */
export function name(/** @type {string | null} */ entity) {
  for (const button of buttons()) if (button.dataset.sheet === "details") button.textContent = entity === null ? "Details" : `Details: ${entity}`;
}

/** Show what an ellipse has been drawn for: the form of the prior. */
export function showPrior() {
  const box = find("#prior-box", HTMLDetailsElement);
  box.open = true;
  if (NARROW.matches) { open("details"); box.scrollIntoView(); }
}
