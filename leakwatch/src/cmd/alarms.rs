//! `--rules` and `--rule`, put to work for a watch; and `leakwatch rules`, which lists, prints and checks them.

use std::{io::Write as _, path::Path, sync::Arc};

use anyhow::Context as _;

use super::{
    End,
    dump::{self, Whose},
    progress::Progress,
    startup::Usage,
    watch::say,
};
use crate::{
    agent::{Alarms, clock},
    alert::{Dumper, Means},
    cli::{AlertArgs, RulesArgs},
    config::rules::{self, RuleFile},
    report::{
        Report,
        alerting::{ActionReport, AlertState, Level, Scope},
    },
    rules::{Base, Engine, Limits, Moment, Rule, figures},
};

/// The rules and actions that were asked for; `None`: none were.
///
/// # Errors
/// Where a flag or the file is wrong, and what is allowed there.
pub(super) fn chosen(args: &AlertArgs) -> anyhow::Result<Option<RuleFile>> {
    if args.rules.is_none() && args.rule.is_empty() {
        if args.fail_on_alert.is_some() {
            return Err(Usage("--fail-on-alert needs rules: --rules FILE or --rule PRESET".to_owned()).into());
        }
        return Ok(None);
    }
    let path = args.rules.as_deref().map(Path::to_string_lossy);
    let file = rules::chosen(path.as_deref(), &args.rule).map_err(|error| Usage(error.to_string()))?;
    if file.rules.is_empty() {
        let path = path.unwrap_or_default();
        return Err(Usage(format!("--rules {path}: there is no [[rule]] in it")).into());
    }
    Ok(Some(file.or_logged()))
}

/// Some rule looks at stacks: they have to be read then.
pub(super) fn need_stacks(rules: &[Rule]) -> bool {
    let mut figures =
        rules.iter().flat_map(|rule| &rule.when).map(|condition| condition.term.figure().name());
    // `stack.`, `stacks.`, `cluster.`, `clusters.`; not `stack_bytes`.
    figures.any(|name| {
        name.split_once('.')
            .is_some_and(|(group, _)| matches!(group, "stack" | "stacks" | "cluster" | "clusters"))
    })
}

/// Puts them to work; `host` is what they call this machine.
///
/// # Errors
/// When an action cannot begin its work.
pub(super) fn start(file: RuleFile, host: String, dumper: Dumper) -> anyhow::Result<Alarms> {
    let alarms = Alarms::start(file.rules, file.actions, &Means { dumper, clock: clock::now, host })?;
    for (name, address) in alarms.dispatcher().listening() {
        say(&format!("action {name}: http://{address}/api/v1/hold answers 503 while a rule holds"))?;
    }
    Ok(alarms)
}

/// Rules that are asked about what is long past: nothing is done about it.
#[derive(Debug)]
pub(super) struct Past {
    engine: Option<Engine>,
    worst: Option<Level>,
}

impl Past {
    /// Those that were asked for.
    ///
    /// # Errors
    /// As of [`chosen`], and when there is no level of the name that `--fail-on-alert` gives.
    pub(super) fn begin(args: &AlertArgs) -> anyhow::Result<Self> {
        if let Some(word) = &args.fail_on_alert {
            level(word)?;
        }
        let engine = chosen(args)?.map(|file| Engine::new(file.rules, Limits::default()));
        Ok(Self { engine, worst: None })
    }

    /// Asks them about the next report, and puts their answers into it; what it says of other rules is gone then.
    pub(super) fn ask(&mut self, report: &mut Report) {
        let Some(engine) = &mut self.engine else { return };
        let found = engine.evaluate(Moment::of(report), &report.processes);
        let fired = found.changes.iter().filter(|change| change.state == AlertState::Firing);
        self.worst = fired.map(|change| change.level).chain(self.worst).max();
        report.alerting = found.alerting;
    }

    /// How much what fired mattered at most.
    pub(super) fn worst(&self) -> Option<Level> {
        self.worst
    }
}

/// Takes dumps of processes, for whoever asks.
pub(super) fn dumper() -> Dumper {
    Arc::new(|pid| {
        dump::take(pid, false, Whose::Runtimes, &Progress::unseen())
            .map_err(|error| format!("no dump of pid {pid}: {error:#}"))
    })
}

/// Ends the work, tells what of it failed, and how much of what fired matters most.
pub(super) fn finish(alarms: Option<Alarms>) -> anyhow::Result<Option<Level>> {
    let Some(alarms) = alarms else { return Ok(None) };
    let worst = alarms.worst();
    for action in alarms.finish() {
        if let Some(sentence) = trouble(&action) {
            say(&sentence)?;
        }
    }
    Ok(worst)
}

fn trouble(action: &ActionReport) -> Option<String> {
    let ActionReport { name, failed, given_up, dropped, waiting, last_error, .. } = action;
    if *failed == 0 && *dropped == 0 && *waiting == 0 {
        return None;
    }
    let error = last_error.as_deref().map_or_else(String::new, |error| format!(": {error}"));
    Some(format!(
        "action {name}: {failed} attempts failed, {given_up} given up, {dropped} dropped, {waiting} not finished{error}"
    ))
}

/// How a watch with rules ends.
pub(super) fn end(args: &AlertArgs, worst: Option<Level>) -> anyhow::Result<End> {
    let Some(least) = &args.fail_on_alert else { return Ok(End::Done) };
    let least = level(least)?;
    Ok(if worst.is_some_and(|worst| worst >= least) { End::Alert } else { End::Done })
}

/// The level of `--fail-on-alert`.
///
/// # Errors
/// When there is none of that name.
pub(super) fn level(word: &str) -> anyhow::Result<Level> {
    let found = Level::ALL.into_iter().find(|level| level.name() == word);
    found.ok_or_else(|| {
        let names: Vec<&str> = Level::ALL.iter().map(|level| level.name()).collect();
        Usage(format!("--fail-on-alert={word}: it is one of {}", names.join(", "))).into()
    })
}

/// `leakwatch rules`.
///
/// # Errors
/// When a file is wrong, there is no preset of that name, or standard output fails.
pub(super) fn run(args: &RulesArgs) -> anyhow::Result<End> {
    let mut out = std::io::stdout().lock();
    if let Some(path) = &args.check {
        let file =
            rules::chosen(Some(&path.to_string_lossy()), &[]).map_err(|error| Usage(error.to_string()))?;
        writeln!(out, "{}: {} rules, {} actions", path.display(), file.rules.len(), file.actions.len())?;
        for rule in &file.rules {
            writeln!(
                out,
                "  {:<24} {:<7} per {:<8} {}",
                rule.name,
                rule.level.name(),
                rule.scope.name(),
                sentence(rule)
            )?;
        }
        for action in &file.actions {
            writeln!(out, "  {:<24} {}", action.name, action.kind.name())?;
        }
        return Ok(End::Done);
    }
    if args.figures {
        for (scope, title) in [(Scope::Process, "of a process"), (Scope::Site, "of a creation site")] {
            writeln!(out, "figures {title}:")?;
            for figure in figures().filter(|figure| figure.scope() == scope) {
                let unit = figure.unit();
                let words = if unit.base == Base::Verdict {
                    "ok, suspect, leak".to_owned()
                } else {
                    unit.to_string()
                };
                writeln!(out, "  {:<34} {words:<18} {}", figure.name(), figure.about())?;
            }
        }
        return Ok(End::Done);
    }
    let Some(name) = &args.name else {
        for preset in rules::presets() {
            writeln!(out, "{:<18} {:<7} {}", preset.rule.name, preset.rule.level.name(), preset.rule.about)?;
        }
        return Ok(End::Done);
    };
    let preset = rules::presets().iter().find(|preset| preset.rule.name == *name);
    let preset =
        preset.ok_or_else(|| Usage(format!("no preset is called {name}; `leakwatch rules` lists them")))?;
    out.write_all(preset.text.as_bytes()).context("cannot write to standard output")?;
    Ok(End::Done)
}

/// A rule in a few words.
fn sentence(rule: &Rule) -> String {
    let conditions: Vec<String> = rule
        .when
        .iter()
        .map(|condition| {
            let unit = condition.term.unit();
            let until =
                condition.until.map_or_else(String::new, |until| format!(" until {}", unit.text(until)));
            format!("{} {} {}{until}", condition.written, condition.op, unit.text(condition.threshold))
        })
        .collect();
    let held = if rule.for_s > 0.0 {
        format!(" for {}", crate::report::units::duration(rule.for_s))
    } else {
        String::new()
    };
    format!("{}{held}", conditions.join(" and "))
}
