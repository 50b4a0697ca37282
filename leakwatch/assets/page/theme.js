// @ts-check
// Light or dark: what the system prefers, or what the reader chose. Two files of colours; one of them is switched on or off.

import { byId, setText } from "./dom.js";

const CHOICES = ["auto", "light", "dark"];
const KEY = "leakwatch-theme";

/** Puts the switch to work; `changed` is called when colours have changed. @param {() => void} changed */
export function startTheme(changed) {
  const button = byId("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  let choice = kept();
  const show = () => {
    const media = choice === "auto" ? "(prefers-color-scheme: dark)" : choice === "dark" ? "all" : "not all";
    /** @type {HTMLLinkElement} */ (byId("dark")).media = media;
    setText(button, `Theme: ${choice}`);
    // The colours are those of the new sheet only after it was applied.
    requestAnimationFrame(changed);
  };
  button.addEventListener("click", () => {
    choice = CHOICES[(CHOICES.indexOf(choice) + 1) % CHOICES.length] ?? "auto";
    try {
      localStorage.setItem(KEY, choice);
    } catch {
      // A browser that keeps nothing: the choice is for this visit.
    }
    show();
  });
  system.addEventListener("change", show);
  show();
}

function kept() {
  try {
    const choice = localStorage.getItem(KEY) ?? "auto";
    return CHOICES.includes(choice) ? choice : "auto";
  } catch {
    return "auto";
  }
}

/** A colour by its name, as it is now. @param {string} name */
export function color(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}
