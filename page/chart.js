// A chart of lines over time. It is drawn as SVG: a few hundred points, once a second. It can be read
// by pointer, by arrow keys and, as a sentence, by ear.

import { h, put, say, svg } from "./dom.js";
import { minutes } from "./format.js";

/** @typedef {{name: string, key: string, points: (number|null)[]}} Line */

const HEIGHT = 150;
const LEFT = 58;
const BOTTOM = 20;
const TOP = 8;

export class Chart {
  /** @param {string} title @param {(value: number) => string} format */
  constructor(title, format) {
    this.title = title;
    this.format = format;
    /** @type {Line[]} */
    this.lines = [];
    this.step = 1;
    this.most = 300;
    /** Which point is pointed at, counted from the newest. @type {number|null} */
    this.at = null;
    this.width = 600;
    this.drawing = svg("svg", { role: "img", tabindex: "0", height: HEIGHT, "aria-label": title,
      onpointermove: (e) => this.point(e), onpointerleave: () => this.mark(null), onblur: () => this.mark(null),
      onkeydown: (e) => this.key(e) });
    this.legend = h("ul", { class: "legend" });
    this.element = h("figure", { class: "chart" }, h("figcaption", {}, title), this.legend, this.drawing);
    this.observer = new ResizeObserver(([entry]) => {
      const width = Math.round(entry.contentRect.width);
      if (width > 0 && width !== this.width) {
        this.width = width;
        this.draw();
      }
    });
    this.observer.observe(this.drawing);
  }

  /** @param {Line[]} lines the newest point last @param {number} step seconds @param {number} most points */
  show(lines, step, most) {
    [this.lines, this.step, this.most] = [lines, step, most];
    this.draw();
  }

  stop() {
    this.observer.disconnect();
  }

  draw() {
    const { lines, width } = this;
    const highest = Math.max(0, ...lines.flatMap((line) => line.points.map((point) => point ?? 0)));
    const top = nice(highest);
    const x = (fromNewest) => width - 6 - (fromNewest * (width - LEFT - 6)) / (this.most - 1);
    const y = (value) => HEIGHT - BOTTOM - (value / top) * (HEIGHT - BOTTOM - TOP);
    const parts = [];
    for (const share of [0, 0.5, 1]) {
      const at = y(top * share);
      parts.push(svg("line", { class: "grid", x1: LEFT, x2: width - 6, y1: at, y2: at }));
      parts.push(svg("text", { class: "tick", x: LEFT - 6, y: at + 4, "text-anchor": "end" }, this.format(top * share)));
    }
    const length = (this.most * this.step) / 60;
    for (const share of [1, 0.5, 0]) {
      const at = x((this.most - 1) * share);
      const anchor = share === 0 ? "end" : share === 1 ? "start" : "middle";
      const label = share === 0 ? "now" : `−${minutes(length * share)}`;
      parts.push(svg("text", { class: "tick", x: at, y: HEIGHT - 5, "text-anchor": anchor }, label));
    }
    for (const line of lines) {
      parts.push(svg("path", { class: `line ${line.key}`, d: path(line.points, x, y) }));
      // A point between gaps is no line.
      for (const [index, point] of line.points.entries()) {
        if (point == null || line.points[index - 1] != null || line.points[index + 1] != null) continue;
        parts.push(svg("circle", { class: `dot ${line.key}`, cx: x(line.points.length - 1 - index), cy: y(point), r: 1.5 }));
      }
    }
    if (this.at != null) {
      const at = x(this.at);
      parts.push(svg("line", { class: "mark", x1: at, x2: at, y1: TOP, y2: HEIGHT - BOTTOM }));
    }
    this.drawing.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    put(this.drawing, ...parts);
    this.label();
  }

  label() {
    const at = this.at ?? 0;
    const when = at === 0 ? "now" : `${at * this.step} seconds ago`;
    const value = (line) => {
      const point = line.points.at(-1 - at);
      return point == null ? "–" : this.format(point);
    };
    if (this.legend.children.length !== this.lines.length) {
      put(this.legend, this.lines.map((line) =>
        h("li", {}, h("span", { class: `key ${line.key}`, "aria-hidden": "true" }), `${line.name} `, h("b", {}))));
    }
    this.lines.forEach((line, index) => say(this.legend.children[index].querySelector("b"), value(line)));
    const sentence = this.lines.map((line) => `${line.name} ${value(line)}`).join(", ");
    // What has the focus is read out when it changes, so it does not change each second.
    if (document.activeElement !== this.drawing || this.at != null) {
      this.drawing.setAttribute("aria-label", `${this.title}, ${when}: ${sentence}. Arrow keys go back in time.`);
    }
  }

  point(e) {
    const place = this.drawing.getBoundingClientRect();
    const share = (place.right - 6 - e.clientX) / (place.width - LEFT - 6);
    this.mark(Math.round(share * (this.most - 1)));
  }

  key(e) {
    const by = { ArrowLeft: 1, ArrowRight: -1, PageUp: 10, PageDown: -10 }[e.key];
    if (by === undefined) return;
    e.preventDefault();
    this.mark((this.at ?? 0) + by);
  }

  /** @param {number|null} at */
  mark(at) {
    const last = Math.max(0, ...this.lines.map((line) => line.points.length - 1));
    this.at = at == null || at < 0 ? null : Math.min(at, last);
    this.draw();
  }
}

function path(points, x, y) {
  let d = "";
  let isOpen = false;
  points.forEach((point, index) => {
    if (point == null) {
      isOpen = false;
      return;
    }
    d += `${isOpen ? "L" : "M"}${x(points.length - 1 - index).toFixed(1)} ${y(point).toFixed(1)}`;
    isOpen = true;
  });
  return d;
}

/** A round number that is not below the highest. */
function nice(highest) {
  if (highest <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(highest));
  return [1, 2, 4, 5, 10].map((step) => step * power).find((number) => number >= highest) ?? highest;
}
