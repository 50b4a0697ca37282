// @ts-check
// A table of any length of which only what can be seen is in the document: 5,000 rows cost as much as 40.

import { el, fill, setText } from "./dom.js";

/** Height of a row, CSS pixels; `page.css` has the same. */
const ROW = 40;
/** Rows beyond the edges, so that a scroll shows no gap. */
const SPARE = 8;

/**
 * A column. `order` makes it sortable; `text` or `cell` says what is in it.
 * @template R
 * @typedef {object} Column
 * @property {string} id
 * @property {string} title
 * @property {boolean} [figure] stands on the right
 * @property {boolean} [head] names the row
 * @property {(row: R) => number | string | null} [order] unknown ones come last
 * @property {(row: R) => string} [text]
 * @property {(cell: HTMLElement, row: R) => void} [cell]
 */

/** @template R */
export class WindowedTable {
  /**
   * @param {object} options
   * @param {string} options.caption
   * @param {Column<R>[]} options.columns
   * @param {(row: R) => string} options.key
   * @param {(row: R, search: string) => boolean} options.matches
   * @param {{ column: string, down: boolean }} options.sort
   * @param {string} options.empty what is said where there are none
   */
  constructor({ caption, columns, key, matches, sort, empty }) {
    this.columns = columns;
    this.key = key;
    this.matches = matches;
    this.sort = sort;
    this.empty = empty;
    this.search = "";
    /** @type {Map<string, R>} */
    this.rows = new Map();
    /** Keys in the order in which they are shown. @type {string[]} */
    this.order = [];
    /** Rows that are in the document. @type {Map<string, { element: HTMLTableRowElement, row: R | null }>} */
    this.shown = new Map();

    this.status = el("p", { class: "soft status", role: "status" });
    this.heads = columns.map((column) => this.head(column));
    this.body = el("tbody");
    this.above = el("tbody", { class: "pad", "aria-hidden": "true" }, el("tr", {}, el("td", { colspan: columns.length })));
    this.below = el("tbody", { class: "pad", "aria-hidden": "true" }, el("tr", {}, el("td", { colspan: columns.length })));
    this.table = el("table", { class: "rows" }, el("caption", { class: "unseen" }, caption),
      el("thead", {}, el("tr", { "aria-rowindex": 1 }, ...this.heads)), this.above, this.body, this.below);
    this.region = el("div", { class: "window", role: "region", "aria-label": caption, tabindex: 0 }, this.table);
    this.element = el("div", {}, this.region, this.status);
    this.region.addEventListener("scroll", () => this.soon(), { passive: true });
    this.region.addEventListener("keydown", (event) => this.onKey(event));
    new ResizeObserver(() => this.soon()).observe(this.region);
    this.showSort();
  }

  /** @param {Column<R>} column */
  head(column) {
    const attributes = { scope: "col", class: column.figure ? "figure" : "", "data-column": column.id };
    if (!column.order) return el("th", attributes, column.title);
    const button = el("button", { type: "button", onclick: () => this.sortBy(column.id) }, column.title);
    return el("th", attributes, button);
  }

  /** @param {string} id */
  sortBy(id) {
    const figure = this.columns.find((column) => column.id === id)?.figure === true;
    this.sort = { column: id, down: this.sort.column === id ? !this.sort.down : figure };
    this.showSort();
    this.arrange(true);
  }

  showSort() {
    for (const head of this.heads) {
      const sorted = head.dataset.column === this.sort.column;
      if (sorted) head.setAttribute("aria-sort", this.sort.down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    }
  }

  /** Shows those that have these words in them. @param {string} search */
  filter(search) {
    this.search = search.trim().toLowerCase();
    this.region.scrollTop = 0;
    this.arrange(true);
  }

  /** @param {Iterable<R>} rows */
  update(rows) {
    this.rows.clear();
    for (const row of rows) this.rows.set(this.key(row), row);
    this.arrange(false);
  }

  /** Somebody points at a row or has chosen one: it must not run away under his hand. */
  get held() {
    return this.body.matches(":hover") || this.body.contains(document.activeElement);
  }

  /** Decides who is shown and in which order. @param {boolean} anyway also under a hand */
  arrange(anyway) {
    const keys = [...this.rows].filter(([, row]) => this.search === "" || this.matches(row, this.search)).map(([key]) => key);
    if (this.held && !anyway) {
      const here = new Set(keys);
      const kept = this.order.filter((key) => here.delete(key));
      this.order = [...kept, ...this.sorted([...here])];
    } else {
      this.order = this.sorted(keys);
    }
    this.draw();
  }

  /** @param {string[]} keys */
  sorted(keys) {
    const by = this.columns.find((column) => column.id === this.sort.column)?.order ?? (() => null);
    const sign = this.sort.down ? -1 : 1;
    const value = new Map(keys.map((key) => [key, by(/** @type {R} */ (this.rows.get(key)))]));
    return keys.sort((a, b) => {
      const [x, y] = [value.get(a) ?? null, value.get(b) ?? null];
      if (x === null || y === null) return x === y ? 0 : x === null ? 1 : -1;
      return x < y ? -sign : x > y ? sign : 0;
    });
  }

  /** Draws with the next frame, once. */
  soon() {
    if (this.frame !== undefined) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = undefined;
      this.draw();
    });
  }

  draw() {
    const { scrollTop, clientHeight } = this.region;
    const first = Math.max(0, Math.floor(scrollTop / ROW) - SPARE);
    const last = Math.min(this.order.length, Math.ceil((scrollTop + Math.max(clientHeight, 20 * ROW)) / ROW) + SPARE);
    const window = this.order.slice(first, last);
    const visible = new Set(window);
    for (const [key, { element }] of this.shown) {
      if (visible.has(key)) continue;
      // Who had the focus keeps his place in the page.
      if (element.contains(document.activeElement)) this.region.focus({ preventScroll: true });
      element.remove();
      this.shown.delete(key);
    }
    /** @type {Element | null} */
    let next = this.body.firstElementChild;
    window.forEach((key, index) => {
      const row = /** @type {R} */ (this.rows.get(key));
      let shown = this.shown.get(key);
      if (!shown) {
        shown = { element: this.makeRow(), row: null };
        this.shown.set(key, shown);
      }
      if (shown.row !== row) {
        this.fillRow(shown.element, row);
        shown.row = row;
      }
      shown.element.setAttribute("aria-rowindex", String(first + index + 2));
      if (shown.element === next) next = next.nextElementSibling;
      else this.body.insertBefore(shown.element, next);
    });
    pad(this.above, first * ROW);
    pad(this.below, (this.order.length - last) * ROW);
    this.table.setAttribute("aria-rowcount", String(this.order.length + 1));
    const [all, these] = [this.rows.size, this.order.length];
    setText(this.status, all === 0 ? this.empty : these === all ? "" : `${these} of ${all} shown`);
  }

  makeRow() {
    return el("tr", {}, ...this.columns.map((column) =>
      column.head ? el("th", { scope: "row" }) : el("td", { class: column.figure ? "figure" : "" })));
  }

  /** @param {HTMLTableRowElement} element @param {R} row */
  fillRow(element, row) {
    this.columns.forEach((column, index) => {
      const cell = /** @type {HTMLElement} */ (element.children[index]);
      if (column.cell) column.cell(cell, row);
      else setText(cell, column.text?.(row) ?? "");
    });
  }

  /** Up and down go from row to row, Home and End to the first and last. @param {KeyboardEvent} event */
  onKey(event) {
    const steps = { ArrowDown: 1, ArrowUp: -1, Home: -Infinity, End: Infinity };
    if (!(event.key in steps) || event.altKey || event.ctrlKey || event.metaKey) return;
    const step = steps[/** @type {keyof typeof steps} */ (event.key)];
    const here = [...this.shown].find(([, { element }]) => element.contains(document.activeElement));
    const at = here ? this.order.indexOf(here[0]) + step : step > 0 && step < Infinity ? 0 : step === Infinity ? Infinity : 0;
    const index = Math.min(Math.max(at, 0), this.order.length - 1);
    const key = this.order[index];
    if (key === undefined) return;
    event.preventDefault();
    const top = index * ROW;
    const head = this.heads[0]?.offsetHeight ?? ROW;
    if (top < this.region.scrollTop) this.region.scrollTop = top;
    const bottom = this.region.scrollTop + this.region.clientHeight - head - ROW;
    if (top > bottom) this.region.scrollTop += top - bottom;
    this.draw();
    /** @type {HTMLElement | null | undefined} */ (this.shown.get(key)?.element.querySelector("a"))?.focus({ preventScroll: true });
  }
}

/** @param {HTMLTableSectionElement} section @param {number} height */
function pad(section, height) {
  section.hidden = height === 0;
  const cell = /** @type {HTMLElement} */ (section.firstElementChild?.firstElementChild);
  cell.style.height = `${height}px`;
}

/** A link that is made once for a cell and changed afterwards, so that it keeps the focus. @param {HTMLElement} cell */
export function linkIn(cell) {
  const link = cell.querySelector("a");
  if (link) return link;
  const made = el("a");
  fill(cell, made);
  return made;
}
