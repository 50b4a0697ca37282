// @ts-check
// A flame graph of what live tasks do now, the outermost frame on top: as wide as many tasks have it on their stack.
// One frame can be chosen by Tab and the arrow keys; Enter looks closer, Escape looks at all again.

/** @import { Site } from "./types.js" */

import { el, fill, setText, svg } from "./dom.js";
import { clean, count, doing, percent, shortFrame, telling } from "./words.js";

const HEIGHT = 22;
/** Frames that are narrower, CSS pixels, cannot be seen and are left out. */
const NARROWEST = 2;
/** Width of a letter, CSS pixels, at most. */
const LETTER = 7;

/**
 * @typedef {object} Node
 * @property {string} name
 * @property {number} tasks
 * @property {Map<string, Node>} inner
 * @property {Node | null} outer
 * @property {boolean} wait it is no frame but what is waited for
 */

/** @param {string} name @param {Node | null} outer @param {boolean} wait @returns {Node} */
function node(name, outer, wait) {
  return { name, tasks: 0, inner: new Map(), outer, wait };
}

/** Stacks of sites, merged. @param {Site[]} sites @param {string} noun */
export function merge(sites, noun) {
  const root = node(`all ${noun}s whose stacks are known`, null, false);
  for (const group of sites.flatMap((site) => site.waiting)) {
    if (group.stack.length === 0) continue;
    root.tasks += group.count;
    let at = root;
    for (const frame of telling(group.stack).toReversed()) {
      at = inner(at, frame, false);
      at.tasks += group.count;
    }
    inner(at, doing(group.reason), true).tasks += group.count;
  }
  return root;
}

/** @param {Node} outer @param {string} name @param {boolean} wait */
function inner(outer, name, wait) {
  let found = outer.inner.get(name);
  if (!found) {
    found = node(name, outer, wait);
    outer.inner.set(name, found);
  }
  return found;
}

/** Colour by package, so that what belongs together looks alike. @param {Node} frame */
function tint(frame) {
  if (frame.wait || !frame.outer) return "wait";
  const end = frame.name.search(/[.(]\(|\.[^./]*$|\.[^./]*\(| \(/);
  let hash = 0;
  for (const letter of frame.name.slice(0, end < 0 ? undefined : end)) hash = (hash * 31 + letter.charCodeAt(0)) % 6_007;
  return `tint-${hash % 6}`;
}

/** The picture and the line below it that says what is pointed at. */
export class Flame {
  /** @param {string} noun of its tasks */
  constructor(noun) {
    this.noun = noun;
    this.root = node("", null, false);
    this.live = 0;
    this.top = this.root;
    this.picture = svg("svg", { class: "flame", role: "group", "aria-label": "Flame graph of the stacks of live tasks" });
    this.says = el("p", { class: "soft says" });
    this.back = el("button", { type: "button", class: "small", hidden: true, onclick: () => this.zoom(this.root) }, "Show all");
    this.element = el("div", { class: "flames" }, this.picture, el("div", { class: "line" }, this.says, this.back));
    this.picture.addEventListener("keydown", (event) => this.onKey(event));
    new ResizeObserver(() => this.draw()).observe(this.element);
  }

  /** @param {Site[]} sites @param {number} live tasks that there are, those without a known stack among them */
  update(sites, live) {
    this.live = live;
    const path = pathOf(this.top);
    this.root = merge(sites, this.noun);
    // Whoever looked closer goes on doing so, where the frame is still there.
    /** @type {Node | undefined} */
    let top = this.root;
    for (const name of path) top = top?.inner.get(name);
    this.top = top ?? this.root;
    this.draw();
  }

  /** @param {Node} top */
  zoom(top) {
    this.top = top;
    this.draw();
    this.focus(top);
  }

  draw() {
    const width = this.element.clientWidth;
    if (width === 0) return;
    const focused = document.activeElement instanceof SVGElement ? this.nodes?.get(document.activeElement) : undefined;
    /** @type {Map<SVGElement, Node>} */
    this.nodes = new Map();
    let deepest = 0;
    /** @type {SVGElement[]} */
    const drawn = [];
    // The frames around the chosen one, then all within it.
    const around = [];
    for (let frame = this.top.outer; frame; frame = frame.outer) around.unshift(frame);
    const place = (/** @type {Node} */ frame, /** @type {number} */ left, /** @type {number} */ wide, /** @type {number} */ level) => {
      deepest = Math.max(deepest, level);
      drawn.push(this.box(frame, left, wide, level));
    };
    around.forEach((frame, level) => place(frame, 0, width, level));
    const within = (/** @type {Node} */ frame, /** @type {number} */ left, /** @type {number} */ wide, /** @type {number} */ level) => {
      if (wide < NARROWEST) return;
      place(frame, left, wide, level);
      let at = left;
      for (const next of [...frame.inner.values()].sort((a, b) => b.tasks - a.tasks)) {
        const share = (next.tasks / Math.max(frame.tasks, 1)) * wide;
        within(next, at, share, level + 1);
        at += share;
      }
    };
    if (this.root.tasks > 0) within(this.top, 0, width, around.length);
    const height = (deepest + 1) * HEIGHT;
    this.picture.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.picture.setAttribute("height", String(height));
    fill(this.picture, ...drawn);
    this.back.hidden = this.top === this.root;
    this.picture.classList.toggle("none", this.root.tasks === 0);
    if (this.root.tasks === 0) setText(this.says, "No stacks are known.");
    else this.say(this.top);
    const chosen = [...this.nodes].find(([, frame]) => frame === (focused ?? this.top))?.[0] ?? drawn[0];
    chosen?.setAttribute("tabindex", "0");
    if (focused) chosen?.focus();
  }

  /** @param {Node} frame @param {number} left @param {number} wide @param {number} level */
  box(frame, left, wide, level) {
    const name = frame.wait ? clean(frame.name) : shortFrame(frame.name);
    const letters = Math.floor((wide - 8) / LETTER);
    const label = letters < 3 ? "" : name.length <= letters ? name : `${name.slice(0, letters - 1)}…`;
    const box = svg("g", {
      class: `frame ${tint(frame)}`, role: "button", tabindex: -1, "aria-label": this.sentence(frame),
      onclick: () => this.zoom(frame), onfocus: () => this.say(frame), onmouseenter: () => this.say(frame),
    },
      svg("rect", { x: left, y: level * HEIGHT, width: Math.max(wide - 1, 1), height: HEIGHT - 1, rx: 2 }),
      svg("text", { x: left + 5, y: level * HEIGHT + 15, "aria-hidden": "true" }, label));
    this.nodes?.set(box, frame);
    return box;
  }

  /** @param {Node} frame */
  sentence(frame) {
    if (frame === this.root) return `${frame.name}: ${count(frame.tasks)} of ${count(this.live, this.noun)}`;
    const name = frame.wait ? clean(frame.name) : shortFrame(frame.name);
    return `${name}: ${count(frame.tasks, this.noun)}, ${percent(frame.tasks / Math.max(this.root.tasks, 1))}`;
  }

  /** @param {Node} frame */
  say(frame) {
    setText(this.says, this.sentence(frame));
  }

  /** @param {Node | null | undefined} frame */
  focus(frame) {
    const found = [...(this.nodes ?? [])].find(([, other]) => other === frame)?.[0];
    if (!found) return;
    for (const box of this.nodes?.keys() ?? []) box.setAttribute("tabindex", "-1");
    found.setAttribute("tabindex", "0");
    found.focus();
  }

  /** @param {KeyboardEvent} event */
  onKey(event) {
    const frame = event.target instanceof SVGElement ? this.nodes?.get(event.target) : undefined;
    if (!frame) return;
    const beside = [...(frame.outer?.inner.values() ?? [])].sort((a, b) => b.tasks - a.tasks);
    const at = beside.indexOf(frame);
    switch (event.key) {
      case "ArrowDown": this.focus([...frame.inner.values()].sort((a, b) => b.tasks - a.tasks)[0]); break;
      case "ArrowUp": this.focus(frame.outer); break;
      case "ArrowRight": this.focus(beside[at + 1]); break;
      case "ArrowLeft": this.focus(beside[at - 1]); break;
      case "Enter": case " ": this.zoom(frame); break;
      case "Escape": this.zoom(this.root); break;
      default: return;
    }
    event.preventDefault();
  }
}

/** @param {Node} frame */
function pathOf(frame) {
  const names = [];
  for (let at = frame; at.outer; at = at.outer) names.unshift(at.name);
  return names;
}
