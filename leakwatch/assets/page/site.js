// @ts-check
// One creation site: its verdict with the evidence, its pictures, the stacks of its tasks.

/** @import { Feed } from "./feed.js" */
/** @import { Place, Process, Site, Waiting } from "./types.js" */

import { showAlerts } from "./alerts.js";
import { Charts, lifetimes } from "./charts.js";
import { el, entry, fill, fillFrom, refill } from "./dom.js";
import { Flame } from "./flame.js";
import { UNKNOWN, ages, bytes, clean, count, doing, duration, figure, known, noun, outlook, percent, place, shortFrame, signed, siteName, telling, verdictWord } from "./words.js";

/** Frames of a stack, and places that spawn tasks of a type, that are shown. */
const FRAMES = 30;
const SPAWNS = 10;

/**
 * What a site is called in an address: the same as long as the process lives, wherever it stands in a list.
 * FNV-1a of what tells sites apart; names are too long and too odd for an address.
 * @param {Place} site
 */
export function siteKey({ runtime, function: by, file, line, task }) {
  let hash = 0x811c9dc5;
  for (const letter of JSON.stringify([runtime, by, file, line, task])) {
    hash = Math.imul(hash ^ letter.charCodeAt(0), 0x01000193);
  }
  return (hash >>> 0).toString(16);
}

/** @param {Feed} feed @param {number} pid @param {string} key */
export function siteView(feed, pid, key) {
  const crumb = el("a", { href: `#/process/${pid}` }, String(pid));
  const heading = el("h1", { tabindex: -1 });
  const verdict = el("div");
  const alerts = el("div", { class: "cards" });
  const figures = el("dl", { class: "figures" });
  const pictures = el("div", { class: "charts" });
  const places = el("div");
  const flames = el("div");
  const stacks = el("div");
  /** @type {Flame | null} */
  let flame = null;
  const charts = new Charts();
  const element = el("article", {},
    el("nav", { "aria-label": "Where this is", class: "crumbs" }, el("a", { href: "#/" }, "Processes"), " / ", crumb, " / ", el("span", {}, "site")),
    heading, verdict, alerts, figures,
    el("h2", {}, "Over time"), pictures, places,
    el("h2", {}, "What they do now"), flames, stacks);
  return {
    element,
    title: `site of pid ${pid}`,
    recolor: () => charts.recolor(),
    drop: () => charts.drop(),
    update: () => showAlerts(alerts, feed, (alert) => alert.pid === pid && alert.site !== null && siteKey(alert.site) === key),
    /** @param {Process} process */
    show(process) {
      const site = process.sites.find((site) => siteKey(site) === key);
      fill(crumb, el("bdi", {}, clean(process.comm, 64)), ` ${pid}`);
      if (!site) {
        fill(heading, "This site is gone");
        fill(verdict, el("p", {}, "None of its tasks is alive and there is no room for its past, or the program is another one by now."));
        return;
      }
      const word = noun(process);
      fill(heading, el("bdi", { class: "place" }, siteName(site)), " ", el("bdi", { class: "place soft" }, place(site)));
      refill(verdict, ...evidence(site));
      refill(figures, ...entries(site));
      const plateau = site.never_ending_share === null ? null : { share: site.never_ending_share, interval: site.never_ending_interval };
      fill(pictures,
        charts.course("Alive over time", "count", [{ name: "alive", points: site.course ?? [] }]),
        charts.survival(site.lives?.survival ?? [], plateau),
        lifetimes(word, site.lives?.ended ?? [], site.lives ? site.lives.alive : null));
      const { task, task_file, task_line, file, line, spawns, creation_stack } = site;
      fillFrom(places, [task, task_file, task_line, file, line, spawns, creation_stack], () => whereabouts(site));
      if (!flame) {
        flame = new Flame(word);
        fill(flames, flame.element);
      }
      flame.update([site], site.live);
      const listed = site.waiting.reduce((sum, group) => sum + group.count, 0);
      refill(stacks,
        listed < site.live ? el("p", { class: "soft" }, `Of ${count(site.live, word)} the stacks of ${count(listed)} are listed.`) : null,
        ...site.waiting.map((group) => stack(group)));
    },
  };
}

/** @param {Site} site */
function evidence(site) {
  const kind = site.verdict.replace("_", "-");
  return [
    el("div", { class: `verdict ${kind}` },
      el("p", {}, el("span", { class: `badge ${kind}` }, verdictWord(site.verdict)), ` ${clean(site.why, 600)}.`),
      site.forecast ? el("p", {}, el("strong", {}, outlook(site.forecast))) : null,
      site.settles ? el("p", { class: "soft" }, `Open: ${clean(site.settles, 600)}.`) : null),
  ];
}

/** @param {Site} site */
function entries(site) {
  const share = known(site.never_ending_share, (value) =>
    `${percent(value)}${known(site.never_ending_interval, ([low, high]) => ` (${percent(low)} to ${percent(high)})`) ?? ""}`);
  const lifetime = known(site.lifetime_s.p50, (p50) => `${duration(p50)} / ${known(site.lifetime_s.p99, duration) ?? "?"}`);
  const stacks = known(site.stack_bytes, (held) => (site.live > 0 ? `${bytes(held)} (${bytes(held / site.live)} each)` : bytes(held)));
  return [
    entry("Alive", count(site.live)),
    entry("Alive at attach", known(site.live_at_attach, count)),
    entry("Started", count(site.started)),
    entry("Ended", count(site.ended)),
    entry("Growth a minute", known(site.growth_per_min, signed)),
    entry("Confidence", site.verdict === "not_yet" ? null : known(site.confidence, figure)),
    entry("Age p50 / max", ages(site.age_s)),
    entry("Lifetime p50 / p99", lifetime),
    entry("Never end (95 % interval)", share),
    entry("Leak rate", known(site.leak_rate_per_min, (rate) => `${figure(rate)} a minute`)),
    entry("Proven to wait for ever", known(site.proven, count)),
    entry("Memory of stacks", stacks),
  ];
}

/** Where tasks are spawned and what they run, where the name alone does not say. @param {Site} site */
function whereabouts(site) {
  const at = (/** @type {string | null} */ file, /** @type {number | null} */ line) => (file === null ? "" : ` ${clean(file)}${line === null ? "" : `:${line}`}`);
  const said = [];
  if (site.task) said.push(el("p", {}, "Runs ", el("bdi", { class: "place" }, clean(site.task)), el("bdi", { class: "place soft" }, at(site.task_file, site.task_line))));
  if (site.file) said.push(el("p", {}, "Started at ", el("bdi", { class: "place" }, at(site.file, site.line))));
  if (site.spawns.length > 1) {
    said.push(el("p", {}, "Spawned at several places, the most frequent first:"), el("ul", {}, ...site.spawns.slice(0, SPAWNS).map((spawn) => el("li", {},
      el("bdi", { class: "place" }, clean(spawn.function ?? "(unknown)")), el("bdi", { class: "place soft" }, at(spawn.file, spawn.line)), `, seen ${count(spawn.seen, "time")}`))));
  }
  if (site.creation_stack.length > 0) {
    said.push(el("details", {}, el("summary", {}, "The first was made at"), frames(site.creation_stack)));
  }
  return said;
}

/** @param {Waiting} group */
function stack(group) {
  const longest = known(group.longest_s, (seconds) => `, up to ${duration(seconds)}`) ?? "";
  return el("section", { class: "stack" },
    el("h3", {}, `${count(group.count)} `, el("bdi", {}, doing(group.reason)), el("span", { class: "soft" }, `${longest}, ${known(group.share, percent) ?? UNKNOWN} of them`)),
    group.stack.length === 0 ? el("p", { class: "soft" }, "Their stack is not known.") : frames(telling(group.stack)));
}

/** @param {string[]} stack */
function frames(stack) {
  return el("ol", { class: "frames" }, ...stack.slice(0, FRAMES).map((frame) => el("li", {}, el("bdi", { title: clean(frame) }, shortFrame(frame)))),
    stack.length > FRAMES ? el("li", { class: "soft" }, `and ${count(stack.length - FRAMES, "more frame")}`) : null);
}
