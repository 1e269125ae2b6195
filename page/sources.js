// Sources of webhooks: what is configured, what became of their deliveries, and why some were refused.

import { KEPT, Refused, get } from "./api.js";
import { foreign, h } from "./dom.js";
import { count, time } from "./format.js";
import { load } from "./token.js";

/** @typedef {import("openapi").components["schemas"]["Sources"]} Sources
 * @typedef {import("openapi").components["schemas"]["Source"]} Source */

/** Outcomes in the words of people. */
const WORDS = /** @type {Record<string, string>} */ ({
  stored: "stored", duplicate: "duplicates", conflict: "conflicts", quarantined: "in quarantine", challenge: "questions answered",
  missing: "without a signature", malformed: "with a malformed signature", wrong: "with a wrong signature", stale: "too old",
  unmapped: "without an id or a topic", large: "too large", compressed: "compressed", unstored: "not stored just then",
  unknown: "for no source",
});

/** @type {import("./app.js").View} */
export const sources = {
  path: "sources",
  label: "Sources",
  title: () => "Sources",
  open({ root, signal }) {
    const place = h("div", { class: "stack" });
    const ask = () => load(place, signal, async () => {
      const found = await list(signal);
      return [found.sources.length === 0 ? h("p", { class: "quiet" }, "There are no sources. A table [sources.NAME] of the configuration file makes one.") : null,
        found.sources.map(source), found.unknown > 0 ? h("p", { class: "quiet" }, `${count(found.unknown)} requests were for sources that there are not.`) : null];
    });
    root.append(h("p", { class: "row" }, h("button", { type: "button", onclick: ask }, "Refresh"),
      h("span", { class: "quiet" }, "Deliveries of webhooks since the service started.")), place);
    ask();
  },
};

/** @param {AbortSignal} signal @returns {Promise<Sources>} */
async function list(signal) {
  try {
    return await get("/sources", signal);
  } catch (e) {
    throw e instanceof Refused && e.status === 404 ? new Refused(404, KEPT) : e;
  }
}

/** @param {Record<string, number>} counts */
const sum = (counts) => Object.values(counts).reduce((all, one) => all + one, 0);

/** Counts that are not zero, in words, the largest first. @param {Record<string, number>} counts */
function words(counts) {
  const some = Object.entries(counts).filter(([, many]) => many > 0).sort((a, b) => b[1] - a[1]);
  return some.map(([outcome, many]) => `${count(many)} ${WORDS[outcome] ?? outcome}`).join(", ");
}

/** What was refused, by reason: how many, and why. @param {Record<string, number>} reasons */
export const refusals = (reasons) => ({ total: sum(reasons), words: words(reasons) });

/** @param {Source} one */
function source(one) {
  const last = one.last_refused;
  const rows = /** @type {[string, import("./dom.js").Child][]} */ ([
    ["Delivers to", h("code", {}, one.path)],
    ["Sender", one.preset ?? `signs by ${one.scheme}`],
    ["Topics", h("code", {}, foreign(one.topic, 200))],
    ["Quarantine", one.quarantine == null ? "none" : foreign(one.quarantine, 200)],
    ["Taken", words(one.taken) || "none"],
    ["Refused", words(one.refused) || "none"],
    ["Last refused", last == null ? "none" : [time(last.at), `: ${WORDS[last.reason]}`]],
  ]);
  return h("section", { class: "stack", "aria-label": `Source ${one.name}` }, h("h2", {}, one.name),
    h("dl", { class: "facts" }, rows.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))));
}
