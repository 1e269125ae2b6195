// Consumers: who reads with acknowledgements, how far behind, and moving one to another place.

import { get, post, url } from "./api.js";
import { field, foreign, h, put, tell } from "./dom.js";
import { count, fromLocal, lasting, time } from "./format.js";
import { load, problem } from "./token.js";

/** @typedef {import("openapi").components["schemas"]["ListedConsumer"]} Consumer */

const PAGE = 100;

/** @type {import("./app.js").View} */
export const consumers = {
  path: "consumers",
  label: "Consumers",
  title: () => "Consumers",
  open({ root, params, signal }) {
    const place = h("div", { class: "stack" });
    const ask = () => load(place, signal, async () => {
      const page = await get("/consumers", signal, { limit: PAGE, cursor: params.get("cursor") });
      if (page.consumers.length === 0) return h("p", { class: "quiet" }, "There are no consumers. A program makes one by PUT /consumers/NAME.");
      return [page.consumers.map((one) => consumer(one, signal, ask)),
        page.next_cursor == null ? null : h("p", {}, h("a", { href: `#${url("/consumers", { cursor: page.next_cursor })}` }, "Next page"))];
    });
    root.append(h("p", { class: "row" }, h("button", { type: "button", onclick: ask }, "Refresh")), place);
    ask();
  },
};

/** @param {Consumer} one @param {AbortSignal} signal @param {() => void} again */
function consumer(one, signal, again) {
  const rows = /** @type {[string, import("./dom.js").Child][]} */ ([
    ["Lag", `${count(one.lag)} events`],
    ["The oldest waits for", one.lag === 0 ? "–" : lasting(one.lag_seconds)],
    ["Reads", one.topics.map((topic, index) => [index > 0 ? ", " : null, foreign(topic, 200)])],
    ["Topics with a position", count(one.positions_total)],
    ["Made", time(one.created_at)],
    ["Last error", one.last_error ? fault(one.last_error) : "none"],
    ["Under way", one.leases.length === 0 ? "nothing" : one.leases.map((lease) =>
      h("div", {}, foreign(lease.holder || "(no name)", 100), `, part ${lease.partition}, until `, time(lease.until, "clock")))],
  ]);
  return h("section", { class: "stack", "aria-label": `Consumer ${one.name}` }, h("h2", {}, foreign(one.name, 200)),
    h("dl", { class: "facts" }, rows.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))), seek(one, signal, again));
}

/** What went wrong last. @param {import("openapi").components["schemas"]["ConsumerFault"]} last */
function fault(last) {
  const what = last.reason === "lease_expired"
    ? ["the lease", last.holder ? [" of ", foreign(last.holder, 100)] : null, " ended before its events were acknowledged; they are given again"]
    : "an acknowledgement was refused, as its lease was over; its events are given again";
  return [time(last.at), ": ", what];
}

/** A form that moves a consumer, once that is confirmed.
 * @param {Consumer} one @param {AbortSignal} signal @param {() => void} again */
function seek(one, signal, again) {
  const at = h("input", { type: "datetime-local", step: "1", disabled: true });
  const to = h("select", { onchange: () => {
    at.disabled = to.value !== "time";
    at.required = !at.disabled;
  } }, h("option", { value: "start" }, "the first event"), h("option", { value: "end" }, "after the last event"), h("option", { value: "time" }, "a time"));
  const answer = h("div", {});
  const move = async () => {
    try {
      const body = JSON.stringify({ to: to.value === "time" ? fromLocal(at.value) : to.value });
      await post("/consumers/{name}/seek", { name: one.name }, body, signal);
      tell("The consumer was moved.");
      // The form goes away, and with it what had the focus.
      document.querySelector("h1")?.focus();
      again();
    } catch (e) {
      if (!signal.aborted) put(answer, problem(e, null));
    }
  };
  const form = h("form", { class: "row", onsubmit: (e) => {
    e.preventDefault();
    const sure = h("button", { type: "button", class: "main", onclick: move }, "Move it");
    put(answer, h("div", { class: "verdict warn", role: "alert" },
      h("p", {}, to.value === "end" ? "What it has not acknowledged is passed over." : "It gets events again that it has acknowledged since then, or passes over those before."),
      h("div", { class: "row" }, sure, h("button", { type: "button", onclick: () => put(answer) }, "Leave it"))));
    sure.focus();
  } }, field("Move to", to), field("Time", at), h("button", { type: "submit" }, "Move…"));
  return h("details", {}, h("summary", {}, "Move it to another place"), form, answer);
}
