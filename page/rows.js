// Many rows of one height, of which those in view are there.

import { h, put } from "./dom.js";

/** More rows than are in view, so that slow browsers show no gap. */
const BEYOND = 10;

/** @template T
 * @typedef {{label: string, sort?: string, class?: string, cell: (row: T) => import("./dom.js").Child}} Column */

/** @template T */
export class Rows {
  /** @param {string} label
   * @param {Column<T>[]} columns
   * @param {(column: string) => void} sorted */
  constructor(label, columns, sorted) {
    this.columns = columns;
    /** @type {T[]} */
    this.rows = [];
    this.body = h("div", { class: "rows-body", role: "rowgroup" });
    this.heads = columns.map((column) => h("div", { role: "columnheader", class: column.class ?? "" },
      column.sort ? h("button", { type: "button", class: "link", onclick: () => sorted(column.sort ?? "") }, column.label) : column.label));
    this.table = h("div", { role: "table", "aria-label": label, class: "rows-table" },
      h("div", { role: "rowgroup", class: "rows-head" }, h("div", { role: "row", class: "rows-row", "aria-rowindex": "1" }, this.heads)), this.body);
    this.element = h("div", { class: "rows", tabindex: "0", role: "region", "aria-label": `${label}, scrolls`, onscroll: () => this.draw() }, this.table);
    this.observer = new ResizeObserver(() => this.draw());
    this.observer.observe(this.element);
    // What is drawn: the first row, how many, and their height.
    this.first = -1;
    this.seen = 0;
    this.height = 0;
  }

  /** @param {T[]} rows @param {string} sort the column, with a minus if it descends */
  show(rows, sort) {
    this.rows = rows;
    this.first = -1;
    this.table.setAttribute("aria-rowcount", String(rows.length + 1));
    this.columns.forEach((column, index) => {
      const way = sort === column.sort ? "ascending" : sort === `-${column.sort}` ? "descending" : null;
      if (way) this.heads[index].setAttribute("aria-sort", way);
      else this.heads[index].removeAttribute("aria-sort");
    });
    this.draw();
  }

  stop() {
    this.observer.disconnect();
  }

  draw() {
    const height = parseFloat(getComputedStyle(this.element).getPropertyValue("--row")) || 36;
    const seen = Math.ceil(this.element.clientHeight / height) + 2 * BEYOND;
    const first = Math.max(0, Math.min(Math.floor(this.element.scrollTop / height) - BEYOND, this.rows.length - seen));
    if (first === this.first && this.seen === seen && this.height === height) return;
    [this.first, this.seen, this.height] = [first, seen, height];
    const has = this.body.contains(document.activeElement) ? document.activeElement?.getAttribute("href") : null;
    this.body.style.height = `${this.rows.length * height}px`;
    put(this.body, this.rows.slice(first, first + seen).map((row, index) => {
      const line = h("div", { role: "row", class: "rows-row", "aria-rowindex": first + index + 2 },
        this.columns.map((column) => h("div", { role: "cell", class: column.class ?? "" }, column.cell(row))));
      line.style.transform = `translateY(${(first + index) * height}px)`;
      return line;
    }));
    if (has) [...this.body.querySelectorAll("a")].find((link) => link.getAttribute("href") === has)?.focus({ preventScroll: true });
  }
}
