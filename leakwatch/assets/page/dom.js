// @ts-check
// Elements. Text becomes text nodes and never markup: names come from foreign programs.

import { UNKNOWN } from "./words.js";

/** @typedef {Node | string | number | null | undefined | false} Child */

/**
 * An element with attributes, handlers (`onclick`, …) and children.
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {Record<string, unknown>} [attributes] `class`, `href`, `aria-…`; `false` and `null` are left out
 * @param {...Child} children
 * @returns {HTMLElementTagNameMap[T]}
 */
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  dress(element, attributes);
  append(element, children);
  return element;
}

/**
 * The same for pictures.
 * @template {keyof SVGElementTagNameMap} T
 * @param {T} tag
 * @param {Record<string, unknown>} [attributes]
 * @param {...Child} children
 * @returns {SVGElementTagNameMap[T]}
 */
export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  dress(element, attributes);
  append(element, children);
  return element;
}

/** @param {Element} element @param {Record<string, unknown>} attributes */
function dress(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || (value === false && !name.startsWith("aria-"))) continue;
    if (typeof value === "function") {
      element.addEventListener(name.slice(2), /** @type {EventListener} */ (value));
    } else {
      // What ARIA knows is `true` and `false`; other attributes are there or not.
      element.setAttribute(name, value === true && !name.startsWith("aria-") ? "" : String(value));
    }
  }
}

/** @param {Element} element @param {Child[]} children */
function append(element, children) {
  for (const child of children) {
    if (child === null || child === undefined || child === false) continue;
    element.append(typeof child === "number" ? String(child) : child);
  }
}

/** Replaces what an element holds; nothing is done where it is that already. @param {Element} element @param {...Child} children */
export function fill(element, ...children) {
  const same = children.length === element.childNodes.length && children.every((child, index) => child === element.childNodes[index]);
  if (same) return;
  element.replaceChildren();
  append(element, children);
}

/** The same, unless somebody has marked text in it or has the focus there: it must not be pulled away. @param {Element} element @param {...Child} children */
export function refill(element, ...children) {
  const marked = getSelection();
  const held = element.contains(document.activeElement) || (marked && !marked.isCollapsed && element.contains(marked.anchorNode));
  if (!held) fill(element, ...children);
}

/** What elements were last filled from. @type {WeakMap<Element, string>} */
const filled = new WeakMap();

/** Fills an element anew only where what it is made of has changed. @param {Element} element @param {unknown} data @param {() => Child[]} make */
export function fillFrom(element, data, make) {
  const text = JSON.stringify(data);
  if (filled.get(element) === text) return;
  filled.set(element, text);
  fill(element, ...make());
}

/** Changes a text only where it is another: nothing is drawn again for nothing. @param {Node} node @param {string} text */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** The element of the page with this id. @param {string} id @returns {HTMLElement} */
export function byId(id) {
  const element = document.getElementById(id);
  if (!element) throw new Error(`the page has no #${id}`);
  return element;
}

/** A figure with its name; what is not known is said so. @param {string} name @param {string | null} value */
export function entry(name, value) {
  return el("div", { class: (value?.length ?? 0) > 24 ? "wide" : "" }, el("dt", {}, name), value === null ? el("dd", { class: "soft" }, UNKNOWN) : el("dd", {}, el("bdi", {}, value)));
}

/** A table that is short. @param {string} caption @param {string[]} heads @param {string[][]} rows */
export function plainTable(caption, heads, rows) {
  const kind = (/** @type {number} */ index) => (index === 0 ? "" : "figure");
  return el("table", {}, el("caption", {}, caption),
    el("thead", {}, el("tr", {}, ...heads.map((head, index) => el("th", { scope: "col", class: kind(index) }, head)))),
    el("tbody", {}, ...rows.map((row) => el("tr", {}, ...row.map((cell, index) =>
      index === 0 ? el("th", { scope: "row" }, el("bdi", {}, cell)) : el("td", { class: "figure" }, cell))))));
}
