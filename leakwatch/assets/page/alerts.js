// @ts-check
// What rules say: alerts with their evidence, and every rule with its answer.

/** @import { Feed } from "./feed.js" */
/** @import { Alert, Rule } from "./types.js" */

import { el, fillFrom, plainTable } from "./dom.js";
import { siteKey } from "./site.js";
import { clean, clock, count, known, place, siteName } from "./words.js";

/** @param {Feed} feed */
export function alertsView(feed) {
  const content = el("div");
  // What is not new is not made again: a link would lose the focus.
  const update = () => fillFrom(content, feed.alerting, () => sections(feed));
  update();
  return {
    element: el("section", { "aria-labelledby": "alerts" }, el("h1", { id: "alerts", tabindex: -1 }, "Alerts"), content),
    title: "Alerts",
    update,
    drop: () => {},
  };
}

/** Shows cards of those alerts that are meant. @param {Element} element @param {Feed} feed @param {(alert: Alert) => boolean} meant */
export function showAlerts(element, feed, meant) {
  const alerts = (feed.alerting?.alerts ?? []).filter((alert) => alert.state !== "resolved" && meant(alert));
  fillFrom(element, alerts, () => alerts.map(card));
}

/** @param {Feed} feed */
function sections(feed) {
  const alerting = feed.alerting;
  if (!alerting) return [el("p", {}, "The agent has not said anything of alerts yet.")];
  if (alerting.rules.length === 0) {
    return [el("p", {}, "No rules are given, so nothing can alert: ", el("code", {}, "[[rule]]"), " in the agent's configuration says what to alert about, and ",
      el("code", {}, "leakwatch rules"), " lists those that come with it.")];
  }
  const of = (/** @type {Alert["state"]} */ state) => alerting.alerts.filter((alert) => alert.state === state);
  const list = (/** @type {string} */ title, /** @type {Alert[]} */ alerts) =>
    (alerts.length === 0 ? [] : [el("h2", {}, `${title} (${count(alerts.length)})`), el("div", { class: "cards" }, ...alerts.map(card))]);
  const firing = of("firing");
  return [
    firing.length === 0 ? el("p", { class: "lead" }, "Nothing fires.") : null,
    ...list("Firing", firing),
    ...list("About to fire", of("pending")),
    alerting.more_alerts > 0 ? el("p", { class: "soft" }, `and ${count(alerting.more_alerts, "more alert")}, which are not listed`) : null,
    alerting.rules_not_asked > 0 ? el("p", { class: "suspect" }, `${count(alerting.rules_not_asked)} processes and sites were looked at by no rule: there are more than the limits allow.`) : null,
    ...list("Over", of("resolved")),
    el("h2", {}, "Rules"), ...alerting.rules.map(ruleLine),
    ...(alerting.actions.length === 0 ? [] : [
      plainTable("What was done", ["Action", "Kind", "Done", "Failed", "Given up", "Dropped", "Waiting"], alerting.actions.map((action) =>
        [clean(action.name), action.kind, ...[action.done, action.failed, action.given_up, action.dropped, action.waiting].map((number) => count(number))])),
      ...alerting.actions.filter((action) => action.last_error).map((action) =>
        el("p", { class: "suspect" }, `${clean(action.name)}: ${clean(action.last_error)}`)),
    ]),
  ];
}

/** @param {Alert} alert */
function card(alert) {
  const process = `#/process/${alert.pid}`;
  const link = alert.site
    ? el("a", { href: `${process}/site/${siteKey(alert.site)}` }, el("bdi", { class: "place" }, siteName(alert.site, 120)), " ", el("bdi", { class: "place" }, place(alert.site)))
    : el("a", { href: process }, "the process");
  const kind = alert.state === "resolved" ? "ok" : ["P0", "red", "P1"].includes(alert.level) ? "leak" : "suspect";
  const labels = Object.entries(alert.labels).map(([name, value]) => el("span", { class: "label" }, clean(`${name}=${value}`, 100)));
  const notes = Object.entries(alert.annotations).map(([name, value]) => el("p", { class: "soft" }, `${clean(name, 60)}: ${clean(value)}`));
  return el("section", { class: `card ${kind}` },
    el("h3", {}, el("span", { class: `badge ${kind}` }, `${alert.level} ${alert.state}`), " ", el("bdi", {}, clean(alert.rule, 80))),
    el("p", {}, el("bdi", {}, clean(alert.comm, 64)), ` pid ${alert.pid}: `, link),
    el("p", {}, clean(alert.why, 600)),
    alert.about ? el("p", { class: "soft" }, clean(alert.about, 600)) : null,
    ...notes,
    el("p", { class: "soft" }, `since ${clock(alert.since)}${known(alert.fired, (time) => `, fires since ${clock(time)}`) ?? ""} `, ...labels));
}

/** @param {Rule} rule */
function ruleLine(rule) {
  const kind = { firing: "leak", ok: "ok", not_enough_data: "not-yet" }[rule.state];
  const asked = `asked of ${count(rule.asked, rule.per)}: ${count(rule.firing)} firing, ${count(rule.pending)} about to, ${count(rule.not_enough_data)} with too little seen`;
  return el("section", { class: "rule" },
    el("h3", {}, el("span", { class: `badge ${kind}` }, rule.state.replaceAll("_", " ")), " ", el("bdi", {}, clean(rule.name, 80)), el("span", { class: "soft" }, ` ${rule.level}`)),
    el("p", {}, clean(rule.why, 600) || "Nobody was asked yet."),
    el("p", { class: "soft" }, asked));
}
