// Numbers in the reader's locale, times in the reader's zone.

import { h } from "./dom.js";

const whole = new Intl.NumberFormat();
const digits = [0, 1, 2].map((most) => new Intl.NumberFormat(undefined, { maximumFractionDigits: most }));
const share = new Intl.NumberFormat(undefined, { style: "percent", maximumFractionDigits: 1 });
/** The forms of times, in a zone. @param {string|undefined} timeZone */
const forms = (timeZone) => ({
  clock: new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", timeZone }),
  day: new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium", timeZone }),
  full: new Intl.DateTimeFormat(undefined, {
    year: "numeric", month: "short", day: "numeric",
    hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3, timeZoneName: "short", timeZone,
  }),
});
const zones = { local: forms(undefined), UTC: forms("UTC") };
/** @type {"local"|"UTC"} */
let zone = "local";

/** @param {number} number */
export const count = (number) => whole.format(number);

/** @param {number} part @param {number} all */
export const ofAll = (part, all) => (all > 0 ? share.format(part / all) : "–");

function scaled(number, step, units) {
  let unit = 0;
  while (Math.abs(number) >= step * 0.9995 && unit < units.length - 1) {
    number /= step;
    unit += 1;
  }
  const places = unit === 0 && Number.isInteger(number) ? 0 : Math.abs(number) >= 100 ? 0 : Math.abs(number) >= 10 ? 1 : 2;
  return digits[places].format(number) + units[unit];
}

/** A rate, such as "1.2 k/s".
 * @param {number} perSecond */
export const rate = (perSecond) => `${short(perSecond)}/s`;

/** A number in few digits, such as "1.25 M".
 * @param {number} number */
export const short = (number) => scaled(number, 1_000, ["", "\u202fk", "\u202fM", "\u202fG"]).replace(/\.00?$/, "");

/** @param {number} number */
export const bytes = (number) => scaled(number, 1_024, ["\u202fB", "\u202fKiB", "\u202fMiB", "\u202fGiB", "\u202fTiB"]);

/** A duration of some microseconds.
 * @param {number} number */
export const micros = (number) => scaled(number, 1_000, ["\u202fµs", "\u202fms", "\u202fs"]);

/** Minutes that may be broken, such as "2.5 min". @param {number} number */
export const minutes = (number) => `${digits[1].format(number)}\u202fmin`;

/** A long duration, in its two largest units.
 * @param {number} seconds */
export function lasting(seconds) {
  const parts = [];
  for (const [size, unit] of /** @type {[number, string][]} */ ([[86_400, "d"], [3_600, "h"], [60, "min"], [1, "s"]])) {
    const many = Math.floor(seconds / size);
    seconds -= many * size;
    if (many > 0 || (unit === "s" && parts.length === 0)) parts.push(`${count(many)}\u202f${unit}`);
  }
  return parts.slice(0, 2).join(" ");
}

/** Shows all times in this zone from now on. @param {"local"|"UTC"} name */
export function turnTo(name) {
  zone = name;
  for (const element of document.querySelectorAll("time[data-form]")) show(/** @type {HTMLTimeElement} */ (element));
}

/** @param {HTMLTimeElement} element */
function show(element) {
  const form = /** @type {"clock"|"day"|"full"} */ (element.dataset.form);
  element.textContent = zones[zone][form].format(new Date(element.dateTime));
}

/** A time as an element: in the reader's zone with UTC on hover, or in UTC.
 * @param {string} at RFC 3339
 * @param {"clock"|"day"|"full"} [form] */
export function time(at, form = "day") {
  const date = new Date(at);
  if (Number.isNaN(date.getTime())) return h("span", {}, at);
  const element = h("time", { datetime: at, title: `${at.replace("T", " ").replace("Z", "")} UTC`, "data-form": form });
  show(element);
  return element;
}

/** How long ago a time was.
 * @param {string} at
 * @param {number} now milliseconds */
export function ago(at, now) {
  const seconds = Math.max(0, (now - Date.parse(at)) / 1_000);
  return seconds < 1 ? "now" : `${lasting(seconds).split(" ")[0]} ago`;
}

/** Milliseconds as the value of an input for a local time, and back.
 * @param {string|null} at */
export function local(at) {
  const date = new Date(at ?? "");
  if (!at || Number.isNaN(date.getTime())) return "";
  const shifted = new Date(date.getTime() - date.getTimezoneOffset() * 60_000);
  return shifted.toISOString().slice(0, 19);
}

/** @param {string} value */
export const fromLocal = (value) => (value ? new Date(value).toISOString() : "");
