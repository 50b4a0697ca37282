// @ts-check
// Figures and names as people read them; the same words as in the table, the terminal and the report (detect/units.rs,
// report/words.rs, report/clean.rs). What is not known is said so and is never 0.

/** @import { Site, Waiting, Row } from "./types.js" */

/** Longest name that is shown whole. */
export const LONGEST = 300;

/** What stands for a figure that nobody has. */
export const UNKNOWN = "not known";

/**
 * A foreign name made harmless and short: controls, changes of direction and invisible characters become escapes, the middle
 * of what is long gives way to an ellipsis.
 * @param {string | null | undefined} text
 * @param {number} [most]
 */
export function clean(text, most = LONGEST) {
  // Code points are not cut in two, and 10 kB are not looked at to show 300 characters.
  const letters = Array.from((text ?? "").slice(0, 1 << 16));
  if (letters.length > most) {
    const head = Math.floor((most - 1) / 2);
    letters.splice(head, letters.length - most + 1, "…");
  }
  return letters.map(harmless).join("");
}

/** @param {string} letter */
function harmless(letter) {
  switch (letter) {
    case "\n": return "\\n";
    case "\r": return "\\r";
    case "\t": return "\\t";
    default:
  }
  const hex = (letter.codePointAt(0) ?? 0).toString(16);
  if (/[\0-\x1f\x7f]/.test(letter)) return `\\x${hex.padStart(2, "0")}`;
  // Controls, formats (direction, joiners), marks that stand on the letter before, lone surrogates, line separators.
  return /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}\p{Mn}\p{Me}]/u.test(letter) ? `\\u{${hex}}` : letter;
}

/** `1,234`, `1 task`, `12 tasks`. @param {number} number @param {string} [noun] */
export function count(number, noun = "") {
  const digits = Math.round(number).toString().replace(/\B(?=(\d{3})+$)/g, ",");
  if (!noun) return digits;
  return `${digits} ${number === 1 ? noun : noun + (noun.endsWith("s") ? "es" : "s")}`;
}

/** With as many decimals as are worth reading. @param {number} value */
export function figure(value) {
  if (!Number.isFinite(value)) return "?";
  const size = Math.abs(value);
  const decimals = size >= 0.005 && size < 0.95 ? 2 : size >= 0.95 && size < 99.95 ? 1 : 0;
  const [whole, fraction = ""] = size.toFixed(decimals).split(".");
  const rest = fraction.replace(/0+$/, "");
  return `${value < 0 && size >= 0.005 ? "-" : ""}${count(Number(whole))}${rest && "."}${rest}`;
}

/** A change, with its sign. @param {number} value */
export function signed(value) {
  const text = figure(value);
  return value > 0 && text !== "0" && text !== "?" ? `+${text}` : text;
}

/** In its one or two largest units. @param {number} seconds */
export function duration(seconds) {
  if (!Number.isFinite(seconds) || seconds < 0) return "?";
  if (seconds < 59.95) {
    if (seconds === 0) return "0s";
    const [value, unit] =
      seconds >= 0.9995 ? [seconds, "s"] : seconds >= 0.0009995 ? [seconds * 1e3, "ms"] : [seconds * 1e6, "us"];
    return `${value >= 9.95 ? value.toFixed(0) : value.toFixed(1).replace(/\.0$/, "")}${unit}`;
  }
  const whole = Math.round(seconds);
  const [big, bigUnit, small, smallUnit] =
    whole < 3_600 ? [Math.floor(whole / 60), "m", whole % 60, "s"]
    : whole < 86_400 ? [Math.floor(whole / 3_600), "h", Math.floor((whole % 3_600) / 60), "m"]
    : [Math.floor(whole / 86_400), "d", Math.floor((whole % 86_400) / 3_600), "h"];
  return small === 0 || big >= 10 ? `${count(big)}${bigUnit}` : `${big}${bigUnit}${small}${smallUnit}`;
}

/** In binary units. @param {number} number */
export function bytes(number) {
  if (!Number.isFinite(number)) return "?";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let size = Math.abs(number);
  let unit = 0;
  while (size >= 1023.5 && unit < units.length - 1) {
    size /= 1024;
    unit += 1;
  }
  const text = unit === 0 || size >= 99.95 ? size.toFixed(0) : size.toFixed(1).replace(/\.0$/, "");
  return `${number <= -0.5 ? "-" : ""}${text} ${units[unit]}`;
}

/** A change of bytes. @param {number} number */
export function bytesSigned(number) {
  return number >= 0.5 ? `+${bytes(number)}` : bytes(number);
}

/** 0 to 1 in percent. @param {number} share */
export function percent(share) {
  return `${figure(share * 100)}%`;
}

/**
 * A figure that may not be known.
 * @template T
 * @param {T | null | undefined} value
 * @param {(value: T) => string} text
 * @returns {string | null}
 */
export function known(value, text) {
  return value === null || value === undefined ? null : text(value);
}

/** What the tasks of a process are called. @param {{ runtimes: { kind: string }[] }} process */
export function noun(process) {
  const kinds = process.runtimes.map((runtime) => runtime.kind);
  if (kinds.length > 0 && kinds.every((kind) => kind === "go")) return "goroutine";
  return kinds.every((kind) => kind === "thread") ? "thread" : "task";
}

/** The goroutine that a Go program begins with: no `go` statement starts it. @param {Pick<Site, "runtime" | "task">} site */
function isFirst(site) {
  return site.runtime === "go" && site.task === "runtime.main";
}

/** The function that starts a site's tasks. @param {Pick<Site, "runtime" | "task" | "function">} site @param {number} [most] */
export function siteName(site, most = LONGEST) {
  return isFirst(site) ? "the main goroutine" : clean(site.function ?? "(unknown)", most);
}

/** A Go function without the path of its package's parents: `server.(*Server).Run`. @param {string} name */
function shortFunction(name) {
  const end = name.search(/[([< ]/);
  const slash = name.slice(0, end < 0 ? undefined : end).lastIndexOf("/");
  return name.slice(slash + 1);
}

/** The name of a site for a row of a table. @param {Pick<Site, "runtime" | "task" | "function">} site */
export function shortName(site) {
  return isFirst(site) ? siteName(site) : clean(shortFunction(site.function ?? "(unknown)"), 80);
}

/** File and line of a site, without directories. @param {Pick<Site, "runtime" | "task" | "file" | "line">} site */
export function place(site) {
  if (isFirst(site) || !site.file) return "";
  const file = clean(site.file.slice(site.file.lastIndexOf("/") + 1), 80);
  return site.line === null ? file : `${file}:${site.line}`;
}

/** A frame without directories: `server.(*Server).Run (server.go:12)`. @param {string} frame */
export function shortFrame(frame) {
  // The place stands in the last brackets; a name may have brackets, too.
  const at = frame.lastIndexOf(" (");
  const [name, place] = at < 0 ? [frame, ""] : [frame.slice(0, at), frame.slice(at + 2)];
  return clean(`${shortFunction(name)}${place && ` (${place.slice(place.lastIndexOf("/") + 1)}`}`);
}

/** What a task does whose wait reason or status this is. @param {string} reason */
export function doing(reason) {
  switch (reason) {
    case "running": case "runnable": case "preempted": return reason;
    // States of tokio's tasks: what an idle one waits for is not known.
    case "idle": case "notified": case "complete": case "cancelled": return reason;
    case "syscall": return "in a system call";
    case "sleep": return "sleeping";
    default: return `blocked in ${clean(reason, 64)}`;
  }
}

/** A stack without the runtime's own frames at both ends. @param {string[]} stack */
export function telling(stack) {
  const own = (/** @type {string} */ frame) => frame.startsWith("runtime.");
  const first = stack.findIndex((frame) => !own(frame));
  if (first < 0) return stack;
  return stack.slice(first, stack.findLastIndex((frame) => !own(frame)) + 1);
}

/** Ages: `1m / 12m`; with `>` where only a least age is known. @param {Site["age_s"]} age */
export function ages(age) {
  if (age.max === null) return null;
  const least = age.lower_bound ? ">" : "";
  return `${age.p50 === null ? "?" : duration(age.p50)} / ${least}${duration(age.max)}`;
}

/** What the tasks of a site wait on, most frequent first. @param {Waiting[]} groups */
export function waits(groups) {
  /** @type {Map<string, { count: number, longest: number | null }>} */
  const reasons = new Map();
  for (const group of groups) {
    const known = reasons.get(group.reason) ?? { count: 0, longest: null };
    known.count += group.count;
    if (group.longest_s !== null) known.longest = Math.max(known.longest ?? 0, group.longest_s);
    reasons.set(group.reason, known);
  }
  const sorted = [...reasons].sort((a, b) => b[1].count - a[1].count);
  return sorted.map(([reason, { count: tasks, longest }], index) => {
    const many = sorted.length > 1 ? `${count(tasks)} ` : "";
    return `${many}${clean(reason, 64)}${index === 0 && longest !== null ? ` ${duration(longest)}` : ""}`;
  }).join(", ");
}

/** What comes if it goes on so. @param {NonNullable<Site["forecast"]>} forecast */
export function outlook(forecast) {
  const held = known(forecast.bytes_per_h, (value) => ` with ${bytesSigned(value)} of stacks`) ?? "";
  const twice = known(forecast.doubles_in_s, (value) => `; twice as many in ${duration(value)}`) ?? "";
  return `If it goes on so: ${known(forecast.tasks_per_h, signed) ?? UNKNOWN} an hour${held}${twice}.`;
}

/** A verdict's word. @param {string | null} verdict */
export function verdictWord(verdict) {
  return verdict === null ? UNKNOWN : verdict.replace("_", " ");
}

/** Worse verdicts are larger. @param {string | null} verdict */
export function badness(verdict) {
  return ["ok", "not_yet", "suspect", "leak"].indexOf(verdict ?? "");
}

/** Where a process runs, in a word. @param {Row} row */
export function home(row) {
  if (row.pod?.name) return clean(`${row.pod.namespace ?? "?"}/${row.pod.name}`, 80);
  if (row.container_name) return clean(row.container_name, 80);
  return row.container ? clean(row.container, 12) : "";
}

/** A time of the day where the reader is. @param {string} rfc3339 */
export function clock(rfc3339) {
  const time = new Date(rfc3339);
  if (Number.isNaN(time.getTime())) return "?";
  const day = time.toDateString() === new Date().toDateString() ? "" : `${time.toLocaleDateString()} `;
  return `${day}${time.toLocaleTimeString(undefined, { hourCycle: "h23" })}`;
}
