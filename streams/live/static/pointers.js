// Mouse, pen and fingers on the map: one moves it, selects, or draws a prior; two zoom.

const SLOP = { mouse: 3, touch: 8 }; // pixels: what moves less selects
const REACH = { mouse: 14, touch: 24 }; // pixels around what is selected
const WHEEL = 500; // pixels of a wheel for a factor of e
const PINCH = 100; // of two fingers on a touchpad, which come as a wheel with Ctrl

/**
 * @param {import("./map.js").BeliefMap} map
 * @param {import("./priors.js").PriorForm} form
 * @param {{select: (name: string) => void, draw: (on: boolean) => void, redraw: () => void}} page
 */
export function listen(map, form, { select, draw, redraw }) {
  const { canvas } = map;
  /** @type {Map<number, {clientX: number, clientY: number}>} */
  const down = new Map(); // pointers, by where they were last
  let moved = false;
  const kind = (/** @type {PointerEvent} */ event) => event.pointerType === "touch" ? "touch" : "mouse";

  /** Forget an ellipse that is being drawn. */
  function drop() {
    if (form.draft) { form.drag([form.draft.x, form.draft.y]); form.end(); }
  }

  canvas.addEventListener("pointerdown", (event) => {
    if (event.pointerType === "mouse" && event.button) return;
    canvas.setPointerCapture(event.pointerId);
    down.set(event.pointerId, event);
    map.hover = null;
    moved = down.size > 1;
    if (moved) drop();
    else if (form.drawing) form.begin(map.at(event));
  });

  canvas.addEventListener("pointermove", (event) => {
    const before = down.get(event.pointerId);
    if (!before) {
      if (event.pointerType === "mouse") { map.hover = map.at(event); redraw(); }
      return;
    }
    const dx = event.clientX - before.clientX, dy = event.clientY - before.clientY;
    if (form.draft) { form.drag(map.at(event)); down.set(event.pointerId, event); }
    else if (moved || Math.hypot(dx, dy) > SLOP[kind(event)]) {
      const other = [...down].find(([id]) => id !== event.pointerId)?.[1];
      if (other) pinch(other, before, event); else map.pan(dx, dy);
      moved = true;
      down.set(event.pointerId, event);
      redraw();
    }
  });

  /** The places under both fingers stay there. */
  function pinch(/** @type {MouseLike} */ still, /** @type {MouseLike} */ before, /** @type {MouseLike} */ now) {
    const far = (/** @type {MouseLike} */ each) => Math.max(1, Math.hypot(each.clientX - still.clientX, each.clientY - still.clientY));
    map.pan((now.clientX - before.clientX) / 2, (now.clientY - before.clientY) / 2);
    const middle = { clientX: (still.clientX + now.clientX) / 2, clientY: (still.clientY + now.clientY) / 2 };
    map.zoom(far(now) / far(before), ...map.at(middle));
  }

  function up(/** @type {PointerEvent} */ event) {
    if (!down.delete(event.pointerId)) return;
    if (event.type === "pointercancel") drop();
    else if (form.draft) { if (form.end()) draw(false); }
    else if (!moved && !down.size) {
      const found = map.pick(...map.at(event), REACH[kind(event)]);
      if (found) select(found.name);
    }
  }

  canvas.addEventListener("pointerup", up);
  canvas.addEventListener("pointercancel", up);
  canvas.addEventListener("pointerleave", () => { map.hover = null; redraw(); });
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const pixels = event.deltaY * (event.deltaMode ? 16 : 1);
    map.zoom(Math.exp(-pixels / (event.ctrlKey ? PINCH : WHEEL)), ...map.at(event));
    redraw();
  }, { passive: false });
}

/** @typedef {{clientX: number, clientY: number}} MouseLike */
