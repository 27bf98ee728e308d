// Scrolls back: a slider over the minutes that the server remembers.

const STEP = 5; // seconds, as far apart as the server's snapshots

/** Seconds ago as minutes and seconds. */
const ago = (/** @type {number} */ seconds) => `−${Math.floor(seconds / 60)}:${String(Math.round(seconds % 60)).padStart(2, "0")}`;
/** A time of the day. */
export const clock = (/** @type {number} */ time) => new Date(1000 * time).toLocaleTimeString([], { hourCycle: "h23" });

export class PastSlider {
  /**
   * @param {HTMLInputElement} slider
   * @param {HTMLOutputElement} told
   * @param {(moment: number | null) => void} go called with the time to show, null for now
   */
  constructor(slider, told, go) {
    this.slider = slider;
    this.told = told;
    this.go = go;
    this.begin = this.now = 0; // seconds since the epoch
    /** @type {number | null} */
    this.moment = null; // that is asked for
    slider.step = String(STEP);
    slider.addEventListener("input", () => this.moved());
  }

  /** The server tells how far back it remembers. */
  range(/** @type {number} */ begin, /** @type {number} */ now) {
    this.begin = begin;
    this.now = now;
    this.slider.min = String(-STEP * Math.ceil((now - begin) / STEP));
    this.slider.value = String(this.moment === null ? 0 : this.moment - now);
    this.slider.disabled = begin >= now;
  }

  moved() {
    const back = Number(this.slider.value);
    this.show(back < 0 ? this.now + back : null);
  }

  /** Ask for a time, or for now. */
  show(/** @type {number | null} */ moment) {
    this.moment = moment;
    if (moment === null) { this.slider.value = "0"; this.told.textContent = "live"; }
    this.go(moment);
  }

  /** What the server has sent is of this time. */
  shown(/** @type {number} */ time) {
    this.told.textContent = `${ago(Math.max(0, this.now - time))} (${clock(time)})`;
  }
}
