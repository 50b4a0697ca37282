// @ts-check
// The agent itself: what it takes, what it can do here and what not, what it leaves out and what went wrong.

/** @import { Feed } from "./feed.js" */
/** @import { About } from "./types.js" */

import { el, entry, plainTable, refill } from "./dom.js";
import { bytes, clean, clock, count, duration, figure, known } from "./words.js";

/** @param {Feed} feed */
export function agentView(feed) {
  const content = el("div");
  const update = () => refill(content, ...(feed.about ? sections(feed.about) : [el("p", {}, "The agent has not said anything yet.")]));
  update();
  return {
    element: el("section", { "aria-labelledby": "agent" }, el("h1", { id: "agent", tabindex: -1 }, "Agent"), content,
      el("p", { class: "soft" }, "Charts are drawn by uPlot, ", el("a", { href: "/page/uplot.txt" }, "MIT licence"), ".")),
    title: "Agent",
    update,
    drop: () => {},
  };
}

/** @param {About} about */
function sections(about) {
  const list = (/** @type {string} */ title, /** @type {Record<string, number>} */ counts, /** @type {string} */ none) => {
    const some = Object.entries(counts).filter(([, number]) => number > 0).sort((a, b) => b[1] - a[1]);
    return some.length === 0 ? el("p", {}, none) : plainTable(title, ["What", "How many"], some.map(([name, number]) => [clean(name.replaceAll("_", " ")), count(number)]));
  };
  return [
    el("dl", { class: "figures" },
      entry("Host", clean(about.host)),
      entry("Started", clock(about.started)),
      entry("Watching takes", known(about.host_percent, (value) => `${figure(value)}% of the machine`)),
      entry("It may take", known(about.budget_percent_of_one_core, (value) => `${figure(value)}% of one core`)),
      entry("A probe hit costs", known(about.hit_ns, (value) => `${figure(value)} ns`)),
      entry("Probes placed", count(about.probes)),
      entry("Processes that got probes", `${count(about.promoted)}, taken off ${count(about.demoted)}`),
      entry("Proofs", `${count(about.proofs.made)} in ${duration(about.proofs.cpu_s)} of processor time, ${count(about.proofs.failed)} failed, ${count(about.proofs.refuted)} refuted`),
      entry("Processes ever watched", count(about.attached)),
      entry("Binaries", `${count(about.binaries.known)} known, ${count(about.binaries.inspected)} read`),
      entry("Processor time", known(about.own.cpu_s, duration)),
      entry("Last turn took", known(about.own.turn_s, duration)),
      entry("Resident memory", known(about.own.rss_bytes, bytes)),
      entry("Open files", known(about.own.open_fds, count)),
      entry("Threads", known(about.own.threads, count))),
    el("h2", {}, "What it can do here"),
    el("ul", { class: "features" }, ...about.features.map((feature) => el("li", {},
      el("span", { class: `badge ${feature.on ? "ok" : "suspect"}` }, feature.on ? "on" : "off"), el("span", {}, `${clean(feature.name.replaceAll("_", " "))}: ${clean(feature.why, 600)}`)))),
    el("h2", {}, "What it does not watch"),
    list("Processes that are left out, by reason", about.left_out, "No process is left out."),
    el("h2", {}, "What was lost"),
    list("Of all processes since the start", about.losses, "Nothing was lost."),
    about.lost_execs > 0 ? el("p", {}, `News of ${count(about.lost_execs, "new program")} was lost; a look through all processes followed each time.`) : null,
    el("h2", {}, "What failed"),
    list("Since the start, by kind", about.errors, "Nothing failed."),
  ];
}
