//! Whole screens against files in `golden/`, keys and clicks, and anything at any size. `LEAKWATCH_UPDATE_GOLDEN=1 cargo
//! test` writes the files anew; read the difference before you commit it.

use std::{path::Path, sync::Arc};

use crossterm::event::{Event, KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind};
use proptest::prelude::*;
use ratatui::{Terminal, backend::TestBackend, buffer::Buffer, layout::Rect};

use super::*;
use crate::report::{
    Ages, Bucket, Forecast, Lives, Moment, Point, ProcessReport, Report, Verdict, clean::width, samples,
};

const UTF8: Look = Look { colors: Colors::True, ascii: false };
const BARE: Look = Look { colors: Colors::None, ascii: true };
const SIZES: [(u16, u16); 3] = [(80, 24), (120, 40), (250, 60)];

/// The leaking server with all that pictures are made of.
fn server() -> ProcessReport {
    let mut server = samples::leaking();
    server.recent = (0..60u32)
        .map(|second| Moment {
            at_s: f64::from(second),
            live: 736 + u64::from(second) * 5,
            started: u64::from(second) * 17 + u64::from(second % 7),
            ended: u64::from(second) * 12,
            threads_live: (second > 5).then_some(14),
            rss_bytes: Some(100_000_000 + u64::from(second) * 500_000),
        })
        .collect();
    let leak = &mut server.sites[0];
    leak.recent = (0..60u32).map(|s| Point { at_s: f64::from(s), live: 724 + u64::from(s) * 5 }).collect();
    leak.lives =
        Some(Lives { ended: Vec::new(), alive: Some(vec![Bucket { from_s: 1.610_612_736, count: 300 }]) });
    leak.verdict = Verdict::Leak;
    leak.settles = "an end of one of the 724 from before the attach".to_owned();
    leak.never_ending_share = Some(1.0);
    leak.never_ending_interval = Some((0.987, 1.0));
    leak.leak_rate_per_min = Some(300.0);
    leak.stack_bytes = Some(2_097_152);
    leak.forecast =
        Some(Forecast { tasks_per_h: 18_000.0, bytes_per_h: Some(36_864_000.0), doubles_in_s: Some(204.8) });
    let healthy = &mut server.sites[1];
    healthy.recent =
        (0..60u32).map(|s| Point { at_s: f64::from(s), live: 10 + u64::from(s * s) % 5 }).collect();
    healthy.lives = Some(Lives {
        ended: vec![
            Bucket { from_s: 0.000_012_288, count: 400 },
            Bucket { from_s: 3.221_225_472, count: 336 },
        ],
        alive: Some(vec![Bucket { from_s: 0.805_306_368, count: 2 }]),
    });
    server.leaks = 1;
    server
}

fn report(processes: Vec<ProcessReport>) -> Arc<Report> {
    Arc::new(samples::report(processes))
}

fn state(look: Look, processes: Vec<ProcessReport>) -> State {
    let mut state = State::new(look, processes.len() > 1);
    state.take(report(processes));
    state
}

/// Draws it as the loop does, and returns the screen.
fn screen(state: &mut State, (columns, rows): (u16, u16)) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(columns, rows)).expect("a terminal");
    let mut areas = None;
    let drawn = |frame: &mut ratatui::Frame<'_>| {
        let area = frame.area();
        areas = Some(draw(state, area, frame.buffer_mut()));
    };
    terminal.draw(drawn).expect("a frame");
    state.drawn(areas.expect("it was drawn"));
    terminal.backend().buffer().clone()
}

/// Its lines, without blanks at their ends.
fn lines(buffer: &Buffer) -> Vec<String> {
    let line = |y: u16| {
        let mut text = String::new();
        let mut skip = 0;
        for x in 0..buffer.area.width {
            let symbol = buffer[(x, y)].symbol();
            if skip == 0 {
                text.push_str(symbol);
            }
            skip = if skip > 0 { skip - 1 } else { width(symbol).saturating_sub(1) };
        }
        text.trim_end().to_owned()
    };
    (0..buffer.area.height).map(line).collect()
}

fn text(state: &mut State, size: (u16, u16)) -> String {
    lines(&screen(state, size)).join("\n") + "\n"
}

#[track_caller]
fn golden(name: &str, text: &str) {
    let path = Path::new(file!()).with_file_name("golden").join(format!("{name}.txt"));
    // `file!()` is relative to the workspace, tests run in the package.
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    if std::env::var_os("LEAKWATCH_UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(&path, text).expect("written");
    }
    let expected = std::fs::read_to_string(&path).expect("a golden file");
    assert_eq!(text, expected, "{name}");
}

/// The same page at each size, and in ASCII without colours at the smallest.
#[track_caller]
fn golden_sizes(name: &str, make: impl Fn(Look) -> State) {
    for size in SIZES {
        golden(&format!("{name}-{}x{}", size.0, size.1), &text(&mut make(UTF8), size));
    }
    let bare = screen(&mut make(BARE), SIZES[0]);
    let plain = |cell: &ratatui::buffer::Cell| {
        cell.symbol().is_ascii()
            && [cell.fg, cell.bg].iter().all(|color| *color == ratatui::style::Color::Reset)
    };
    assert!(bare.content.iter().all(plain), "{name}: a colour, or a sign that is not ASCII");
    golden(&format!("{name}-bare"), &(lines(&bare).join("\n") + "\n"));
}

fn press(state: &mut State, code: KeyCode) -> Option<Command> {
    state.handle(&Event::Key(KeyEvent::new(code, KeyModifiers::NONE)))
}

fn control(state: &mut State, sign: char) -> Option<Command> {
    state.handle(&Event::Key(KeyEvent::new(KeyCode::Char(sign), KeyModifiers::CONTROL)))
}

fn click(state: &mut State, column: u16, row: u16) {
    let kind = MouseEventKind::Down(MouseButton::Left);
    state.handle(&Event::Mouse(MouseEvent { kind, column, row, modifiers: KeyModifiers::NONE }));
}

fn type_words(state: &mut State, words: &str) {
    press(state, KeyCode::Char('/'));
    for sign in words.chars() {
        press(state, KeyCode::Char(sign));
    }
    press(state, KeyCode::Enter);
}

#[test]
fn a_process_and_its_sites() {
    golden_sizes("sites", |look| state(look, vec![server()]));
}

#[test]
fn the_page_of_a_site() {
    golden_sizes("site", |look| {
        let mut state = state(look, vec![server()]);
        press(&mut state, KeyCode::Enter);
        state
    });
}

#[test]
fn the_list_of_processes() {
    golden_sizes("processes", |look| {
        state(look, vec![samples::lossy(), server(), samples::process(7, "idle")])
    });
}

#[test]
fn help_and_notes() {
    golden_sizes("help", |look| {
        let mut state = state(look, vec![server()]);
        press(&mut state, KeyCode::Char('?'));
        state
    });
    golden_sizes("notes", |look| {
        let mut state = state(look, vec![samples::lossy()]);
        press(&mut state, KeyCode::Char('n'));
        state
    });
}

#[test]
fn losses_and_what_is_not_known_are_seen() {
    golden_sizes("lossy", |look| state(look, vec![samples::lossy()]));
}

#[test]
fn hostile_names_are_text() {
    golden_sizes("hostile", |look| state(look, vec![samples::hostile()]));
}

#[test]
fn before_the_first_report() {
    let mut state = State::new(UTF8, false);
    assert!(text(&mut state, (80, 24)).contains("waiting for the first look"));
    assert_eq!(press(&mut state, KeyCode::Char('s')), None, "there is nothing to save");
    assert_eq!(press(&mut state, KeyCode::Char('d')), None);
}

#[test]
fn keys_move_open_and_go_back() {
    let mut state = state(UTF8, vec![server()]);
    screen(&mut state, (120, 40));
    assert_eq!(state.page, Page::Sites);
    press(&mut state, KeyCode::Down);
    press(&mut state, KeyCode::Enter);
    assert_eq!(state.page, Page::Site);
    assert_eq!(state.site().and_then(|site| site.task.as_deref()), Some("net/http.(*conn).serve"));
    press(&mut state, KeyCode::Esc);
    press(&mut state, KeyCode::End);
    press(&mut state, KeyCode::Home);
    assert_eq!((state.page, state.sites.cursor()), (Page::Sites, 0));
    assert_eq!(press(&mut state, KeyCode::Char('q')), Some(Command::Quit));
    assert_eq!(control(&mut state, 'c'), Some(Command::Quit));
    assert_eq!(control(&mut state, 'z'), Some(Command::Suspend));
    assert_eq!(control(&mut state, 'l'), Some(Command::Redraw));
    assert_eq!(press(&mut state, KeyCode::Char('s')), Some(Command::Save));
    assert_eq!(press(&mut state, KeyCode::Char('d')), Some(Command::Dump(4_242)));
}

#[test]
fn a_site_is_followed_when_the_order_changes() {
    let mut state = state(UTF8, vec![server()]);
    press(&mut state, KeyCode::Down);
    press(&mut state, KeyCode::Enter);
    let mut later = server();
    later.sites.swap(0, 1);
    later.sites[0].live = 99;
    state.take(report(vec![later]));
    assert_eq!(state.site().map(|site| site.live), Some(99));
    let mut gone = server();
    gone.sites.remove(1);
    state.take(report(vec![gone]));
    assert_eq!(state.site(), None);
    assert!(text(&mut state, (80, 24)).contains("not in the last report"));
}

#[test]
fn a_filter_leaves_what_has_all_its_words() {
    let mut state = state(UTF8, vec![server()]);
    type_words(&mut state, "net/http IO");
    assert_eq!(state.sites.len(), 1);
    assert!(text(&mut state, (120, 40)).contains("filter: net/http IO"));
    press(&mut state, KeyCode::Esc);
    assert_eq!((state.filter.as_str(), state.sites.len()), ("", 4));
    type_words(&mut state, "no such thing");
    assert!(text(&mut state, (80, 24)).contains("no site matches the filter"));
    press(&mut state, KeyCode::Enter);
    assert_eq!(state.page, Page::Sites, "there is nothing to open");
    type_words(&mut state, &"x".repeat(10_000));
    assert_eq!(state.filter.chars().count(), state::LONGEST_FILTER);
}

#[test]
fn rows_are_sorted_by_keys_and_by_clicks() {
    let mut state = state(UTF8, vec![server()]);
    screen(&mut state, (120, 40));
    let shown = |state: &State| state.sites.place().expect("a row");
    press(&mut state, KeyCode::Char('>'));
    assert_eq!((state.site_sort.by, shown(&state)), (columns::SiteColumn::Live, 0));
    press(&mut state, KeyCode::Char('r'));
    assert_ne!(shown(&state), 0, "the fewest come first");
    screen(&mut state, (120, 40));
    let (from, _, number) = state.areas.heads.last().copied().expect("a head");
    assert_eq!(number, 8);
    let heads_y = state.areas.heads_y.expect("heads");
    click(&mut state, from + 1, heads_y);
    assert_eq!(state.site_sort.by, columns::SiteColumn::Where);
    let first = state.process().and_then(|p| p.sites.get(shown(&state))?.function.clone());
    assert_eq!(first.as_deref(), Some("github.com/nats-io/nats-server/v2/server.(*Server).startGoRoutine"));
    click(&mut state, from + 1, heads_y);
    assert!(state.site_sort.reversed);
    let trend = state.areas.heads.iter().find(|head| head.2 == 5).copied().expect("a head");
    click(&mut state, trend.0, heads_y);
    assert_eq!(state.site_sort.by, columns::SiteColumn::Where, "curves have no order");
}

#[test]
fn a_click_puts_the_cursor_and_a_second_one_opens() {
    let mut state = state(UTF8, vec![samples::lossy(), server()]);
    screen(&mut state, (120, 40));
    let (first, rows) = state.areas.rows;
    assert!(rows > 2);
    click(&mut state, 5, first + 1);
    assert_eq!((state.page, state.processes.cursor()), (Page::Processes, 1));
    click(&mut state, 5, first + 1);
    assert_eq!((state.page, state.process().map(|process| process.pid)), (Page::Sites, Some(17)));
    screen(&mut state, (120, 40));
    click(&mut state, 5, first + 30);
    press(&mut state, KeyCode::Tab);
    assert_eq!(state.process().map(|process| process.pid), Some(4_242));
    press(&mut state, KeyCode::Esc);
    assert_eq!(state.page, Page::Processes);
}

#[test]
fn a_paused_screen_stands_still_and_then_shows_the_newest() {
    let mut state = state(UTF8, vec![server()]);
    press(&mut state, KeyCode::Char(' '));
    let before = text(&mut state, (120, 40));
    assert!(before.contains("PAUSED"));
    let mut later = server();
    later.tasks.live = 5_555;
    state.take(report(vec![later]));
    assert_eq!(text(&mut state, (120, 40)), before);
    press(&mut state, KeyCode::Char(' '));
    assert!(text(&mut state, (120, 40)).contains("5,555"));
}

#[test]
fn processes_are_known_by_more_than_their_pid() {
    let mut state = state(UTF8, vec![server(), samples::lossy()]);
    press(&mut state, KeyCode::Enter);
    let mut other = server();
    other.start_time = None;
    other.comm = "another".to_owned();
    state.take(report(vec![other, samples::lossy()]));
    assert_eq!(state.process(), None, "the pid was used again");
    assert!(text(&mut state, (120, 40)).contains("this process is gone"));
}

#[test]
fn children_that_are_followed_make_a_list() {
    let mut state = state(UTF8, vec![server()]);
    state.take(report(vec![server(), samples::process(9, "child")]));
    assert_eq!(state.page, Page::Sites, "who looks at something goes on looking at it");
    press(&mut state, KeyCode::Esc);
    assert_eq!((state.page, state.processes.len()), (Page::Processes, 2));
}

#[test]
fn what_is_said_is_safe_and_goes_with_the_next_key() {
    let mut state = state(UTF8, vec![server()]);
    state.say(Notice { text: "written: /tmp/\x1b[2Jx".to_owned(), bad: false });
    let shown = text(&mut state, (80, 24));
    assert!(shown.contains(r"written: /tmp/\x1b[2Jx"), "{shown}");
    press(&mut state, KeyCode::Char('j'));
    assert!(!text(&mut state, (80, 24)).contains("written"));
    state.silent_for(Some(12.0));
    assert!(text(&mut state, (120, 40)).contains("no look for 12s"));
}

#[test]
fn only_what_is_on_the_screen_is_drawn() {
    let mut process = server();
    let site = process.sites[1].clone();
    process.sites =
        (0..10_000).map(|n| crate::report::SiteReport { line: Some(n), ..site.clone() }).collect();
    let mut state = state(UTF8, vec![process]);
    let shown = text(&mut state, (80, 24));
    assert!(shown.contains("1-13 of 10,000") || shown.contains("of 10,000"), "{shown}");
    press(&mut state, KeyCode::End);
    assert!(text(&mut state, (80, 24)).contains("server.go:9999"));
}

fn any_event() -> impl Strategy<Value = Event> {
    let key = prop_oneof![
        Just(KeyCode::Enter),
        Just(KeyCode::Esc),
        Just(KeyCode::Up),
        Just(KeyCode::Down),
        Just(KeyCode::Left),
        Just(KeyCode::PageUp),
        Just(KeyCode::PageDown),
        Just(KeyCode::Home),
        Just(KeyCode::End),
        Just(KeyCode::Tab),
        Just(KeyCode::BackTab),
        Just(KeyCode::Backspace),
        prop::sample::select(vec![' ', '?', 'n', 'r', 't', '/', '<', '>', 's', 'd', 'j', 'k', 'G', 'x'])
            .prop_map(KeyCode::Char),
        any::<char>().prop_map(KeyCode::Char),
    ];
    let kind = prop::sample::select(vec![
        MouseEventKind::Down(MouseButton::Left),
        MouseEventKind::ScrollDown,
        MouseEventKind::ScrollUp,
        MouseEventKind::Moved,
    ]);
    prop_oneof![
        4 => key.prop_map(|code| Event::Key(KeyEvent::new(code, KeyModifiers::NONE))),
        1 => (kind, any::<u8>(), 0..70u16).prop_map(|(kind, column, row)| {
            Event::Mouse(MouseEvent { kind, column: column.into(), row, modifiers: KeyModifiers::NONE })
        }),
    ]
}

fn any_process() -> impl Strategy<Value = ProcessReport> {
    let wild =
        prop::collection::vec(any::<char>(), 0..40).prop_map(|signs| signs.into_iter().collect::<String>());
    let figure = prop_oneof![Just(0.0), Just(f64::NAN), Just(f64::INFINITY), any::<f64>()];
    (0..5usize, wild.clone(), wild, figure, any::<u64>(), any::<bool>()).prop_map(
        |(which, name, other, figure, count, known)| {
            let mut process = match which {
                0 => server(),
                1 => samples::lossy(),
                2 => samples::hostile(),
                3 => samples::process(u32::try_from(count).unwrap_or(u32::MAX), &name),
                _ => samples::leaking(),
            };
            process.comm.clone_from(&name);
            process.tasks.live = count;
            process.tasks.growth_per_min = known.then_some(figure);
            process.recent.push(Moment { at_s: figure, live: count, ..Moment::default() });
            if let Some(site) = process.sites.first_mut() {
                site.live = count;
                site.function = known.then(|| name.clone());
                site.task = Some(other.clone());
                site.why = other;
                site.age = Ages { max_s: Some(figure), ..site.age };
                site.recent.push(Point { at_s: figure, live: count });
                let bucket = Bucket { from_s: figure, count };
                site.lives = Some(Lives { ended: vec![bucket], alive: known.then(|| vec![bucket, bucket]) });
                site.never_ending_interval = Some((figure, figure));
                if let Some(group) = site.waiting.first_mut() {
                    group.reason = name;
                    group.share = figure;
                }
            }
            process
        },
    )
}

#[derive(Clone, Debug)]
enum Step {
    Event(Event),
    Report(Vec<ProcessReport>),
    Size(u16, u16),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => any_event().prop_map(Step::Event),
        1 => prop::collection::vec(any_process(), 0..4).prop_map(Step::Report),
        2 => (0..260u16, 0..70u16).prop_map(|(columns, rows)| Step::Size(columns, rows)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn nothing_at_any_size_breaks_the_screen(steps in prop::collection::vec(any_step(), 1..40), ascii in any::<bool>()) {
        let mut state = State::new(Look { colors: Colors::Sixteen, ascii }, false);
        let mut size = (80, 24);
        for step in steps {
            match step {
                Step::Event(event) => drop(state.handle(&event)),
                Step::Report(processes) => state.take(report(processes)),
                Step::Size(columns, rows) => size = (columns, rows),
            }
            let area = Rect::new(0, 0, size.0, size.1);
            let mut buffer = Buffer::empty(area);
            let areas = draw(&state, area, &mut buffer);
            state.drawn(areas);
            for cell in &buffer.content {
                prop_assert!(!cell.symbol().chars().any(char::is_control), "{:?}", cell.symbol());
                prop_assert!(!ascii || cell.symbol().is_ascii(), "{:?}", cell.symbol());
            }
        }
    }
}
