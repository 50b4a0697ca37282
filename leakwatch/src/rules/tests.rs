//! The engine on reports that are made up.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::report::alerting::{AlertReport, AlertState, Answer};
use crate::report::{ProcessReport, SiteReport, TasksReport, Timestamp, Verdict, samples};

fn condition(term: Term, op: Op, threshold: f64, until: Option<f64>) -> Condition {
    Condition { written: term.figure().name().to_owned(), term, op, threshold, until }
}

fn now(figure: &str) -> Term {
    Term::Now(Figure::named(figure).expect(figure))
}

fn rule(name: &str, when: Vec<Condition>) -> Rule {
    let scope = when.iter().map(|condition| condition.term.figure().scope()).max().unwrap_or_default();
    Rule {
        name: name.to_owned(),
        about: String::new(),
        level: Level::P1,
        scope,
        when,
        for_s: 0.0,
        clear_for_s: 0.0,
        hold_s: 0.0,
        only: Only::default(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        actions: None,
    }
}

fn over_1000() -> Rule {
    Rule { for_s: 2.0, ..rule("many", vec![condition(now("tasks.live"), Op::Above, 1_000.0, Some(800.0))]) }
}

fn leak() -> Rule {
    rule("leak", vec![condition(now("verdict"), Op::AtLeast, 2.0, Some(1.0))])
}

fn process(pid: u32, live: u64, watched_s: f64) -> ProcessReport {
    let tasks = TasksReport { live, ..TasksReport::default() };
    ProcessReport { watched_s, tasks, ..samples::process(pid, "shop") }
}

/// The rules' answers about these.
fn ask(engine: &mut Engine, at: Moment, processes: &[ProcessReport]) -> Evaluation {
    let shared: Vec<Arc<ProcessReport>> = processes.iter().cloned().map(Arc::new).collect();
    engine.evaluate(at, &shared)
}

fn site(function: &str, verdict: Verdict) -> SiteReport {
    SiteReport { verdict, live: 5, ..samples::site(function, "/src/main.go", 12, "main.work") }
}

fn at(at_s: f64) -> Moment {
    let start: Timestamp = "2026-11-21T12:00:00Z".parse().expect("a time");
    Moment { at_s, wall: start + jiff::SignedDuration::from_secs_f64(at_s) }
}

fn names(changes: &[AlertReport]) -> Vec<(&str, u32, AlertState)> {
    changes.iter().map(|change| (change.rule.as_str(), change.pid, change.state)).collect()
}

#[test]
fn a_rule_goes_through_all_its_answers() {
    use Answer::{Firing, Ok};
    let mut engine = Engine::new(vec![over_1000()], Limits::default());
    let mut course = Vec::new();
    let lives = [10, 1_200, 1_200, 1_300, 900, 700];
    for (look, live) in (0..).zip(lives) {
        let look = f64::from(look);
        let found = ask(&mut engine, at(look), &[process(7, live, look)]);
        let [rule] = found.alerting.rules.as_slice() else { panic!("one rule") };
        course.push((rule.state, rule.pending, names(&found.changes).first().map(|change| change.2)));
        assert_eq!(rule.asked, 1);
    }
    assert_eq!(
        course,
        [
            (Ok, 0, None),
            (Ok, 1, None),
            (Ok, 1, None),
            (Firing, 0, Some(AlertState::Firing)),
            (Firing, 0, None),
            (Ok, 0, Some(AlertState::Resolved)),
        ]
    );
}

#[test]
fn an_alert_says_who_since_when_and_why() {
    let mut engine = Engine::new(vec![over_1000()], Limits::default());
    ask(&mut engine, at(0.0), &[process(7, 1_100, 0.0)]);
    let found = ask(&mut engine, at(2.0), &[process(7, 1_204, 2.0)]);
    let [alert] = found.changes.as_slice() else { panic!("one change") };
    assert_eq!((alert.since, alert.fired), (at(0.0).wall, Some(at(2.0).wall)));
    assert_eq!((alert.why.as_str(), alert.value), ("tasks.live is 1,204, above 1,000", Some(1_204.0)));
    assert_eq!(found.alerting.rules[0].why, "shop (pid 7): tasks.live is 1,204, above 800");
    let over = ask(&mut engine, at(3.0), &[process(7, 100, 3.0)]);
    let [resolved] = over.changes.as_slice() else { panic!("one change") };
    assert_eq!((resolved.id, resolved.fired, resolved.resolved), (alert.id, alert.fired, Some(at(3.0).wall)));
    assert_eq!(resolved.why, "tasks.live is 100, not above 800");
}

#[test]
fn not_enough_data_is_an_answer() {
    let window = Window { seconds: 60.0, every_s: 2.0 };
    let growth = Term::Over(Statistic::Growth, Figure::named("tasks.live").expect("a figure"), window);
    let mut engine =
        Engine::new(vec![rule("growth", vec![condition(growth, Op::Above, 50.0, None)])], Limits::default());
    assert_eq!(ask(&mut engine, at(0.0), &[]).alerting.rules[0].why, "no process matches it");
    for look in 0..60 {
        let look = f64::from(look);
        let found = ask(&mut engine, at(look), &[process(7, 100, look)]);
        let rule = &found.alerting.rules[0];
        assert_eq!((rule.state, rule.not_enough_data), (Answer::NotEnoughData, 1), "{look}");
        assert!(rule.why.contains("is not known yet"), "{}", rule.why);
    }
    let found = ask(&mut engine, at(60.0), &[process(7, 151, 60.0)]);
    assert_eq!((found.alerting.rules[0].state, found.alerting.rules[0].value), (Answer::Firing, Some(51.0)));
}

#[test]
fn sites_are_asked_one_by_one_and_the_runtime_s_own_are_not() {
    let mut engine = Engine::new(vec![leak()], Limits::default());
    let mut shop = process(7, 10, 1.0);
    shop.sites = vec![
        site("main.a", Verdict::Leak),
        site("main.b", Verdict::Ok),
        site("main.c", Verdict::NotYet),
        SiteReport { system: true, ..site("runtime.bg", Verdict::Leak) },
    ];
    let found = ask(&mut engine, at(0.0), std::slice::from_ref(&shop));
    let rule = &found.alerting.rules[0];
    assert_eq!((rule.asked, rule.firing, rule.not_enough_data), (3, 1, 1));
    let [alert] = found.alerting.alerts.as_slice() else { panic!("one alert") };
    assert_eq!(alert.subject(), "shop (pid 7): main.a (main.go:12)");
    assert_eq!(alert.why, "verdict is leak");
    // A verdict that is not known any more ends nothing, one that is better does; and the site may go.
    shop.sites[0].verdict = Verdict::NotYet;
    assert_eq!(ask(&mut engine, at(1.0), std::slice::from_ref(&shop)).changes, []);
    shop.sites.remove(0);
    let gone = ask(&mut engine, at(2.0), std::slice::from_ref(&shop)).changes;
    assert_eq!(names(&gone), [("leak", 7, AlertState::Resolved)]);
    assert!(gone[0].why.contains("no tasks any more"));
}

#[test]
fn sites_of_one_name_are_two() {
    let mut engine = Engine::new(vec![leak()], Limits::default());
    let mut shop = process(7, 10, 1.0);
    shop.sites = vec![site("main.a", Verdict::Leak), site("main.a", Verdict::Leak)];
    assert_eq!(ask(&mut engine, at(0.0), std::slice::from_ref(&shop)).changes.len(), 2);
    assert_eq!(ask(&mut engine, at(1.0), std::slice::from_ref(&shop)).changes.len(), 0);
}

#[test]
fn who_is_gone_is_over() {
    let mut engine = Engine::new(vec![Rule { for_s: 0.0, ..over_1000() }], Limits::default());
    let three = |watched_s| {
        [process(7, 2_000, watched_s), process(8, 2_000, watched_s), process(9, 2_000, watched_s)]
    };
    assert_eq!(ask(&mut engine, at(0.0), &three(5.0)).changes.len(), 3);
    let mut left = three(6.0);
    left[0].exited = true;
    let changes = ask(&mut engine, at(1.0), &left[..2]).changes;
    assert_eq!(names(&changes), [("many", 7, AlertState::Resolved), ("many", 9, AlertState::Resolved)]);
    assert!(changes[0].why.contains("ended"), "{}", changes[0].why);
    // Its watching began anew: another program.
    let changes = ask(&mut engine, at(2.0), &[process(8, 2_000, 0.5)]).changes;
    assert_eq!(
        names(&changes),
        [("many", 8, AlertState::Resolved), ("many", 8, AlertState::Firing)],
        "the new one starts from nothing"
    );
    let rest = engine.close(at(3.0));
    assert_eq!(names(&rest), [("many", 8, AlertState::Resolved)]);
    assert!(engine.close(at(4.0)).is_empty());
}

#[test]
fn patterns_choose() {
    let only = Only { comm: Some(Regex::new("^shop$").expect("a pattern")), ..Only::default() };
    let mut engine = Engine::new(vec![Rule { only, for_s: 0.0, ..over_1000() }], Limits::default());
    let other = ProcessReport { comm: "bank".to_owned(), ..process(8, 2_000, 1.0) };
    let found = ask(&mut engine, at(0.0), &[process(7, 2_000, 1.0), other]);
    assert_eq!(names(&found.changes), [("many", 7, AlertState::Firing)]);
    assert_eq!(found.alerting.rules[0].asked, 1);
}

#[test]
fn a_rule_of_sites_may_name_figures_of_their_process() {
    let when = vec![
        condition(now("verdict"), Op::AtLeast, 2.0, None),
        condition(now("tasks.live"), Op::Above, 1_000.0, None),
    ];
    let mut engine = Engine::new(vec![rule("both", when)], Limits::default());
    let mut shop = process(7, 900, 1.0);
    shop.sites = vec![site("main.a", Verdict::Leak)];
    let found = ask(&mut engine, at(0.0), std::slice::from_ref(&shop));
    assert_eq!(found.alerting.rules[0].state, Answer::Ok);
    assert!(found.alerting.rules[0].why.ends_with("tasks.live is 900, not above 1,000"));
    shop.tasks.live = 1_001;
    assert_eq!(ask(&mut engine, at(1.0), std::slice::from_ref(&shop)).changes.len(), 1);
}

#[test]
fn what_is_remembered_is_bounded() {
    let limits = Limits { processes: 3, sites: 10, alerts: 4, resolved: 2 };
    let mut engine = Engine::new(vec![leak()], limits);
    let crowd = |number: u32| ProcessReport {
        sites: (0..6).map(|site_number| site(&format!("main.f{site_number}"), Verdict::Leak)).collect(),
        ..process(number, 1, 1.0)
    };
    let processes: Vec<ProcessReport> = (0..5).map(crowd).collect();
    let found = ask(&mut engine, at(0.0), &processes);
    assert_eq!(found.alerting.not_looked_at, 2 + 8, "two processes, and eight sites of the other three");
    assert_eq!(found.alerting.rules[0].firing, 10);
    assert_eq!((found.alerting.alerts.len(), found.alerting.more_alerts), (4, 6));
    assert_eq!(found.changes.len(), 10, "each is told");
    // Where one goes there is room again.
    let found = ask(&mut engine, at(1.0), &processes[1..]);
    assert_eq!(found.alerting.not_looked_at, 1 + 8);
    let over = found.alerting.alerts.iter().filter(|alert| alert.state == AlertState::Resolved).count();
    assert_eq!(
        (over, found.alerting.alerts.len()),
        (2, 6),
        "the latest of those that are over are listed, too"
    );
}

#[test]
fn the_worst_come_first() {
    let red =
        Rule { level: Level::P0, ..rule("red", vec![condition(now("tasks.live"), Op::Above, 10.0, None)]) };
    let slow = Rule { for_s: 60.0, level: Level::P0, ..rule("slow", red.when.clone()) };
    let low = Rule { level: Level::P2, ..rule("low", red.when.clone()) };
    let mut engine = Engine::new(vec![low, slow, red], Limits::default());
    let found = ask(&mut engine, at(0.0), &[process(7, 2_000, 1.0)]);
    let order: Vec<(&str, AlertState)> =
        found.alerting.alerts.iter().map(|alert| (alert.rule.as_str(), alert.state)).collect();
    assert_eq!(
        order,
        [("red", AlertState::Firing), ("slow", AlertState::Pending), ("low", AlertState::Firing)]
    );
}

/// A look: seconds since the one before, tasks of each of three processes (`None`: it is gone), the verdict of a site.
type Look = (f64, [Option<u16>; 3], u8);

fn looks() -> impl Strategy<Value = Vec<Look>> {
    let one = (0.0..30.0, proptest::array::uniform3(proptest::option::weighted(0.8, 0..3_000_u16)), 0..4_u8);
    prop::collection::vec(one, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whatever the course: who fires was quiet before, who resolves fired; what a report counts as firing is what was told;
    /// an alert fires for its hold time unless its process goes; at the end everything is resolved.
    #[test]
    fn changes_and_states_agree(course in looks(), times in (0.0..20.0, 0.0..20.0, 0.0..60.0), spread in 1.0..40.0) {
        let (for_s, clear_for_s, hold_s) = times;
        let window = Window { seconds: spread, every_s: spread / 10.0 };
        let figure = Figure::named("tasks.live").expect("a figure");
        let timed = |rule: Rule| Rule { for_s, clear_for_s, hold_s, ..rule };
        let rules = vec![
            timed(over_1000()),
            timed(leak()),
            timed(rule("slope", vec![condition(Term::Over(Statistic::Slope, figure, window), Op::Above, 5.0, Some(1.0))])),
            timed(rule("jump", vec![condition(Term::Jump(figure), Op::AtLeast, 30.0, None)])),
        ];
        let mut engine = Engine::new(rules, Limits::default());
        let mut firing: BTreeMap<u64, AlertReport> = BTreeMap::new();
        let mut now_s = 0.0;
        for (step, lives, verdict) in course {
            now_s += step;
            let processes: Vec<ProcessReport> = lives.iter().zip(1..).filter_map(|(live, pid)| {
                let mut process = process(pid, u64::from((*live)?), now_s);
                let verdict = [Verdict::Ok, Verdict::NotYet, Verdict::Suspect, Verdict::Leak][usize::from(verdict)];
                process.sites = vec![site("main.a", verdict)];
                Some(process)
            }).collect();
            let found = ask(&mut engine, at(now_s), &processes);
            for change in &found.changes {
                match change.state {
                    AlertState::Firing => prop_assert!(firing.insert(change.id, change.clone()).is_none()),
                    AlertState::Resolved => {
                        let before = firing.remove(&change.id);
                        prop_assert!(before.is_some(), "it never fired: {change:?}");
                        let stays = processes.iter().any(|process| process.pid == change.pid);
                        let fired = before.and_then(|before| before.fired).expect("it fired");
                        let lasted = change.resolved.expect("it is over").duration_since(fired).as_secs_f64();
                        prop_assert!(!stays || lasted >= hold_s - 1e-3, "{lasted} of {hold_s}");
                    }
                    AlertState::Pending => prop_assert!(false, "nobody is told of what may come"),
                }
            }
            let counted: u64 = found.alerting.rules.iter().map(|rule| rule.firing).sum();
            prop_assert_eq!(counted, firing.len() as u64);
            for rule in &found.alerting.rules {
                prop_assert!(rule.firing + rule.pending + rule.not_enough_data <= rule.asked);
                prop_assert_eq!(rule.state == Answer::Firing, rule.firing > 0);
                prop_assert!(!rule.why.is_empty());
            }
        }
        for change in engine.close(at(now_s)) {
            prop_assert!(firing.remove(&change.id).is_some());
        }
        prop_assert!(firing.is_empty());
    }
}

#[test]
fn rules_that_stay_keep_their_past_when_others_come() {
    let climb = || {
        let window = Window { seconds: 4.0, every_s: 1.0 };
        let tasks = Figure::named("tasks.live").expect("a figure");
        rule("climb", vec![condition(Term::Over(Statistic::Change, tasks, window), Op::Above, 0.0, None)])
    };
    let only = |comm: &str| Only { comm: Some(Regex::new(comm).expect("a pattern")), ..Only::default() };
    let at_once = || Rule { for_s: 0.0, ..over_1000() };
    let mut engine = Engine::new(vec![at_once(), leak(), climb()], Limits::default());
    let look = |second: u32| {
        let sites = vec![site("main.serve", Verdict::Leak)];
        [ProcessReport { sites, ..process(7, 2_000 + u64::from(second), f64::from(second)) }]
    };
    for second in 0..3 {
        ask(&mut engine, at(f64::from(second)), &look(second));
    }
    // One goes, one is another by its pattern alone, the rest stays; one is new.
    let mine = Rule { only: only("^shop$"), ..at_once() };
    let fork = rule("forks", vec![condition(now("tasks.live"), Op::Above, 1.0, None)]);
    let over = engine.replace(vec![climb(), fork, mine, leak()], at(3.0));
    assert_eq!(names(&over), [("many", 7, AlertState::Resolved)]);
    assert_eq!(over[0].why, "the rule was changed or taken away");
    let found = ask(&mut engine, at(3.0), &look(3));
    assert_eq!(
        names(&found.changes),
        [("forks", 7, AlertState::Firing), ("many", 7, AlertState::Firing)],
        "the leak fires on, and nobody is told again"
    );
    // The window was not begun anew: it is full after the fourth second.
    let found = ask(&mut engine, at(4.0), &look(4));
    assert_eq!(names(&found.changes), [("climb", 7, AlertState::Firing)]);
    let over = engine.replace(Vec::new(), at(5.0));
    assert_eq!(over.len(), 4);
    assert!(engine.replace(vec![leak()], at(5.0)).is_empty());
    assert_eq!(names(&ask(&mut engine, at(6.0), &look(6)).changes), [("leak", 7, AlertState::Firing)]);
}
