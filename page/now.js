// Now: how the service is, at one look.

import { KEPT, get } from "./api.js";
import { Chart } from "./chart.js";
import { h, pauser, put, say } from "./dom.js";
import { bytes, count, lasting, micros, ofAll, rate, short } from "./format.js";
import { known, live } from "./live.js";
import { refusals } from "./sources.js";
import { problem } from "./token.js";

/** Seconds over which the rate of refused webhooks is taken. */
const REFUSED_OVER = 10;
/** Figures of journals, which a store in a database does not have. */
const JOURNALS = ["Journals", "Checkpoint lag", "Generations"];

/** @type {import("./app.js").View} */
export const now = {
  path: "now",
  label: "Now",
  title: () => "Now",
  open({ root, params, signal, set }) {
    let range = params.get("range") === "hour" ? "tens" : "seconds";
    const banner = h("div", { class: "banner", role: "status" });
    const tiles = facts("tiles", "Totals", ["Stored", "Duplicates dropped", "Conflicts", "Rejected", "Topics"]);
    const rates = new Chart("Events a second", short);
    const commits = new Chart("Commit latency", micros);
    const choice = h("fieldset", { class: "choice" }, h("legend", { class: "unseen" }, "Range of the charts"),
      [["seconds", "5 minutes"], ["tens", "1 hour"]].map(([value, label]) => h("label", {},
        h("input", { type: "radio", name: "range", value, checked: value === range, onchange: () => {
          range = value;
          set({ range: value === "tens" ? "hour" : "" });
          draw();
        } }), label)));
    const pause = pauser(() => change());
    const more = facts("facts", "Details", ["Up for", "An answer means", "Disk left", "Full in", ...JOURNALS, "Largest consumer lag", "Webhooks refused", "Connections", "Version"]);
    const shown = h("div", { class: "stack" }, tiles.element, h("div", { class: "row" }, choice, pause.button), h("div", { class: "charts" }, rates.element, commits.element), more.element);
    const refused = h("div", {});
    root.append(banner, refused, shown);

    const draw = () => {
      if (!live.window) return;
      const samples = live.window[/** @type {"seconds"|"tens"} */ (range)];
      const [step, most] = range === "tens" ? [10, 360] : [1, 300];
      const perSecond = (points) => points.map((point) => (point == null ? null : point / step));
      rates.show([
        { name: "stored", key: "a", points: perSecond(samples.stored) },
        { name: "duplicates", key: "b", points: perSecond(samples.duplicates) },
        { name: "conflicts", key: "c", points: perSecond(samples.conflicts) },
      ], step, most);
      commits.show([
        { name: "p50", key: "a", points: samples.commit_p50_us },
        { name: "p99", key: "b", points: samples.commit_p99_us },
      ], step, most);
    };
    const change = () => {
      show(banner);
      shown.hidden = live.state === "refused";
      shown.classList.toggle("old", live.state === "lost" || live.state === "stale");
      put(refused, live.state === "refused" ? instead(live.why, signal) : null);
      if (pause.isPaused()) return;
      if (live.figures) fill(live.figures, tiles, more, lately);
      draw();
    };
    const lately = refusedLately();
    live.addEventListener("change", change, { signal });
    signal.addEventListener("abort", () => {
      rates.stop();
      commits.stop();
    });
    change();
  },
};

/** A list of figures with their names.
 * @param {string} kind @param {string} label @param {string[]} names */
function facts(kind, label, names) {
  const values = names.map((name) => /** @type {[string, HTMLElement]} */ ([name, h("dd", {}, "–")]));
  const element = h("dl", { class: kind, "aria-label": label }, values.map(([name, value]) => h("div", {}, h("dt", {}, name), value)));
  const places = new Map(values);
  /** Shows a figure; without a text there is none. */
  const set = (name, text, title = "") => {
    const value = places.get(name);
    if (!value?.parentElement) return;
    value.parentElement.hidden = text == null;
    say(value, text ?? "");
    if (value.title !== title) value.title = title;
  };
  return { element, set };
}

function show(banner) {
  const { state, figures, why } = live;
  const [kind, text] = state === "lost" ? ["bad", `${why?.message ?? "The connection was lost."} What is shown is old; this page tries again by itself.`]
    : state === "stale" ? ["warn", "The service has told nothing for some seconds. What is shown is old."]
      : state === "loading" ? ["quiet", "Connecting…"]
        : state === "hidden" ? ["quiet", "Paused, as nobody has looked for a minute. It goes on at once when somebody does."]
          : !figures ? ["quiet", ""]
            : figures.ready ? ["good", "Ready: events are taken."]
              : ["bad", `Not ready: ${figures.reason ?? "the reason is not known"}.`];
  banner.className = `banner ${kind}`;
  banner.hidden = text === "";
  say(banner, text);
}

/** @param {import("./live.js").Figures} figures */
function fill(figures, tiles, more, lately) {
  const { totals } = figures;
  tiles.set("Stored", count(totals.unique_processed));
  tiles.set("Duplicates dropped", `${count(totals.duplicate_dropped)} (${ofAll(totals.duplicate_dropped, totals.received)})`, "Conflicts are among them.");
  tiles.set("Conflicts", count(totals.conflicts), "Events with a known id and another payload. The first one stays.");
  tiles.set("Rejected", count(totals.rejected), "Events refused as invalid.");
  tiles.set("Topics", `${count(figures.topics)} of ${short(figures.topics_max)}`);
  more.set("Up for", lasting(figures.uptime_seconds));
  const promises = {
    disk: "the event is on this machine's disk, synced",
    replicated: "the event is on the database's primary and its synchronous standbys",
    primary: "the event is on the disk of the database's primary alone",
  };
  more.set("An answer means", promises[figures.promise] ?? figures.promise);
  const { disk_free_bytes: free, disk_reserve_bytes: reserve } = figures;
  if (free != null && reserve != null) {
    more.set("Disk left", bytes(Math.max(0, free - reserve)), `${bytes(free)} are free. Below ${bytes(reserve)} nothing is taken.`);
    more.set("Full in", untilFull(free - reserve), "At the rate at which journals have grown in the time shown here, an hour at most.");
  } else {
    more.set("Disk left", null);
    more.set("Full in", null);
  }
  const { journal_bytes: journals, checkpoint_lag_events: lag, generations_open: open, generations_sealed: sealed, indexes_rebuilding: doubtful } = figures;
  if (journals != null && lag != null && open != null && sealed != null) {
    more.set("Journals", bytes(journals));
    more.set("Checkpoint lag", `${count(lag)} events`, "Stored events that the index does not have yet. They are in memory and in the journal.");
    more.set("Generations", `${count(open)} open, ${count(sealed)} sealed${doubtful ? `, ${count(doubtful)} being rebuilt` : ""}`);
  } else {
    JOURNALS.forEach((name) => more.set(name, null));
  }
  const { largest_lag: largest } = figures;
  if (largest) more.set("Largest consumer lag", `${count(largest.events)} events, ${largest.consumer}`, `The oldest of them has waited for ${lasting(largest.seconds)}.`);
  else more.set("Largest consumer lag", figures.consumers_measured ? "none" : "–");
  more.set("Webhooks refused", lately(figures));
  more.set("Connections", count(figures.connections));
  more.set("Version", figures.version);
}

/** What becomes of webhooks that are refused: how many a second lately, and why since the start. */
function refusedLately() {
  /** @type {{total: number, at: number}[]} */
  const seen = [];
  return (/** @type {import("./live.js").Figures} */ figures) => {
    const { total, words } = refusals(figures.deliveries_refused);
    const at = figures.uptime_seconds;
    // A service that was started again counts from zero.
    if (seen.length > 0 && at < seen[0].at) seen.length = 0;
    if (at !== seen.at(-1)?.at) seen.push({ total, at });
    while (seen.length > 2 && at - seen[1].at >= REFUSED_OVER) seen.shift();
    const [first] = seen;
    const speed = at > first.at ? `${rate(Math.max(0, total - first.total) / (at - first.at))}; ` : "";
    return total === 0 ? "none" : `${speed}since the start ${words}`;
  };
}

/** When the disk is full at the rate of the last hour. @param {number} left */
function untilFull(left) {
  const window = live.window;
  const tens = known(window?.tens.commit_bytes);
  const [points, step] = tens.length > 30 ? [tens, 10] : [known(window?.seconds.commit_bytes), 1];
  const written = points.reduce((sum, one) => sum + one, 0);
  if (left <= 0) return "now";
  if (points.length < 10 || written === 0) return "not foreseen";
  const days = left / (written / (points.length * step)) / 86_400;
  return days > 3_650 ? "more than 10 years" : days > 2 ? `${count(Math.floor(days))} days` : lasting(days * 86_400);
}

/** What is shown in place of figures that may not be seen here: why, and the totals that may. */
function instead(why, signal) {
  const totals = h("div", {});
  const sentence = why?.status === 404 ? new Error(KEPT) : why;
  const isHidden = why?.status === 404;
  get("/stats", signal).then((stats) => {
    const tiles = facts("tiles", "Totals", ["Stored", "Duplicates dropped", "Conflicts", "Topics"]);
    tiles.set("Stored", count(stats.unique_processed));
    tiles.set("Duplicates dropped", `${count(stats.duplicate_dropped)} (${ofAll(stats.duplicate_dropped, stats.received)})`);
    tiles.set("Conflicts", count(stats.conflicts));
    tiles.set("Topics", count(stats.topics.length));
    put(totals, h("h2", {}, "What you may read"), tiles.element);
  }, () => {});
  return [isHidden ? h("p", { class: "problem" }, `${sentence?.message}.`) : problem(sentence, () => live.again()), totals];
}

