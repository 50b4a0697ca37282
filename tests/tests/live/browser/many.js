// Runs in the page: fills its views with 500 processes, 5,000 sites and hostile names, and tells what became of it.
(async () => {
  const [{ Feed }, { hostView }, { processView }, { siteView, siteKey }] =
    await Promise.all(["feed", "host", "process", "site"].map((name) => import(`/page/${name}.js`)));
  const hostile = [
    "<img src=x onerror='window.ran = true'>", "<script>window.ran = true</script>", "javascript:window.ran = true",
    "\u001b[2J\u0007\u0000", "\u202egnp.exe\u2066", "a\nb\rc\td", "x".repeat(10_000), "\ud800", "{{7*7}}", "\u0301\u0301\u0301",
  ];
  const name = (index) => hostile[index] ?? `made_${index}`;
  const place = (index) => ({ runtime: "go", function: `main.${name(index)}`, file: `/src/${name(index)}.go`, line: index, task: name(index) });
  const row = (index) => ({
    pid: index + 1, start_time: null, comm: name(index), exe: name(index), container: name(index), runtimes: [{ kind: "go", version: name(index) }],
    pod: index % 2 ? { name: name(index), namespace: name(index), uid: null } : null, tier: "memory", watched_s: 60, looks: 1, probe_hits: 0,
    added_percent: null, tasks_live: index * 7 % 1_000, start_rate_per_s: null, end_rate_per_s: null, growth_per_min: index % 3 ? null : 1.5,
    threads_live: null, rss_bytes: null, lost: index % 5, leaks: index < 20 ? 1 : 0, suspects: 0, verdict: index < 20 ? "leak" : "ok", worst: place(index),
    curve: Array.from({ length: 60 }, (_, at) => [at, (at * index) % 97]),
  });
  const about = { host: "many", own: {}, left_out: {}, losses: {}, errors: {}, features: [], binaries: {} };
  const turn = (processes) => ({ agent: about, processes, gone: [], alerting: { rules: [], alerts: [], actions: [], more_alerts: 0, rules_not_asked: 0 } });
  const main = document.querySelector("main");
  const drawn = () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  const rows = () => main.querySelectorAll("table.rows tbody:not(.pad) tr").length;
  const timed = async (work) => {
    const begun = performance.now();
    work();
    await drawn();
    return Math.round(performance.now() - begun);
  };
  const told = { ran: false };

  // All processes, then a turn in which every one of them has changed.
  const feed = new Feed();
  const processes = Array.from({ length: 500 }, (_, index) => row(index));
  told.list_ms = await timed(() => {
    feed.take(turn(processes), true);
    main.replaceChildren(hostView(feed).element);
  });
  const list = hostView(feed);
  main.replaceChildren(list.element);
  await drawn();
  told.list_rows = rows();
  told.turn_ms = await timed(() => {
    feed.take(turn(processes.map((one) => ({ ...one, looks: 2, watched_s: 61, curve: undefined }))), false);
    list.update();
  });
  told.sort_ms = await timed(() => main.querySelector("th[data-column=live] button").click());
  const alive = [...main.querySelectorAll("table.rows tbody:not(.pad) tr td:nth-child(3)")].map((cell) => Number(cell.textContent));
  told.order = alive.every((value, index) => index === 0 || alive[index - 1] >= value) ? "live, as asked for" : alive.join(" ");
  // Who has the focus keeps it when a turn comes.
  main.querySelector("table.rows tbody a").focus();
  const focused = document.activeElement.href;
  feed.take(turn(processes.map((one) => ({ ...one, looks: 3, tasks_live: 1_000 - one.tasks_live, watched_s: 62, curve: undefined }))), false);
  list.update();
  told.focus = document.activeElement.href === focused ? "kept" : "lost";
  document.activeElement.blur();

  // One process with 5,000 sites.
  const site = (index) => ({
    ...place(index), task_file: null, task_line: null, spawns: [], creation_stack: [], system: false, live: 5_000 - index, live_at_attach: null, started: 1,
    ended: 0, start_rate_per_s: null, end_rate_per_s: null, growth_per_min: null, age_s: { p50: null, p99: null, max: null, lower_bound: false },
    lifetime_s: { p50: null, p99: null }, never_ending_share: 0.5, never_ending_interval: [0.4, 0.6], leak_rate_per_min: null, left_behind: null, proven: null,
    stack_bytes: null, waiting: [{ reason: name(index), stack: [`main.f (${name(index)}:1)`, name(index), "main.outer (main.go:7)"], count: 3, longest_s: 1, share: 0.5, seen: 1 }],
    verdict: "ok", why: name(index), confidence: 0.5, settles: name(index), forecast: null,
    lives: { ended: [[0.001, 3]], alive: [[1, 5]], survival: [[0.001, 1], [1, 0.6], [8, 0.5]] }, course: [[0, 1], [60, 5]],
  });
  const process = {
    ...row(0), build_id: null, exited: false, tasks: { live: 9, live_at_attach: null, started: 0, ended: 0, lost_events: 0, drift: null, system_live: 0 },
    runtimes: [{ kind: "go", name: name(0), version: name(4), mode: "memory", problems: [] }], threads: { live: null, started: 0, ended: 0, by_name: [{ name: name(0), live: 1 }] },
    forks: { count: 0, rate_per_s: null, ended: 0, live: 0, by_command: [{ command: name(1), live: 0, forked: 1, ended: 1 }] },
    zombies: [{ command: name(0), count: 1, oldest_s: null, verdict: "not_yet", why: name(3), confidence: 0 }], memory: { rss_bytes: null }, losses: {},
    sites: Array.from({ length: 5_000 }, (_, index) => site(index)), course: [], notes: hostile,
  };
  const view = processView(feed, 1);
  main.replaceChildren(view.element);
  told.sites_ms = await timed(() => view.show(process));
  await drawn();
  told.site_rows = rows();
  const seen = [];
  const look = () => seen.push(main.innerText + [...main.querySelectorAll("*")].flatMap((element) => [...element.attributes].map(({ value }) => value)).join("\n"));
  look();
  const region = main.querySelector(".window");
  region.focus();
  region.dispatchEvent(new KeyboardEvent("keydown", { key: "End", bubbles: true }));
  await drawn();
  told.scrolled_rows = rows();
  told.last = document.activeElement.innerText.split(" ")[0].replace("main.", "");
  // Each hostile site by itself.
  for (let index = 0; index < hostile.length; index += 1) {
    const one = siteView(feed, 1, siteKey(place(index)));
    main.replaceChildren(one.element);
    one.show(process);
    await drawn();
    look();
    one.drop();
  }
  view.drop();
  const list2 = hostView(feed);
  main.replaceChildren(list2.element);
  await drawn();
  look();
  told.longest = Math.max(...seen.join("\n").match(/x+/g).map((run) => run.length));
  told.raw_controls = (seen.join("").match(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u200b-\u200f\u202a-\u202e\u2066-\u2069]/g) ?? []).length;
  told.elements = document.querySelectorAll("img, main script, iframe, object").length;
  told.ran = window.ran === true;
  return told;
})()
