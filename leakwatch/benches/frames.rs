//! What a frame of the screen costs: a process with 10,000 sites, a report a second, every one taken, sorted and drawn.
//!
//!     cargo bench -p leakwatch --bench frames
//!
//! Prints what a report and its frame take of a core at intervals of 1 s, by page and order, as the table that docs/terminal.md
//! has; fails where it is more than 2 % in an optimised build.

#![expect(clippy::print_stdout, reason = "a bench's result is its output")]

use std::{fs, sync::Arc};

use crossterm::event::{Event, KeyCode, KeyEvent, KeyModifiers};
use leakwatch::{
    report::{
        Ages, Alerting, ForksReport, Lifetimes, MemoryReport, Overhead, Point, ProcessReport, Report,
        SiteReport, TasksReport, ThreadsReport, Timestamp, Verdict, WaitingReport,
    },
    tui::{Colors, Look, State, draw},
};
use ratatui::{Terminal, backend::TestBackend};

const SITES: u32 = 10_000;
/// Reports that are measured.
const REPORTS: u32 = 20;
/// Most percent of a core.
const MOST: f64 = 2.0;

fn site(number: u32, second: u32) -> SiteReport {
    let live = u64::from(number % 97 + second);
    SiteReport {
        runtime: "go".to_owned(),
        function: Some(format!("example.com/service/internal/worker{}.(*Pool).start", number % 311)),
        file: Some(format!("/src/service/internal/worker{}/pool.go", number % 311)),
        line: Some(number),
        task: Some(format!("example.com/service/internal/worker{}.(*Pool).run", number % 311)),
        task_file: None,
        task_line: None,
        creation_stack: Vec::new(),
        spawns: Vec::new(),
        system: false,
        live,
        live_at_attach: Some(0),
        started: live,
        ended: 0,
        start_rate_per_s: Some(0.5),
        end_rate_per_s: Some(0.0),
        growth_per_min: Some(f64::from(number % 13)),
        age: Ages { p50_s: Some(1.0), p99_s: Some(2.0), max_s: Some(f64::from(number)), lower_bound: false },
        lifetime: Lifetimes::default(),
        lives: None,
        never_ending_share: None,
        never_ending_interval: None,
        leak_rate_per_min: None,
        left_behind: None,
        proven: None,
        stack_bytes: None,
        waiting: vec![WaitingReport {
            reason: "chan receive".to_owned(),
            count: live,
            ..WaitingReport::default()
        }],
        verdict: Verdict::Ok,
        why: "live tasks stay".to_owned(),
        confidence: 0.9,
        settles: String::new(),
        forecast: None,
        recent: (0..120u32).map(|at| Point { at_s: f64::from(at), live: u64::from(at) }).collect(),
    }
}

fn report(second: u32) -> Arc<Report> {
    let process = ProcessReport {
        pid: 1,
        start_time: None,
        comm: "service".to_owned(),
        exe: None,
        build_id: None,
        container: None,
        pod: None,
        exited: false,
        watched_since: None,
        watched_s: f64::from(second),
        runtimes: Vec::new(),
        tasks: TasksReport { live: u64::from(second), ..TasksReport::default() },
        threads: ThreadsReport::default(),
        forks: ForksReport::default(),
        zombies: Vec::new(),
        memory: MemoryReport::default(),
        probe_hits: 0,
        losses: Vec::new(),
        sites: (0..SITES).map(|number| site(number, second)).collect(),
        proof: None,
        recent: Vec::new(),
        leaks: 0,
    };
    Arc::new(Report {
        host: "host".to_owned(),
        started: Timestamp::UNIX_EPOCH,
        duration_s: f64::from(second),
        environment: None,
        overhead: Overhead::default(),
        processes: vec![process.into()],
        alerting: Alerting::default(),
    })
}

/// Processor time of this process so far, seconds: `utime` and `stime` of proc(5), in ticks of 10 ms.
fn processor_s() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after = stat.rsplit(')').next().unwrap_or_default();
    after.split_ascii_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>()
        / 100.0
}

/// Percent of a core for a report a second.
fn cost(keys: &[KeyCode], size: (u16, u16)) -> f64 {
    let mut state = State::new(Look { colors: Colors::True, ascii: false }, false);
    let mut terminal = Terminal::new(TestBackend::new(size.0, size.1)).expect("a terminal");
    state.take(report(0));
    for key in keys {
        state.handle(&Event::Key(KeyEvent::new(*key, KeyModifiers::NONE)));
    }
    let mut spent_s = 0.0;
    for second in 1..=REPORTS {
        // Making it up is not what is measured; giving the one before it back is.
        let newest = report(second);
        let before_s = processor_s();
        state.take(newest);
        let mut areas = None;
        let frame = |frame: &mut ratatui::Frame<'_>| {
            let area = frame.area();
            areas = Some(draw(&state, area, frame.buffer_mut()));
        };
        terminal.draw(frame).expect("a frame");
        state.drawn(areas.expect("it was drawn"));
        spent_s += processor_s() - before_s;
    }
    100.0 * spent_s / f64::from(REPORTS)
}

fn main() {
    let sort_by_live = KeyCode::Char('>');
    let pages: [(&str, &[KeyCode]); 4] = [
        ("worst first", &[]),
        ("sorted by another column", &[sort_by_live]),
        ("filtered", &[KeyCode::Char('/'), KeyCode::Char('1'), KeyCode::Char('7'), KeyCode::Enter]),
        ("the page of a site", &[KeyCode::Down, KeyCode::Enter]),
    ];
    let mut most: f64 = 0.0;
    println!("| {SITES} sites, percent of a core at 1 s | 80x24 | 250x60 |\n| --- | ---: | ---: |");
    for (page, keys) in pages {
        let [small, large] = [(80, 24), (250, 60)].map(|size| cost(keys, size));
        println!("| {page} | {small:.2} | {large:.2} |");
        most = most.max(small).max(large);
    }
    assert!(cfg!(debug_assertions) || most < MOST, "more than {MOST} % of a core");
}
