// Now: how the service is, at one look.

import { KEPT, Refused, json } from "./api.js";
import { Chart } from "./chart.js";
import { list as consumers } from "./consumers.js";
import { h, put, say } from "./dom.js";
import { bytes, count, lasting, micros, ofAll, rate, short } from "./format.js";
import { live } from "./live.js";
import { refusals, list as sources } from "./sources.js";
import { problem } from "./token.js";

/** What the stream does not have is asked for so often; a rate takes two looks, and the second comes soon. */
const EACH_MS = 10_000;
const SECOND_MS = 2_000;
/** Consumers that are looked at: of each one some events are read. */
const CONSUMERS = 100;

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
    const more = facts("facts", "Details", ["Up for", "An answer means", "Disk left", "Full in", "Journals", "Checkpoint lag", "Generations", "Largest consumer lag", "Webhooks refused", "Connections", "Version"]);
    const shown = h("div", { class: "stack" }, tiles.element, choice, h("div", { class: "charts" }, rates.element, commits.element), more.element);
    const refused = h("div", {});
    root.append(banner, refused, shown);

    const draw = () => {
      if (!live.window) return;
      const samples = live.window[/** @type {"seconds"|"tens"} */ (range)];
      const [step, most] = range === "tens" ? [10, 360] : [1, 300];
      const perSecond = (points) => points.map((point) => point / step);
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
      if (live.figures) fill(live.figures, tiles, more);
      draw();
    };
    live.addEventListener("change", change, { signal });
    look(more, signal);
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
  return { element, set: (name, text, title = "") => {
    const value = new Map(values).get(name);
    if (!value) return;
    say(value, text);
    if (value.title !== title) value.title = title;
  } };
}

function show(banner) {
  const { state, figures, why } = live;
  const [kind, text] = state === "lost" ? ["bad", `${why?.message ?? "The connection was lost."} What is shown is old; this page tries again by itself.`]
    : state === "stale" ? ["warn", "The service has told nothing for some seconds. What is shown is old."]
      : state === "loading" ? ["quiet", "Connecting…"]
        : !figures ? ["quiet", ""]
          : figures.ready ? ["good", "Ready: events are taken."]
            : ["bad", `Not ready: ${figures.reason ?? "the reason is not known"}.`];
  banner.className = `banner ${kind}`;
  banner.hidden = text === "";
  say(banner, text);
}

/** @param {import("./live.js").Figures} figures */
function fill(figures, tiles, more) {
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
  }
  more.set("Journals", bytes(figures.journal_bytes));
  more.set("Checkpoint lag", `${count(figures.checkpoint_lag_events)} events`, "Stored events that the index does not have yet. They are in memory and in the journal.");
  const rebuilding = figures.indexes_rebuilding > 0 ? `, ${count(figures.indexes_rebuilding)} being rebuilt` : "";
  more.set("Generations", `${count(figures.generations_open)} open, ${count(figures.generations_sealed)} sealed${rebuilding}`);
  more.set("Connections", count(figures.connections));
  more.set("Version", figures.version);
}

/** Asks now and then for the figures of consumers and sources. @param {ReturnType<typeof facts>} more @param {AbortSignal} signal */
function look(more, signal) {
  /** What this reader may not see, which is asked for once. */
  const forbidden = new Set();
  const show = async (name, make) => {
    if (forbidden.has(name)) return;
    try {
      more.set(name, ...await make());
    } catch (e) {
      if (signal.aborted) return;
      if (e instanceof Refused && e.status === 403) forbidden.add(name);
      more.set(name, "–", e instanceof Error ? e.message : "");
    }
  };
  /** @type {{total: number, at: number}|null} */
  let before = null;
  let isAsking = false;
  const ask = async () => {
    if (isAsking || document.hidden || live.state !== "open") return;
    isAsking = true;
    await Promise.all([
      show("Largest consumer lag", async () => largest(await consumers(null, CONSUMERS, signal))),
      show("Webhooks refused", async () => {
        const { total, words } = refusals(await sources(signal));
        const at = Date.now();
        const lately = before ? `${rate(Math.max(0, total - before.total) * 1_000 / (at - before.at))}; ` : "";
        before = { total, at };
        return [total === 0 ? "none" : `${lately}since the start ${words}`];
      }),
    ]);
    isAsking = false;
  };
  const timers = [setTimeout(ask, SECOND_MS), setInterval(ask, EACH_MS)];
  signal.addEventListener("abort", () => timers.forEach(clearInterval));
  // The first time, as soon as the stream is there.
  const first = () => {
    if (live.state !== "open") return;
    live.removeEventListener("change", first);
    ask();
  };
  live.addEventListener("change", first, { signal });
  first();
}

/** The consumer that lags most. @param {import("openapi").components["schemas"]["Consumers"]} page @returns {[string, string]} */
function largest({ consumers: all, next_cursor: next }) {
  const most = all.reduce((most, one) => (one.lag > (most?.lag ?? 0) ? one : most), /** @type {typeof all[0]|null} */ (null));
  if (!most) return [all.length === 0 ? "no consumers" : "none", ""];
  const part = next == null ? "" : `, of the first ${count(CONSUMERS)}`;
  return [`${count(most.lag)} events, ${most.name}${part}`, `The oldest of them has waited for ${lasting(most.lag_seconds)}.`];
}

/** When the disk is full at the rate of the last hour. @param {number} left */
function untilFull(left) {
  const window = live.window;
  const tens = window?.tens.commit_bytes ?? [];
  const [points, step] = tens.length > 30 ? [tens, 10] : [window?.seconds.commit_bytes ?? [], 1];
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
  json("/stats", signal).then((stats) => {
    const tiles = facts("tiles", "Totals", ["Stored", "Duplicates dropped", "Conflicts", "Topics"]);
    tiles.set("Stored", count(stats.unique_processed));
    tiles.set("Duplicates dropped", `${count(stats.duplicate_dropped)} (${ofAll(stats.duplicate_dropped, stats.received)})`);
    tiles.set("Conflicts", count(stats.conflicts));
    tiles.set("Topics", count(stats.topics.length));
    put(totals, h("h2", {}, "What you may read"), tiles.element);
  }, () => {});
  return [isHidden ? h("p", { class: "problem" }, `${sentence?.message}.`) : problem(sentence, () => live.again()), totals];
}

