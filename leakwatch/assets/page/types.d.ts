// What the agent's answers look like (docs/json.md), for the type checker alone: no browser loads this file.

export interface Row {
  pid: number;
  start_time: string | null;
  comm: string;
  exe: string | null;
  container: string | null;
  container_name: string | null;
  container_engine: string | null;
  image: string | null;
  pod: { name: string | null; namespace: string | null; uid: string | null } | null;
  runtimes: { kind: string; version: string | null }[];
  tier: "memory" | "thinned" | "probes";
  watched_s: number | null;
  looks: number;
  probe_hits: number;
  added_percent: number | null;
  tasks_live: number;
  start_rate_per_s: number | null;
  end_rate_per_s: number | null;
  growth_per_min: number | null;
  threads_live: number | null;
  rss_bytes: number | null;
  lost: number;
  leaks: number;
  suspects: number;
  verdict: Verdict | null;
  worst: Place | null;
  curve?: [number, number][];
}

export type Verdict = "ok" | "not_yet" | "suspect" | "leak";

export interface Place {
  runtime: string;
  function: string | null;
  file: string | null;
  line: number | null;
  task: string | null;
}

export interface About {
  host: string;
  started: string;
  own: { cpu_s: number | null; rss_bytes: number | null; open_fds: number | null; threads: number | null; turn_s: number | null };
  host_percent: number | null;
  budget_percent_of_one_core: number | null;
  hit_ns: number | null;
  attached: number;
  left_out: Record<string, number>;
  probes: number;
  promoted: number;
  demoted: number;
  proofs: { made: number; failed: number; refuted: number; cpu_s: number };
  binaries: { known: number; inspected: number; reused: number };
  lost_execs: number;
  losses: Record<string, number>;
  errors: Record<string, number>;
  features: { name: string; on: boolean; why: string }[];
}

export interface Turn {
  schema: string;
  at_s: number | null;
  agent: About;
  processes: Row[];
  gone: number[];
  alerting?: Alerting;
}

export interface Alerting {
  rules: Rule[];
  alerts: Alert[];
  more_alerts: number;
  rules_not_asked: number;
  actions: { name: string; kind: string; done: number; failed: number; given_up: number; dropped: number; waiting: number; last_error: string | null; held: boolean | null }[];
}

export interface Rule {
  name: string;
  level: string;
  per: string;
  state: "ok" | "not_enough_data" | "firing";
  asked: number;
  firing: number;
  pending: number;
  not_enough_data: number;
  value: number | null;
  why: string;
}

export interface Alert {
  rule: string;
  level: string;
  state: "pending" | "firing" | "resolved";
  pid: number;
  start_time: string | null;
  comm: string;
  site: Place | null;
  since: string;
  fired: string | null;
  value: number | null;
  why: string;
  about: string;
  labels: Record<string, string>;
  annotations: Record<string, string>;
}

export interface Waiting {
  reason: string;
  stack: string[];
  count: number;
  longest_s: number | null;
  share: number | null;
  seen: number | null;
}

export interface Site extends Place {
  task_file: string | null;
  task_line: number | null;
  spawns: { function: string | null; file: string | null; line: number | null; seen: number }[];
  creation_stack: string[];
  system: boolean;
  live: number;
  live_at_attach: number | null;
  started: number;
  ended: number;
  start_rate_per_s: number | null;
  end_rate_per_s: number | null;
  growth_per_min: number | null;
  age_s: { p50: number | null; p99: number | null; max: number | null; lower_bound: boolean };
  lifetime_s: { p50: number | null; p99: number | null };
  never_ending_share: number | null;
  never_ending_interval: [number, number] | null;
  leak_rate_per_min: number | null;
  left_behind: number | null;
  proven: number | null;
  stack_bytes: number | null;
  waiting: Waiting[];
  verdict: Verdict;
  why: string;
  confidence: number | null;
  settles: string | null;
  forecast: { tasks_per_h: number | null; bytes_per_h: number | null; doubles_in_s: number | null } | null;
  lives: { ended: [number, number][]; alive: [number, number][] | null; survival: [number, number][] | null } | null;
  course: [number, number][] | null;
}

/** Seconds since attach, alive, started, ended, threads, resident bytes. */
export type Moment = [number, number, number, number, number | null, number | null];

export interface Process {
  pid: number;
  start_time: string | null;
  comm: string;
  exe: string | null;
  build_id: string | null;
  container: string | null;
  container_name: string | null;
  container_engine: string | null;
  image: string | null;
  pod: Row["pod"];
  exited: boolean;
  watched_since: string | null;
  watched_s: number | null;
  runtimes: { kind: string; name: string | null; version: string | null; mode: string; problems: string[] }[];
  tasks: {
    live: number; live_at_attach: number | null; started: number; ended: number; start_rate_per_s: number | null;
    end_rate_per_s: number | null; growth_per_min: number | null; lost_events: number; drift: number | null; system_live: number;
  };
  threads: { live: number | null; started: number; ended: number; by_name: { name: string; live: number }[] };
  forks: {
    count: number; rate_per_s: number | null; ended: number; live: number;
    by_command: { command: string; live: number; forked: number; ended: number }[];
  };
  zombies: { command: string; count: number; oldest_s: number | null; verdict: Verdict; why: string; confidence: number | null }[];
  memory: {
    rss_bytes: number | null; rss_growth_per_min: number | null; task_stack_bytes: number | null;
    task_stack_growth_per_min: number | null;
  };
  losses: Record<string, number>;
  sites: Site[];
  course: Moment[] | null;
  notes: string[];
  leaks: number;
}
