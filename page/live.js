// The stream of figures, which all views share: the last hour, and what each second adds.

import { tokens } from "./api.js";
import { follow } from "./sse.js";

/** @typedef {import("openapi").components["schemas"]["Figures"]} Figures
 * @typedef {import("openapi").components["schemas"]["Sample"]} Sample
 * @typedef {import("openapi").components["schemas"]["Samples"]} Samples
 * @typedef {import("openapi").components["schemas"]["Window"]} Window */

/** Seconds without figures after which what is shown is old. */
const STALE_MS = 4_000;
/** A page that nobody sees for this long gives its connection back: browsers have few for one host. */
const HIDDEN_MS = 60_000;
const COLUMNS = /** @type {const} */ (["stored", "duplicates", "conflicts", "rejected", "commits", "commit_bytes", "commit_p50_us", "commit_p99_us"]);
const MOST = { seconds: 300, tens: 360 };

/** Tells of "change": new figures, or another state. */
class Live extends EventTarget {
  constructor() {
    super();
    /** @type {"loading"|"open"|"stale"|"lost"|"refused"|"hidden"} */
    this.state = "loading";
    /** Why there are none. @type {import("./api.js").Refused|null} */
    this.why = null;
    /** @type {Figures|null} */
    this.figures = null;
    /** @type {Window|null} */
    this.window = null;
    this.stop = new AbortController();
    this.staleness = 0;
    this.hiding = 0;
  }

  start() {
    tokens.addEventListener("token", () => this.again());
    document.addEventListener("visibilitychange", () => this.seen());
    this.again();
  }

  /** Asks for the stream, and ends the one before. */
  again() {
    this.stop.abort();
    this.stop = new AbortController();
    const { signal } = this.stop;
    if (!this.figures) this.turn("loading", null);
    follow(() => "/live", signal, (messages) => this.take(messages), (state, why) => {
      if (signal.aborted || state === "open") return;
      if (state === "refused") {
        this.figures = null;
        this.window = null;
      }
      this.turn(state, why ?? null);
    });
  }

  seen() {
    clearTimeout(this.hiding);
    if (document.hidden) {
      this.hiding = window.setTimeout(() => {
        this.stop.abort();
        this.turn("hidden", null);
      }, HIDDEN_MS);
    } else if (this.state === "hidden") {
      this.again();
    }
  }

  /** @param {import("./sse.js").Message[]} messages */
  take(messages) {
    for (const { kind, data } of messages) {
      if (kind === "window") this.window = JSON.parse(data);
      if (kind !== "figures") continue;
      this.figures = JSON.parse(data);
      if (this.window && this.figures) {
        add(this.window.seconds, this.figures.second, MOST.seconds);
        add(this.window.tens, this.figures.ten, MOST.tens);
      }
    }
    clearTimeout(this.staleness);
    this.staleness = window.setTimeout(() => {
      if (this.state === "open") this.turn("stale", null);
    }, STALE_MS);
    this.turn("open", null);
  }

  /** @param {Live["state"]} state @param {Live["why"]} why */
  turn(state, why) {
    this.state = state;
    this.why = why;
    this.dispatchEvent(new Event("change"));
  }

  /** Events stored a second, over the last few: one second alone jumps about. */
  rate() {
    const stored = known(this.window?.seconds.stored.slice(-5));
    return stored.length === 0 ? null : stored.reduce((sum, one) => sum + one, 0) / stored.length;
  }
}

/** The entries of a list that did not go by while this page read slowly.
 * @param {(number|null)[]|undefined} points */
export const known = (points) => /** @type {number[]} */ ((points ?? []).filter((point) => point != null));

/** Adds a sample, unless the window has it already. Those that went by while this page read slowly are gaps.
 * @param {Samples} samples @param {Sample|null|undefined} sample @param {number} most */
function add(samples, sample, most) {
  if (!sample || sample.number <= samples.number) return;
  const gaps = Array(Math.min(most, sample.number - samples.number - 1)).fill(null);
  samples.number = sample.number;
  for (const name of COLUMNS) {
    const column = /** @type {(number|null)[]} */ (samples[name]);
    column.push(...gaps, sample[name]);
    column.splice(0, column.length - most);
  }
}

export const live = new Live();
