// @ts-check
// The page: which view is shown by the address behind `#`, and how fresh it is.

import { agentView } from "./agent.js";
import { alertsView } from "./alerts.js";
import { byId, fill, setText } from "./dom.js";
import { Failure, Feed, STALE, reportOf } from "./feed.js";
import { hostView } from "./host.js";
import { processView } from "./process.js";
import { siteView } from "./site.js";
import { startTheme } from "./theme.js";
import { clean, count, duration } from "./words.js";

/**
 * @typedef {object} View
 * @property {HTMLElement} element
 * @property {string} title
 * @property {() => void} update the feed has news
 * @property {() => void} drop it is left
 * @property {() => void} [recolor] colours are others
 * @property {(process: import("./types.js").Process) => void} [show] a report of its process came
 */

/** No report is asked for more often, ms. */
const REPORT_EVERY = 1_000;

const feed = new Feed();
/** @type {View} */
let view = hostView(feed);
/** The process that the view is about. @type {number | null} */
let pid = null;
/** What of it has been asked for, so that nothing is asked for twice; `null`: nothing yet. @type {number | null} */
let looks = null;
let asking = false;
let asked = -Infinity;

/** @param {boolean} first the page was just opened: nobody was elsewhere in it */
function route(first) {
  const [kind, number, part, key] = location.hash.replace(/^#\/?/, "").split("/");
  const process = Number.parseInt(number ?? "", 10);
  view.drop();
  pid = null;
  looks = null;
  asked = -Infinity;
  if (kind === "process" && Number.isInteger(process)) {
    pid = process;
    view = part === "site" && key ? siteView(feed, pid, key) : processView(feed, pid);
  } else if (kind === "alerts") view = alertsView(feed);
  else if (kind === "agent") view = agentView(feed);
  else view = hostView(feed);
  fill(byId("view"), view.element);
  for (const link of document.querySelectorAll("#nav a")) {
    const here = link.getAttribute("href") === `#/${kind === "alerts" || kind === "agent" ? kind : ""}`;
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (!first) {
    scrollTo(0, 0);
    // Who listens to the page hears where he is.
    view.element.querySelector("h1")?.focus({ preventScroll: true });
  }
  update();
}

function update() {
  const about = feed.about;
  setText(byId("host"), about ? clean(about.host, 64) : "");
  document.title = `${view.title} - ${about ? clean(about.host, 64) : "leakwatch"}`;
  const firing = feed.alerting?.alerts.filter((alert) => alert.state === "firing").length ?? 0;
  setText(byId("firing"), firing > 0 ? ` ${count(firing)}` : "");
  byId("view").hidden = feed.refused !== null;
  if (feed.refused) showGate(feed.refused);
  else byId("gate").hidden = true;
  view.update();
  freshness();
  void report();
}

/** Says how old the figures are; nothing is worse than a page that stands still and looks alive. */
function freshness() {
  const age = feed.heard === null ? null : performance.now() - feed.heard;
  const old = age === null || age > STALE;
  const gone = pid !== null && feed.heard !== null && !feed.rows.has(pid);
  const state = byId("state");
  state.className = feed.refused || old ? "state old" : "state live";
  setText(state, feed.refused ? "not signed in" : age === null ? "connecting" : old ? `no news for ${duration(Math.round(age / 1000))}` : "live");
  const banner = byId("banner");
  banner.hidden = !gone && !(old && age !== null);
  setText(banner, gone ? "This process is not watched, or not any more: it has ended, or nothing in it is known. What is shown is what was seen last."
    : `The agent has not said anything for ${duration(Math.round((age ?? 0) / 1000))}: what is shown is what was so then.`);
}

/** Asks for the report of the view's process where it was looked at since the last one. */
async function report() {
  const show = view.show;
  const row = pid === null ? undefined : feed.rows.get(pid);
  const now = performance.now();
  if (!show || !row || asking || document.hidden || row.looks === looks || now - asked < REPORT_EVERY) return;
  asking = true;
  asked = now;
  const [wanted, shown] = [row, view];
  try {
    const process = await reportOf(row.pid);
    if (process && shown === view) {
      show(process);
      looks = wanted.looks;
    }
  } catch (error) {
    if (error instanceof Failure && error.refused) feed.refuse(error);
    // Else the stream tells that the agent is away.
  } finally {
    asking = false;
  }
}

/** @param {Failure} refused */
function showGate(refused) {
  const gate = byId("gate");
  if (!gate.hidden) return;
  gate.hidden = false;
  setText(byId("gate-says"), refused.status === 403
    ? `The agent says: ${refused.message}. It knows no token and no password; [http] bearer_token_file or basic_users_file names them.`
    : `The agent says: ${refused.message}.`);
  // There is something to go back to.
  byId("gate-back").hidden = feed.about === null;
  byId("secret").focus();
}

function startGate() {
  byId("gate-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const user = /** @type {HTMLInputElement} */ (byId("user"));
    const secret = /** @type {HTMLInputElement} */ (byId("secret"));
    // As RFC 7617 has it, in UTF-8.
    const pair = Array.from(new TextEncoder().encode(`${user.value}:${secret.value}`), (byte) => String.fromCharCode(byte)).join("");
    feed.signIn(user.value === "" ? `Bearer ${secret.value}` : `Basic ${btoa(pair)}`);
    secret.value = "";
  });
  byId("gate-back").addEventListener("click", () => feed.signIn(null));
}

addEventListener("hashchange", () => route(false));
addEventListener("keydown", (event) => {
  // `/` goes to the filter, as on the terminal.
  if (event.key !== "/" || event.target instanceof HTMLInputElement || event.ctrlKey || event.metaKey || event.altKey) return;
  const search = document.getElementById("search");
  if (search) {
    event.preventDefault();
    search.focus();
  }
});
startTheme(() => view.recolor?.());
startGate();
feed.onChange(update);
setInterval(freshness, 1_000);
route(true);
void feed.run();
