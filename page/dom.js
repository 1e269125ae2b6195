// Makes elements. Text is only ever set as text: nothing here, or elsewhere, reads HTML.

/** What the elements of a view may be made of.
 * @typedef {Node|string|number|null|undefined|false|any[]} Child */

/** Makes an element. Properties that begin with "on" are listeners; the others are attributes.
 * @param {string} tag
 * @param {Record<string, any>} [attributes]
 * @param {...Child} children
 * @returns {any} */
export function h(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for SVG.
 * @param {string} tag
 * @param {Record<string, any>} [attributes]
 * @param {...Child} children
 * @returns {any} */
export function svg(tag, attributes, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, String(value));
  }
  append(element, children);
  return element;
}

function append(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child != null && child !== false) element.append(child instanceof Node ? child : String(child));
  }
}

/** Replaces what an element has.
 * @param {Element} element
 * @param {...Child} children */
export function put(element, ...children) {
  element.replaceChildren();
  append(element, children);
}

/** Sets a text, if it is another one: what did not change is not read out again.
 * @param {Element} element
 * @param {string} text */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Characters that a reader would not see, that would change what is around them, or that could be
 * taken for others' ends: controls, formats such as those of direction and of zero width, odd
 * spaces, halves of pairs, and private ones. */
export const HIDDEN = /[\p{Default_Ignorable_Code_Point}\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}\p{Co}\p{Cn}\u00a0\u1680\u2000-\u200a\u202f\u205f\u2800\u3000]/gu;

/** How a hidden character is shown. */
function escaped(char) {
  const short = { "\n": "\\n", "\r": "\\r", "\t": "\\t" }[char];
  return short ?? `\\u{${char.codePointAt(0).toString(16)}}`;
}

/** Text with hidden characters escaped, for attributes and titles.
 * @param {string} text */
export function visible(text) {
  return text.replace(HIDDEN, escaped);
}

/** A foreign text as it can be shown: hidden characters are escaped and marked as that, and of a
 * long text the first characters are shown, with a button for all.
 * @param {string} text
 * @param {number} [most]
 * @returns {HTMLElement} */
export function foreign(text, most = 2_000) {
  const place = h("bdi", { class: "foreign" });
  const part = text.length > most ? cut(text, most) : text;
  show(place, part);
  if (part.length < text.length) {
    const all = h("button", { type: "button", class: "link", onclick: () => put(place, pieces(text)) },
      ` … show all ${text.length.toLocaleString()} characters`);
    place.append(all);
  }
  return place;
}

/** The first characters of a text; no pair is cut.
 * @param {string} text
 * @param {number} most */
export function cut(text, most) {
  const ends = /[\ud800-\udbff]$/.test(text.slice(0, most)) ? most - 1 : most;
  return text.slice(0, ends);
}

/** A long text in pieces, which browsers lay out one by one as they come into view. */
function pieces(text) {
  const made = [];
  for (let at = 0; at < text.length;) {
    const part = cut(text.slice(at, at + 10_000), 10_000);
    made.push(show(h("span", { class: "piece" }), part));
    at += part.length;
  }
  return made;
}

function show(place, text) {
  let at = 0;
  for (const found of text.matchAll(HIDDEN)) {
    place.append(text.slice(at, found.index));
    const code = found[0].codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
    place.append(h("span", { class: "escape", title: `U+${code}` }, escaped(found[0])));
    at = found.index + found[0].length;
  }
  place.append(text.slice(at));
  return place;
}

/** Has a text read out.
 * @param {string} text */
export function tell(text) {
  const place = document.getElementById("told");
  if (place) say(place, text);
}

/** A field of a form with its label.
 * @param {string} label
 * @param {HTMLElement} input */
export function field(label, input) {
  return h("label", { class: "field" }, h("span", {}, label), input);
}

/** A button that stops what moves by itself until it is pressed again.
 * @param {() => void} goOn */
export function pauser(goOn) {
  let isPaused = false;
  const button = h("button", { type: "button", onclick: () => {
    isPaused = !isPaused;
    say(button, isPaused ? "Paused, go on" : "Pause");
    if (!isPaused) goOn();
  } }, "Pause");
  return { button, isPaused: () => isPaused };
}

/** A button that copies a text.
 * @param {string} label
 * @param {() => string} text */
export function copier(label, text) {
  const button = h("button", { type: "button", onclick: async () => {
    try {
      await navigator.clipboard.writeText(text());
      tell("Copied.");
      button.textContent = "Copied";
    } catch {
      // Without a secure context there is no clipboard: what would be copied is shown and selected.
      const area = h("textarea", { readonly: true, rows: 6, "aria-label": label }, text());
      button.after(area);
      area.select();
    }
    setTimeout(() => say(button, label), 2_000);
  } }, label);
  return button;
}
