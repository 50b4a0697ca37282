//! Reports for the tests of the outputs: a leaking server, a quiet program, hostile names, several at once.

use std::sync::Arc;

use super::{
    Ages, Alerting, CommandReport, ForksReport, Lifetimes, Loss, MemoryReport, Mode, Overhead, ProcessReport,
    Report, RuntimeReport, SiteReport, TasksReport, ThreadsReport, Timestamp, Verdict, WaitingReport,
    ZombieReport,
};

/// One of a report's processes, to be changed.
pub(crate) fn process_of(report: &mut Report, place: usize) -> &mut ProcessReport {
    Arc::make_mut(&mut report.processes[place])
}

/// A report of these processes, watched for a minute.
pub(crate) fn report(processes: Vec<ProcessReport>) -> Report {
    Report {
        host: "web-3".to_owned(),
        started: time("2026-10-09T03:00:00.25Z"),
        duration_s: 60.0,
        environment: None,
        overhead: Overhead {
            probe_hits: 2_148,
            cpu_percent_of_one_core: Some(0.043_2),
            budget_percent: Some(2.0),
        },
        processes: processes.into_iter().map(Arc::new).collect(),
        alerting: Alerting::default(),
    }
}

fn time(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

/// A process of which nothing is known but its name.
pub(crate) fn process(pid: u32, comm: &str) -> ProcessReport {
    ProcessReport {
        pid,
        start_time: Some(time("2026-10-08T12:34:56.789Z")),
        comm: comm.to_owned(),
        exe: Some(format!("/usr/bin/{comm}")),
        build_id: None,
        container: None,
        pod: None,
        exited: false,
        watched_since: Some(time("2026-10-09T02:59:00.250Z")),
        watched_s: 60.0,
        runtimes: vec![RuntimeReport {
            kind: "go".to_owned(),
            name: None,
            version: Some("go1.27.2".to_owned()),
            mode: Mode::Probes,
            problems: Vec::new(),
        }],
        tasks: TasksReport { live_at_attach: Some(0), ..TasksReport::default() },
        threads: ThreadsReport::default(),
        forks: ForksReport { rate_per_s: Some(0.0), ..ForksReport::default() },
        zombies: Vec::new(),
        memory: MemoryReport::default(),
        probe_hits: 0,
        losses: Vec::new(),
        sites: Vec::new(),
        proof: None,
        recent: Vec::new(),
        leaks: 0,
    }
}

/// A site without figures.
pub(crate) fn site(function: &str, file: &str, line: u32, task: &str) -> SiteReport {
    SiteReport {
        runtime: "go".to_owned(),
        function: Some(function.to_owned()),
        file: Some(file.to_owned()),
        line: Some(line),
        task: Some(task.to_owned()),
        task_file: None,
        task_line: None,
        spawns: Vec::new(),
        creation_stack: Vec::new(),
        system: false,
        live: 0,
        live_at_attach: Some(0),
        started: 0,
        ended: 0,
        start_rate_per_s: Some(0.0),
        end_rate_per_s: Some(0.0),
        growth_per_min: Some(0.0),
        age: Ages::default(),
        lifetime: Lifetimes::default(),
        lives: None,
        never_ending_share: None,
        never_ending_interval: None,
        leak_rate_per_min: None,
        left_behind: None,
        proven: None,
        stack_bytes: None,
        waiting: Vec::new(),
        verdict: Verdict::Ok,
        why: "live tasks went from 0 to 0 in 1m without growth; 0 started and 0 ended".to_owned(),
        confidence: 0.9,
        settles: String::new(),
        forecast: None,
        recent: Vec::new(),
    }
}

fn waits(reason: &str, count: u64, longest_s: f64, stack: &[&str]) -> WaitingReport {
    let stack = stack.iter().map(|frame| (*frame).into()).collect();
    WaitingReport {
        reason: reason.to_owned(),
        stack,
        count,
        longest_s: Some(longest_s),
        share: crate::model::float(count) / 1_024.0,
        seen: Some(1.0),
    }
}

/// A child that nobody collected.
fn zombie() -> ZombieReport {
    ZombieReport {
        command: "gzip".to_owned(),
        count: 1,
        oldest_s: Some(12.5),
        verdict: Verdict::NotYet,
        why: "1 child ended and was not collected, the oldest for at least 12s".to_owned(),
        confidence: 0.0,
    }
}

/// A server that leaks.
pub(crate) fn leaking() -> ProcessReport {
    let server = "/build/nats-server/server/server.go";
    let leak = SiteReport {
        live: 1_024,
        live_at_attach: Some(724),
        started: 300,
        start_rate_per_s: Some(5.0),
        growth_per_min: Some(300.2),
        age: Ages { p50_s: Some(61.0), p99_s: Some(61.0), max_s: Some(740.0), lower_bound: true },
        waiting: vec![
            waits(
                "chan receive",
                1_000,
                740.0,
                &[
                    "runtime.gopark (/usr/local/go/src/runtime/proc.go:462)",
                    "runtime.chanrecv (/usr/local/go/src/runtime/chan.go:667)",
                    "github.com/nats-io/nats-server/v2/server.(*client).writeLoop (/build/server/client.go:1322)",
                    "runtime.goexit (/usr/local/go/src/runtime/asm_amd64.s:1700)",
                ],
            ),
            waits("select", 24, 12.0, &[]),
        ],
        verdict: Verdict::Suspect,
        why: "live tasks grew steadily from 724 to 1,024 in 1m (+300/min) and did not come back; 300 started and 0 \
              ended"
            .to_owned(),
        confidence: 0.79,
        ..site(
            "github.com/nats-io/nats-server/v2/server.(*Server).startGoRoutine",
            server,
            3_912,
            "github.com/nats-io/nats-server/v2/server.(*client).writeLoop",
        )
    };
    let healthy = SiteReport {
        live: 12,
        live_at_attach: Some(10),
        started: 738,
        ended: 736,
        start_rate_per_s: Some(12.3),
        end_rate_per_s: Some(12.27),
        growth_per_min: Some(2.0),
        age: Ages { p50_s: Some(2.1), p99_s: Some(2.9), max_s: Some(3.04), lower_bound: false },
        lifetime: Lifetimes { p50_s: Some(0.000_012), p99_s: Some(3.2) },
        waiting: vec![waits("IO wait", 12, 3.0, &[])],
        why: "live tasks went from 10 to 12 in 1m (+2/min) without steady growth; 738 started and 736 ended"
            .to_owned(),
        ..site(
            "net/http.(*Server).Serve",
            "/usr/local/go/src/net/http/server.go",
            3_495,
            "net/http.(*conn).serve",
        )
    };
    let first = SiteReport {
        live: 1,
        live_at_attach: Some(1),
        waiting: vec![waits("sleep", 1, 0.2, &["time.Sleep (/usr/local/go/src/runtime/time.go:338)"])],
        ..site("runtime.newproc", "<autogenerated>", 1, "runtime.main")
    };
    let idle = SiteReport {
        live: 1,
        live_at_attach: Some(1),
        ..site("main.main", "/build/main.go", 88, "main.main.func1")
    };
    let system = SiteReport {
        live: 6,
        system: true,
        ..site("runtime.init.5", "/proc.go", 1, "runtime.forcegchelper")
    };
    ProcessReport {
        tasks: TasksReport {
            live: 1_038,
            live_at_attach: Some(736),
            started: 1_038,
            ended: 736,
            start_rate_per_s: Some(17.3),
            end_rate_per_s: Some(12.27),
            growth_per_min: Some(302.2),
            lost_events: 0,
            drift: Some(0),
            system_live: 6,
        },
        threads: ThreadsReport {
            live: Some(14),
            started: 3,
            ended: 0,
            by_name: vec![("nats-*".to_owned(), 14)],
        },
        forks: one_fork(),
        zombies: vec![zombie()],
        memory: MemoryReport {
            rss_bytes: Some(129_000_000),
            rss_growth_per_min: Some(1_300_000.0),
            task_stack_bytes: Some(2_500_000),
            task_stack_growth_per_min: Some(614_400.0),
        },
        sites: vec![leak, healthy, idle, first, site("main.unused", "/build/main.go", 1, "main.x"), system],
        ..process(4_242, "nats-server")
    }
}

fn one_fork() -> ForksReport {
    let gzip = CommandReport { command: "gzip".to_owned(), live: 0, forked: 1, ended: 1 };
    ForksReport { count: 1, rate_per_s: Some(0.016_7), ended: 1, live: 0, by_command: vec![gzip] }
}

/// A process that does little, read from memory, with everything lost that can be.
pub(crate) fn lossy() -> ProcessReport {
    let names = [
        "task_unreadable",
        "start_without_end",
        "end_without_start",
        "facts_unreadable",
        "site_table_full",
        "live_table_full",
        "ring_full",
        "descriptor_missing",
        "tracepoint_unreadable",
        "census_unreadable",
        "sites_over_limit",
        "something_new",
    ];
    let losses = names
        .iter()
        .zip(1..)
        .map(|(name, count)| Loss { name: (*name).into(), count: count * 700 - 699 })
        .collect();
    let one = SiteReport {
        live: 1,
        start_rate_per_s: None,
        end_rate_per_s: None,
        growth_per_min: None,
        verdict: Verdict::NotYet,
        live_at_attach: None,
        why: "watched for 1s in 2 samples; a verdict needs 10s and 8 samples".to_owned(),
        confidence: 0.0,
        ..site("main.main", "/build/main.go", 88, "main.main.func1")
    };
    let mut lossy = process(17, "quiet");
    lossy.exited = true;
    lossy.watched_s = 0.8;
    lossy.losses = losses;
    lossy.sites = vec![one];
    lossy.tasks = TasksReport { live: 1, drift: Some(-30), ..TasksReport::default() };
    lossy.runtimes[0].mode = Mode::Memory;
    lossy.runtimes[0].version = None;
    lossy.runtimes[0].problems =
        vec!["the Go version is newer than all we know: figures were validated".to_owned()];
    lossy
}

/// Names that a terminal must not be given as they are.
pub(crate) fn hostile() -> ProcessReport {
    let evil = "\u{1b}]0;owned\u{7}\u{1b}[2J";
    let mut hostile = process(666, &format!("a{evil}\nb"));
    let long = format!("main.{}", "X".repeat(10_000));
    let wide = "main.日本語の関数.".to_owned() + &"漢".repeat(200);
    hostile.sites = vec![
        SiteReport {
            live: 3,
            waiting: vec![waits(
                &format!("chan{evil}"),
                3,
                1.0,
                &[&format!("{evil} (/x/{evil}.go:1)"), &long],
            )],
            verdict: Verdict::Leak,
            why: format!("because {evil}\nof"),
            ..site(&format!("main.{evil}\u{202e}f"), &format!("/src/{evil}.go"), 7, &long)
        },
        SiteReport { live: 2, ..site(&long, "/src/long.go", 8, "main.b") },
        SiteReport { live: 1, ..site(&wide, "/src/wide.go", 9, "main.\u{301}c") },
        SiteReport { live: 1, function: None, file: None, line: None, task: None, ..site("", "", 0, "") },
    ];
    hostile.leaks = 1;
    hostile
}
