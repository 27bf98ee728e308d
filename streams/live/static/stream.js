// The state of the stream, which is not that of the connection to the page's server: how old what is shown is, and why.

import { span } from "./age.js";
import { find } from "./dom.js";
import { clock } from "./past.js";

const SILENT = 5; // seconds without a frame, which come every second; then the server, or the way to it, is away
const QUIET = 10; // seconds without a posterior

/** @typedef {{fault: string | null, silence: number, posterior?: number, observation?: number}} Told by the server: why and
 *   for how many seconds the broker has not answered, and the ages of the newest messages, if there is one */

export class StreamState {
  constructor() {
    /** @type {Told | null} */
    this.told = null;
    this.heard = performance.now(); // when the last frame came
    this.newest = 0; // time of the newest posterior, by this machine's clock, seconds since the epoch
  }

  /** A frame has come. */
  frame() { this.heard = performance.now(); }

  /** Seconds since the last frame. */
  get silence() { return (performance.now() - this.heard) / 1000; }

  hear(/** @type {Told} */ told) {
    this.told = told;
    if (told.posterior !== undefined) {
      const newest = Date.now() / 1000 - told.posterior;
      // messages take a while to come, so that the same posterior would seem to move
      if (Math.abs(newest - this.newest) > 1) this.newest = newest;
    }
  }

  /** @returns {["" | "quiet" | "stale", string, number | null, string]} how far what is shown can be relied on, the state, for how many seconds, and why */
  judge() {
    const { told, silence } = this;
    if (silence > SILENT) return ["stale", "no answer from this page's server", silence, "It has ended, or the way to it is broken; the page tries again."];
    if (!told) return ["", "connecting", null, ""];
    const { fault, posterior, observation } = told, newest = Math.min(posterior ?? Infinity, observation ?? Infinity);
    if (fault) return ["stale", "no message from Kafka", newest < Infinity ? newest : told.silence, fault];
    if (posterior === undefined) return ["quiet", "no posterior yet", null, ""];
    if (posterior < QUIET) return ["", "live", null, ""];
    if (newest < QUIET) return ["stale", "observations come, but no posterior", posterior, "No worker is there, or it is far behind."];
    return ["quiet", "no message from Kafka", newest, "The broker answers: nobody sends."];
  }

  /** Show the state; returns whether what the page shows is out of date. */
  show() {
    const [kind, text, seconds, why] = this.judge(), status = find("#status", HTMLElement);
    if (status.textContent !== text) status.textContent = text; // read aloud, once
    find("#since", HTMLElement).textContent = seconds === null ? "" : ` for ${span(seconds)}`;
    find("#said", HTMLElement).title = why;
    for (const each of ["quiet", "stale"]) document.body.classList.toggle(each, each === kind);
    find("#newest", HTMLElement).textContent = this.newest ? `last posterior ${moment(this.newest)}` : "";
    return kind === "stale";
  }
}

/** The time of day, with the date if it is not of today. */
function moment(/** @type {number} */ time) {
  const date = new Date(1000 * time);
  return date.toDateString() === new Date().toDateString() ? clock(time) : `${date.toLocaleDateString()} ${clock(time)}`;
}
