// @ts-check
// All processes of the host, and how it is with them.

/** @import { Feed } from "./feed.js" */
/** @import { Row, Verdict } from "./types.js" */

import { spark } from "./charts.js";
import { el, fill, setText } from "./dom.js";
import { WindowedTable, linkIn } from "./table.js";
import { UNKNOWN, badness, bytes, clean, count, figure, home, known, place, shortName, signed, verdictWord } from "./words.js";

/** @typedef {Row & { curve: [number, number][] }} Shown */

/** @param {Feed} feed */
export function hostView(feed) {
  /** @type {"" | Verdict} */
  let only = "";
  const tiles = el("dl", { class: "tiles" });
  const search = el("input", { type: "search", id: "search", placeholder: "name, pid, container, image, function", autocomplete: "off", spellcheck: false });
  const chips = /** @type {["" | Verdict, string][]} */ ([["", "All"], ["leak", "Leaks"], ["suspect", "Suspects"]]).map(([verdict, title]) =>
    el("button", { type: "button", class: "chip", "aria-pressed": verdict === only, "data-verdict": verdict, onclick: () => choose(verdict) }, title));
  const table = processTable();
  search.addEventListener("input", () => table.filter(search.value));

  const choose = (/** @type {"" | Verdict} */ verdict) => {
    only = verdict;
    for (const chip of chips) chip.setAttribute("aria-pressed", String(chip.dataset.verdict === only));
    update();
  };
  const update = () => {
    const rows = [...feed.rows.values()];
    fill(tiles, ...summary(feed, rows));
    table.update(only === "" ? rows : rows.filter((row) => (only === "leak" ? row.leaks : row.suspects) > 0));
  };
  const element = el("section", { "aria-labelledby": "processes" },
    el("h1", { id: "processes", tabindex: -1 }, "Processes"), tiles,
    el("div", { class: "tools" },
      el("label", { for: "search" }, "Filter"), search,
      el("div", { role: "group", "aria-label": "Verdict", class: "chips" }, ...chips)),
    table.element);
  update();
  return { element, title: "Processes", update, drop: () => {} };
}

/** @param {Feed} feed @param {Row[]} rows */
function summary(feed, rows) {
  const sum = (/** @type {(row: Row) => number} */ of) => rows.reduce((total, row) => total + of(row), 0);
  const [leaks, suspects] = [sum((row) => row.leaks), sum((row) => row.suspects)];
  const about = feed.about;
  const firing = feed.alerting?.alerts.filter((alert) => alert.state === "firing").length ?? 0;
  return [
    tile("Processes", count(rows.length)),
    tile("Leaks", count(leaks), leaks > 0 ? "leak" : ""),
    tile("Suspects", count(suspects), suspects > 0 ? "suspect" : ""),
    tile("Tasks alive", count(sum((row) => row.tasks_live))),
    tile("Alerts", feed.alerting?.rules.length ? `${count(firing)} firing` : "no rules", firing > 0 ? "leak" : ""),
    tile("Cost, of the machine", known(about?.host_percent, (value) => `${figure(value)}%`) ?? UNKNOWN),
  ];
}

/** @param {string} name @param {string} value @param {string} [kind] */
function tile(name, value, kind = "") {
  return el("div", {}, el("dt", {}, name), el("dd", { class: kind }, value));
}

/** @returns {WindowedTable<Shown>} */
function processTable() {
  const orUnknown = (/** @type {number | null} */ value, /** @type {(value: number) => string} */ text) => known(value, text) ?? "?";
  return new WindowedTable({
    caption: "Processes that are watched",
    key: (/** @type {Shown} */ row) => String(row.pid),
    matches: (row, search) => {
      const text = [row.comm, row.pid, row.exe, row.container, row.container_name, row.image, row.pod?.namespace, row.pod?.name, row.worst?.function, row.worst?.file,
        ...row.runtimes.map((runtime) => runtime.kind)].join("\n").toLowerCase();
      return search.split(/\s+/).every((word) => text.includes(word));
    },
    sort: { column: "verdict", down: true },
    empty: "No process is watched.",
    columns: [
      { id: "verdict", title: "Verdict", figure: false, cell: badge,
        // Among equals the one with the most of them, then the one with the most tasks.
        order: (row) => badness(row.verdict) * 1e15 + row.leaks * 1e12 + row.suspects * 1e10 + Math.min(row.tasks_live, 1e9) },
      { id: "comm", title: "Process", head: true, order: (row) => row.comm.toLowerCase(), cell: name },
      { id: "live", title: "Alive", figure: true, order: (row) => row.tasks_live, text: (row) => count(row.tasks_live) },
      { id: "curve", title: "", cell: (cell, row) => fill(cell, spark(row.curve)) },
      { id: "growth", title: "+/min", figure: true, order: (row) => row.growth_per_min, text: (row) => orUnknown(row.growth_per_min, signed) },
      { id: "starts", title: "Starts/s", figure: true, order: (row) => row.start_rate_per_s, text: (row) => orUnknown(row.start_rate_per_s, figure) },
      { id: "threads", title: "Threads", figure: true, order: (row) => row.threads_live, text: (row) => orUnknown(row.threads_live, count) },
      { id: "rss", title: "Memory", figure: true, order: (row) => row.rss_bytes, text: (row) => orUnknown(row.rss_bytes, bytes) },
      { id: "runtime", title: "Runtime", order: (row) => runtimes(row), text: runtimes },
      { id: "worst", title: "Worst site", cell: worst },
    ],
  });
}

/** @param {Row} row */
function runtimes(row) {
  return row.runtimes.map((runtime) => clean(runtime.version?.startsWith(runtime.kind) ? runtime.version : `${runtime.kind} ${runtime.version ?? ""}`.trim(), 40)).join(", ");
}

/** @param {HTMLElement} cell @param {Row} row */
function badge(cell, row) {
  const many = row.verdict === "leak" && row.leaks > 1 ? ` ${count(row.leaks)}` : row.verdict === "suspect" && row.suspects > 1 ? ` ${count(row.suspects)}` : "";
  fill(cell, el("span", { class: `badge ${row.verdict?.replace("_", "-") ?? ""}` }, `${verdictWord(row.verdict)}${many}`));
}

/** @param {HTMLElement} cell @param {Row} row */
function name(cell, row) {
  const link = linkIn(cell);
  link.href = `#/process/${row.pid}`;
  const where = home(row);
  fill(link, el("bdi", {}, clean(row.comm, 64)));
  let more = cell.querySelector("span");
  if (!more) {
    more = el("span", { class: "soft more" });
    cell.append(more);
  }
  const tier = row.tier === "memory" ? "" : `, ${row.tier}`;
  const lost = row.lost > 0 ? `, ${count(row.lost)} lost` : "";
  setText(more, ` ${row.pid}${where ? `, ${where}` : ""}${tier}${lost}`);
}

/** @param {HTMLElement} cell @param {Row} row */
function worst(cell, row) {
  if (!row.worst || badness(row.verdict) < badness("suspect")) {
    fill(cell);
    return;
  }
  const text = `${shortName(row.worst)} ${place(row.worst)}`;
  cell.title = text;
  fill(cell, el("bdi", { class: "place" }, text));
}
