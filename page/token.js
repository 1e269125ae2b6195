// Asks for a token, and tells what is wrong in place of a view.

import { Refused, setToken, token } from "./api.js";
import { field, h, put } from "./dom.js";

/** @type {HTMLDialogElement|null} */
let dialog = null;

/** Asks for a token, unless that is under way.
 * @param {string} why */
export function askForToken(why) {
  if (dialog) return;
  const input = h("input", { type: "password", autocomplete: "off", spellcheck: "false", required: true, placeholder: "sekali_…" });
  const close = () => dialog?.close();
  const asking = /** @type {HTMLDialogElement} */ (h("dialog", { "aria-labelledby": "token-title", onclose: () => {
    asking.remove();
    dialog = null;
  } },
  h("form", { onsubmit: (e) => {
    e.preventDefault();
    const given = input.value.trim();
    close();
    setToken(given);
  } },
  h("h2", { id: "token-title" }, "Token"),
  h("p", {}, token() ? `The token of this tab is not taken: ${why}.` : `This service asks who you are: ${why}.`),
  field("Token", input),
  h("p", { class: "quiet" }, "It is kept in this tab until the tab is closed or you sign out."),
  h("div", { class: "row" }, h("button", { type: "submit", class: "main" }, "Use this token"),
    h("button", { type: "button", onclick: close }, "Cancel")))));
  dialog = asking;
  document.body.append(asking);
  asking.showModal();
}

/** What is wrong, and what to do about it.
 * @param {unknown} e
 * @param {(() => void)|null} again */
export function problem(e, again) {
  const refused = e instanceof Refused ? e : new Refused(-1, `The answer can't be shown: ${e instanceof Error ? e.message : e}`);
  const title = { 0: "No answer", 401: "A token is needed", 403: "Not allowed", 404: "Not there", 429: "Too many requests" }[refused.status]
    ?? (refused.status >= 500 ? "The service can't do this now" : "This did not work");
  const sentence = refused.message.charAt(0).toUpperCase() + refused.message.slice(1);
  return h("div", { class: "problem", role: "alert" }, h("strong", {}, title), h("p", {}, `${sentence}${/[.!?]$/.test(sentence) ? "" : "."}`),
    h("div", { class: "row" },
      refused.status === 401 || refused.status === 403
        ? h("button", { type: "button", onclick: () => askForToken(refused.message) }, token() ? "Use another token" : "Enter a token") : null,
      again && refused.status !== 401 && refused.status !== 403 ? h("button", { type: "button", onclick: again }, "Try again") : null));
}

/** Shows in a place what `make` gives; until then that it is loading, and what is wrong if it fails.
 * @param {Element} place
 * @param {AbortSignal} signal
 * @param {() => Promise<import("./dom.js").Child|import("./dom.js").Child[]>} make */
export async function load(place, signal, make) {
  place.setAttribute("aria-busy", "true");
  if (place.children.length === 0) put(place, h("p", { class: "quiet" }, "Loading…"));
  try {
    const made = await make();
    if (!signal.aborted) put(place, made);
  } catch (e) {
    if (!signal.aborted) put(place, problem(e, () => load(place, signal, make)));
  }
  place.removeAttribute("aria-busy");
}
