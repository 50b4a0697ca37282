// @ts-check
// One process: its course, its sites, what its tasks do, and what is not known of it.

/** @import { Feed } from "./feed.js" */
/** @import { Process, Site, Moment } from "./types.js" */

import { showAlerts } from "./alerts.js";
import { Charts, perSecond } from "./charts.js";
import { el, entry, fill, fillFrom, plainTable, refill } from "./dom.js";
import { downloads } from "./download.js";
import { Flame } from "./flame.js";
import { siteKey } from "./site.js";
import { WindowedTable, linkIn } from "./table.js";
import { UNKNOWN, ages, badness, bytes, bytesSigned, clean, clock, count, duration, figure, known, noun, place, shortName, signed, siteName, verdictWord, waits } from "./words.js";

/** @param {Feed} feed @param {number} pid */
export function processView(feed, pid) {
  const heading = el("h1", { tabindex: -1 });
  const lead = el("p", { class: "lead" });
  const alerts = el("div", { class: "cards" });
  const zombies = el("div");
  const pictures = el("div", { class: "charts two" });
  const notes = el("div");
  const totals = el("dl", { class: "figures" });
  const children = el("div");
  const table = siteTable(pid);
  const search = el("input", { type: "search", id: "search", placeholder: "function, file, what they wait on", autocomplete: "off", spellcheck: false });
  search.addEventListener("input", () => table.filter(search.value));
  /** @type {Flame | null} */
  let flame = null;
  const flames = el("div");
  const charts = new Charts();
  const element = el("article", {},
    el("nav", { "aria-label": "Where this is", class: "crumbs" }, el("a", { href: "#/" }, "Processes"), " / ", el("span", {}, String(pid))),
    el("header", { class: "title" }, el("div", {}, heading, lead), downloads(feed, pid)),
    alerts,
    zombies,
    el("h2", {}, "Over time"), pictures,
    el("h2", {}, "Where they are started"),
    el("div", { class: "tools" }, el("label", { for: "search" }, "Filter"), search), table.element,
    el("h2", {}, "What they do now"), flames,
    el("h2", {}, "What is lost or not known"), notes,
    el("h2", {}, "Totals"), totals, children);

  return {
    element,
    title: `pid ${pid}`,
    recolor: () => charts.recolor(),
    drop: () => charts.drop(),
    update: () => showAlerts(alerts, feed, (alert) => alert.pid === pid),
    /** @param {Process} process */
    show(process) {
      const word = noun(process);
      fill(heading, el("bdi", {}, clean(process.comm, 64)), el("span", { class: "soft" }, ` pid ${process.pid}`));
      fill(lead, ...summary(process, word));
      fill(zombies, ...process.zombies.map((group) => el("p", {},
        el("span", { class: `badge ${group.verdict.replace("_", "-")}` }, verdictWord(group.verdict)),
        ` ${count(group.count, "zombie")} of `, el("bdi", {}, clean(group.command)), `: ${clean(group.why)}`)));
      fill(pictures, ...courses(charts, process, word));
      const sites = process.sites.filter((site) => !site.system && (site.live > 0 || site.started > 0));
      table.update(sites);
      if (!flame) {
        flame = new Flame(word);
        fill(flames, flame.element);
      }
      flame.update(sites, process.tasks.live);
      const said = process.notes;
      fillFrom(notes, said, () => [said.length === 0 ? el("p", {}, "Nothing was lost.") : el("ul", {}, ...said.map((note) => el("li", {}, clean(note, 600))))]);
      refill(totals, ...entries(process));
      refill(children, ...lists(process));
    },
  };
}

/** @param {Process} process @param {string} word */
function summary(process, word) {
  const growth = known(process.tasks.growth_per_min, signed);
  const runtimes = process.runtimes.map((runtime) => {
    const name = runtime.name ?? runtime.kind;
    const version = runtime.version ? (runtime.version.startsWith(name) ? runtime.version : `${name} ${runtime.version}`) : name;
    const how = { probes: "counted by probes", memory: "sampled from memory", mixed: "counted by probes, partly sampled from memory" }[runtime.mode];
    return clean(`${version}, ${how ?? runtime.mode}`);
  });
  return [
    el("strong", {}, `${count(process.tasks.live, word)} alive`),
    growth === null ? "" : growth === "0" ? ", steady" : `, ${growth} a minute`,
    `, watched for ${known(process.watched_s, duration) ?? UNKNOWN}. `,
    el("bdi", {}, `${runtimes.join("; ")}.`),
  ];
}

/** @param {Charts} charts @param {Process} process @param {string} word */
function courses(charts, process, word) {
  const moments = process.course ?? [];
  const of = (/** @type {1 | 2 | 3 | 4 | 5} */ index) =>
    /** @type {[number, number][]} */ (moments.map((/** @type {Moment} */ moment) => [moment[0], moment[index]]).filter(([, value]) => value !== null));
  return [
    charts.course(`Live ${word}s`, "count", [{ name: "alive", points: of(1) }]),
    charts.course("Starts and ends", "rate", [{ name: "started", points: perSecond(of(2)) }, { name: "ended", points: perSecond(of(3)) }]),
    charts.course("Resident memory", "bytes", [{ name: "resident", points: of(5) }]),
    charts.course("Threads", "count", [{ name: "threads", points: of(4) }]),
  ];
}

/** @param {number} pid @returns {WindowedTable<Site>} */
function siteTable(pid) {
  const orUnknown = (/** @type {number | null} */ value, /** @type {(value: number) => string} */ text) => known(value, text) ?? "?";
  return new WindowedTable({
    caption: "Sites that start tasks",
    key: (/** @type {Site} */ site) => siteKey(site),
    matches: (site, search) => {
      const text = [site.function, site.file, site.task, site.runtime, ...site.waiting.flatMap((group) => [group.reason, ...group.stack])].join("\n").toLowerCase();
      return search.split(/\s+/).every((word) => text.includes(word));
    },
    sort: { column: "verdict", down: true },
    empty: "It has started nothing that is known.",
    columns: [
      { id: "verdict", title: "Verdict", order: (site) => badness(site.verdict) * 1e12 + Math.min(site.live, 1e11),
        cell: (cell, site) => fill(cell, el("span", { class: `badge ${site.verdict.replace("_", "-")}` }, verdictWord(site.verdict))) },
      { id: "site", title: "Started by", head: true, order: (site) => (site.function ?? "").toLowerCase(), cell: (cell, site) => {
        const link = linkIn(cell);
        link.href = `#/process/${pid}/site/${siteKey(site)}`;
        link.title = siteName(site);
        fill(link, el("bdi", { class: "place" }, shortName(site)), " ", el("bdi", { class: "place soft" }, place(site)));
      } },
      { id: "live", title: "Alive", figure: true, order: (site) => site.live, text: (site) => count(site.live) },
      { id: "growth", title: "+/min", figure: true, order: (site) => site.growth_per_min, text: (site) => orUnknown(site.growth_per_min, signed) },
      { id: "starts", title: "Starts/s", figure: true, order: (site) => site.start_rate_per_s, text: (site) => orUnknown(site.start_rate_per_s, figure) },
      { id: "ends", title: "Ends/s", figure: true, order: (site) => site.end_rate_per_s, text: (site) => orUnknown(site.end_rate_per_s, figure) },
      { id: "age", title: "Age p50 / max", figure: true, order: (site) => site.age_s.max, text: (site) => ages(site.age_s) ?? (site.live > 0 ? "?" : "") },
      { id: "waits", title: "Waits on", cell: (cell, site) => {
        const text = waits(site.waiting);
        cell.title = text;
        fill(cell, el("bdi", {}, text));
      } },
    ],
  });
}

/** @param {Process} process */
function entries({ tasks, threads, forks, memory, ...process }) {
  const rate = (/** @type {number} */ total, /** @type {number | null} */ perSecond) => `${count(total)}${known(perSecond, (value) => ` (${figure(value)}/s)`) ?? ""}`;
  const grown = (/** @type {number | null} */ now, /** @type {number | null} */ perMinute) =>
    known(now, (value) => `${bytes(value)}${known(perMinute, (more) => ` (${bytesSigned(more)}/min)`) ?? ""}`);
  return [
    entry("Alive", count(tasks.live)),
    entry("Alive at attach", known(tasks.live_at_attach, count)),
    entry("Started since", rate(tasks.started, tasks.start_rate_per_s)),
    entry("Ended since", rate(tasks.ended, tasks.end_rate_per_s)),
    entry("The runtime's own", count(tasks.system_live)),
    entry("Drift (probes less memory)", known(tasks.drift, (drift) => (drift > 0 ? `+${drift}` : String(drift)))),
    entry("Lost events", count(tasks.lost_events)),
    entry("Threads", known(threads.live, (live) => `${count(live)} (+${threads.started} -${threads.ended})`)),
    entry("Forks", rate(forks.count, forks.rate_per_s)),
    entry("Resident memory", grown(memory.rss_bytes, memory.rss_growth_per_min)),
    entry("Task stacks", grown(memory.task_stack_bytes, memory.task_stack_growth_per_min)),
    entry("Process started", known(process.start_time, clock)),
    entry("Executable", known(process.exe, clean)),
    entry("Build id", known(process.build_id, clean)),
    entry("Container", process.container === null ? "none" : clean(process.container)),
    entry("Container's name", known(process.container_name, clean)),
    entry("Image", known(process.image, clean)),
  ];
}

/** Threads by name, and children by what they executed. @param {Process} process */
function lists({ threads, forks }) {
  const most = 30;
  const lists = [];
  if (threads.by_name.length > 0) {
    lists.push(plainTable("Live threads by name", ["Name", "Alive"], threads.by_name.slice(0, most).map((thread) => [clean(thread.name), count(thread.live)])));
  }
  if (forks.by_command.length > 0) {
    lists.push(plainTable("Child processes by what they executed", ["Command", "Alive", "Forked", "Ended"],
      forks.by_command.slice(0, most).map((child) => [clean(child.command), count(child.live), count(child.forked), count(child.ended)])));
  }
  const rest = Math.max(threads.by_name.length - most, 0) + Math.max(forks.by_command.length - most, 0);
  if (rest > 0) lists.push(el("p", { class: "soft" }, `and ${count(rest, "more name")}`));
  return lists;
}
