// The frame of the page: which view the address names, the title, the theme, the token.
//
// A view is a module that exports a `View`, and a row in VIEWS. It is opened again for each address.
// Its signal ends whatever it has under way when it is left.

import { setToken, token, tokens } from "./api.js";
import { h, put, say, visible } from "./dom.js";
import { consumers } from "./consumers.js";
import { duplicates } from "./duplicates.js";
import { event } from "./event.js";
import { events } from "./events.js";
import { find } from "./find.js";
import { rate, turnTo } from "./format.js";
import { live } from "./live.js";
import { now } from "./now.js";
import { sources } from "./sources.js";
import { askForToken } from "./token.js";
import { topic } from "./topic.js";
import { topics } from "./topics.js";
import { tryIt } from "./try.js";

/** @typedef {{
 *   root: HTMLElement,
 *   params: URLSearchParams,
 *   signal: AbortSignal,
 *   set: (query: Record<string, string>) => void,
 * }} Context `set` changes the address and opens nothing.
 * @typedef {{
 *   path: string,
 *   label?: string,
 *   title: (params: URLSearchParams) => string,
 *   open: (context: Context) => void,
 * }} View A view with a label is among those of the menu. */

/** @type {View[]} */
const VIEWS = [now, topics, topic, events, event, duplicates, sources, consumers, find, tryIt];

const main = /** @type {HTMLElement} */ (document.getElementById("main"));
let opened = new AbortController();
/** @type {View} */
let view = now;
let place = "";

/** The view and the parameters of the address. */
function address() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split(/\?(.*)/s);
  return { found: VIEWS.find((view) => view.path === path), path, params: new URLSearchParams(query) };
}

function open() {
  opened.abort();
  opened = new AbortController();
  const { found, path, params } = address();
  if (!found && path !== "") {
    location.replace("#/now");
    return;
  }
  view = found ?? now;
  place = view.title(params);
  const root = h("div", { class: `view ${view.path}` }, h("h1", { tabindex: "-1" }, visible(place)));
  put(main, root);
  for (const link of document.querySelectorAll("#views a")) {
    const isHere = link.getAttribute("href") === `#/${view.path}`;
    if (isHere) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const set = (query) => {
    const given = Object.entries(query).filter(([, value]) => value);
    const text = new URLSearchParams(given).toString();
    history.replaceState(null, "", `#/${view.path}${text ? `?${text}` : ""}`);
  };
  view.open({ root, params, signal: opened.signal, set });
  title();
}

/** What the tab says: whether all is well, how much is stored a second, and what is shown. */
function title() {
  const { state, figures } = live;
  const perSecond = live.rate();
  const isFresh = state === "open" && figures;
  const mark = !isFresh ? (state === "lost" || state === "stale" ? "○ " : "") : figures.ready ? "● " : "▲ not ready – ";
  const speed = isFresh && perSecond != null ? `${rate(perSecond)} – ` : "";
  const here = view === now ? "" : `${visible(place)} – `;
  const text = `${mark}${speed}${here}sekali`;
  if (document.title !== text) document.title = text;
}

/** What the bar says of the connection. */
function state() {
  const element = /** @type {HTMLElement} */ (document.getElementById("state"));
  const { state, figures } = live;
  const [kind, text] = {
    loading: ["quiet", "Connecting…"],
    open: figures && !figures.ready ? ["bad", "Not ready"] : ["good", "Live"],
    stale: ["warn", "No news"],
    lost: ["bad", "Disconnected, trying again"],
    refused: ["quiet", ""],
    hidden: ["quiet", "Paused"],
  }[state];
  element.className = `state ${kind}`;
  say(element, text);
  title();
}

/** A button that goes through values, of which the last one chosen is kept.
 * @template {string} Value
 * @param {string} id of the button
 * @param {Value[]} values the first one if none was chosen
 * @param {(value: Value) => string} turn to a value; the name that the button then has */
function choice(id, values, turn) {
  const button = /** @type {HTMLElement} */ (document.getElementById(id));
  let chosen = values[0];
  try {
    chosen = values.find((value) => value === localStorage.getItem(`sekali.${id}`)) ?? chosen;
  } catch {
    // Without storage, it is the first one.
  }
  button.textContent = turn(chosen);
  button.addEventListener("click", () => {
    chosen = values[(values.indexOf(chosen) + 1) % values.length];
    button.textContent = turn(chosen);
    try {
      localStorage.setItem(`sekali.${id}`, chosen);
    } catch {
      // It lasts as long as the page.
    }
  });
}

function signing() {
  const out = /** @type {HTMLElement} */ (document.getElementById("sign-out"));
  out.hidden = !token();
  out.addEventListener("click", () => setToken(null));
  tokens.addEventListener("token", () => {
    out.hidden = !token();
    open();
  });
  tokens.addEventListener("wanted", (e) => askForToken(/** @type {CustomEvent} */ (e).detail));
}

put(/** @type {HTMLElement} */ (document.getElementById("views")), h("ul", {}, VIEWS.filter((view) => view.label).map((view) =>
  h("li", {}, h("a", { href: `#/${view.path}` }, view.label)))));
document.querySelector(".skip")?.addEventListener("click", (e) => {
  e.preventDefault();
  main.focus();
});
choice("theme", ["auto", "light", "dark"], (theme) => {
  document.documentElement.dataset.theme = theme;
  return `Theme: ${theme}`;
});
choice("zone", ["local", "UTC"], (zone) => {
  turnTo(zone);
  return `Times: ${zone}`;
});
signing();
live.addEventListener("change", state);
live.start();
open();
window.addEventListener("hashchange", () => {
  open();
  window.scrollTo(0, 0);
  // Whoever listens hears where they are.
  main.querySelector("h1")?.focus({ preventScroll: true });
});
