// @ts-check
// What the agent says: a stream of what changes, and reports when they are asked for. A token or password goes with every
// request and nowhere else. EventSource cannot send one, so the stream is read by fetch.

/** @import { About, Alerting, Process, Row, Turn } from "./types.js" */

/** Points of a process's curve that are kept: those that it came with and as many again. */
const POINTS = 240;

/** Nothing for so long, ms: the figures are called old. */
export const STALE = 5_000;

/** Where a token is kept for this tab, until it is closed. */
const KEY = "leakwatch-authorization";

/** An answer that is an error. */
export class Failure extends Error {
  /** @param {number} status @param {string} text */
  constructor(status, text) {
    super(text);
    this.status = status;
  }

  /** The agent wants to know who asks, or lets nobody in from here. */
  get refused() {
    return this.status === 401 || this.status === 403;
  }
}

/** @returns {string | null} */
function authorization() {
  try {
    return sessionStorage.getItem(KEY);
  } catch {
    return remembered;
  }
}

/** Where the browser keeps nothing. @type {string | null} */
let remembered = null;

/** What is sent with requests from now on. @param {string | null} value of `Authorization` */
export function signIn(value) {
  remembered = value;
  try {
    if (value === null) sessionStorage.removeItem(KEY);
    else sessionStorage.setItem(KEY, value);
  } catch {
    // It is remembered until the page is left.
  }
}

/**
 * Asks the agent.
 * @param {string} path
 * @param {RequestInit} [options]
 * @returns {Promise<Response>} an answer that is no error; those are thrown
 */
export async function ask(path, options = {}) {
  const headers = new Headers(options.headers);
  const secret = authorization();
  if (secret !== null) headers.set("Authorization", secret);
  const response = await fetch(path, { ...options, headers, cache: "no-store" });
  if (response.ok) return response;
  throw new Failure(response.status, (await response.text()).trim() || `the agent answers ${response.status}`);
}

/** The report of a process; `null`: it is not watched (any more). @param {number} pid @returns {Promise<Process | null>} */
export async function reportOf(pid) {
  try {
    const response = await ask(`/api/v1/report?pid=${pid}`);
    return (await response.json()).processes[0] ?? null;
  } catch (error) {
    if (error instanceof Failure && error.status === 404) return null;
    throw error;
  }
}

/** All that is known of the host, kept up to date. */
export class Feed {
  constructor() {
    /** @type {Map<number, Row & { curve: [number, number][] }>} */
    this.rows = new Map();
    /** @type {About | null} */
    this.about = null;
    /** @type {Alerting | null} */
    this.alerting = null;
    /** When the last turn came; `null`: none has. @type {number | null} */
    this.heard = null;
    /** Who asks has to sign in first. @type {Failure | null} */
    this.refused = null;
    /** @type {Set<() => void>} */
    this.listeners = new Set();
    this.wake = () => {};
  }

  /** Calls `listener` after each change. @param {() => void} listener */
  onChange(listener) {
    this.listeners.add(listener);
  }

  changed() {
    for (const listener of this.listeners) listener();
  }

  /** Listens, and listens again whenever a stream ends; never returns. */
  async run() {
    for (let pause = 0; ; ) {
      try {
        await this.listen(() => { pause = 0; });
      } catch (error) {
        if (error instanceof Failure && error.refused) {
          this.refuse(error);
          await new Promise((resolve) => { this.wake = () => resolve(undefined); });
          continue;
        }
        // The agent is away, or the connection broke: again, ever more rarely.
        pause = Math.min(pause === 0 ? 500 : pause * 2, 10_000);
        await new Promise((resolve) => setTimeout(resolve, pause));
      }
    }
  }

  /** The agent wants to know who asks. @param {Failure} failure */
  refuse(failure) {
    this.refused = failure;
    this.changed();
  }

  /** Somebody signed in, or would rather not: then what can be had without is shown. @param {string | null} value */
  signIn(value) {
    if (value !== null) signIn(value);
    this.refused = null;
    this.wake();
    this.changed();
  }

  /** Takes turns until the stream ends. @param {() => void} came */
  async listen(came) {
    const response = await ask("/api/v1/events");
    if (!response.body) return;
    // The first turn of a stream has everything.
    let first = true;
    let rest = "";
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) {
        // Whoever answers so every time must not be asked without a pause.
        if (first) throw new Error("the stream has ended without a turn");
        return;
      }
      rest += value;
      const events = rest.split("\n\n");
      rest = events.pop() ?? "";
      for (const event of events) {
        const data = event.split("\n").filter((line) => line.startsWith("data:")).map((line) => line.slice(5)).join("\n");
        if (data) {
          this.take(JSON.parse(data), first);
          first = false;
          came();
        }
      }
    }
  }

  /** @param {Turn} turn @param {boolean} whole it has everything */
  take(turn, whole) {
    this.heard = performance.now();
    this.about = turn.agent;
    if (turn.alerting) this.alerting = turn.alerting;
    if (whole) {
      const here = new Set(turn.processes.map((row) => row.pid));
      for (const pid of this.rows.keys()) if (!here.has(pid)) this.rows.delete(pid);
    }
    for (const pid of turn.gone) this.rows.delete(pid);
    for (const row of turn.processes) {
      const curve = row.curve ?? this.rows.get(row.pid)?.curve ?? [];
      const last = curve.at(-1);
      if (row.watched_s !== null && (!last || row.watched_s > last[0])) curve.push([row.watched_s, row.tasks_live]);
      if (curve.length > POINTS) curve.splice(0, curve.length - POINTS);
      this.rows.set(row.pid, { ...row, curve });
    }
    this.changed();
  }
}
