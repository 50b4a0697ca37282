// @ts-check
// Files of a process for those who want more than a page: what the agent knows anyway, and dumps, which it makes for who
// gives a token or password.

/** @import { Feed } from "./feed.js" */

import { el, setText } from "./dom.js";
import { Failure, ask } from "./feed.js";

/**
 * Title, what it is, path, and how it is asked for, end of the file's name.
 * @type {[string, string, (pid: number) => string, RequestInit, string][]}
 */
const FILES = [
  ["Report", "the agent's report of this process, JSON", (pid) => `/api/v1/report?pid=${pid}`, {}, "report.json"],
  ["Dump", "every task with its stack, as the runtime prints it", (pid) => `/api/v1/dump?pid=${pid}`, { method: "POST" }, "dump.txt"],
  ["pprof", "a dump for go tool pprof", (pid) => `/api/v1/dump?pid=${pid}&format=pprof`, { method: "POST" }, "dump.pb.gz"],
  ["Dump, JSON", "every task with its stack, for programs", (pid) => `/api/v1/dump?pid=${pid}&format=json`, { method: "POST" }, "dump.json"],
];

/** Buttons. @param {Feed} feed @param {number} pid */
export function downloads(feed, pid) {
  const says = el("p", { class: "soft", role: "status" });
  const buttons = FILES.map(([title, about, path, options, end]) => {
    const button = el("button", { type: "button", title: about, onclick: async () => {
      button.disabled = true;
      setText(says, "Working …");
      try {
        await save(path(pid), options, `leakwatch-${pid}-${end}`);
        setText(says, "");
      } catch (error) {
        setText(says, error instanceof Error ? error.message : String(error));
        if (error instanceof Failure && error.refused) feed.refuse(error);
      }
      button.disabled = false;
    } }, title);
    return button;
  });
  return el("div", { class: "downloads", role: "group", "aria-label": "Download" }, el("span", { class: "soft" }, "Download"), ...buttons, says);
}

/** Fetches and saves: a link could not send a token. @param {string} path @param {RequestInit} options @param {string} name */
async function save(path, options, name) {
  const response = await ask(path, options);
  const address = URL.createObjectURL(await response.blob());
  const link = el("a", { href: address, download: name });
  link.click();
  // The browser has taken it by the next turn of its loop.
  setTimeout(() => URL.revokeObjectURL(address), 1_000);
}
