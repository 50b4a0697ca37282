// @ts-check
// Files of a process for those who want more than a page.

import { el } from "./dom.js";
import { Failure, ask } from "./feed.js";

/** What can be had of the figures that the agent has anyway. */
const REPORT = { title: "Report, JSON", path: (/** @type {number} */ pid) => `/api/v1/report?pid=${pid}`, end: "json" };

/** A menu. @param {number} pid */
export function downloads(pid) {
  const says = el("p", { class: "soft", role: "status" });
  const button = (/** @type {string} */ title, /** @type {() => Promise<void>} */ fetchIt) => {
    const made = el("button", { type: "button", onclick: async () => {
      made.disabled = true;
      says.textContent = "Working …";
      try {
        await fetchIt();
        says.textContent = "";
      } catch (error) {
        says.textContent = error instanceof Failure || error instanceof Error ? error.message : String(error);
      }
      made.disabled = false;
    } }, title);
    return made;
  };
  return el("div", { class: "downloads" },
    button(REPORT.title, () => save(REPORT.path(pid), {}, `leakwatch-${pid}.${REPORT.end}`)), says);
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
