//! The scenarios of the demo: what each does, and what leakwatch is promised to say of it.
//!
//! A promise is a verdict of one creation site of the built-in program, by the name of the function that starts the tasks.
//! A live test holds each of them.

use std::time::Duration;

use crate::{
    cli::Scenario,
    report::{Report, SiteReport, Verdict},
};

/// What is promised of a site.
#[derive(Clone, Copy, Debug)]
pub(super) struct Promise {
    /// Last part of the name of the function that starts the tasks.
    pub(super) function: &'static str,
    /// What is said of it after [`Plan::takes`].
    pub(super) verdict: Verdict,
    /// Why.
    pub(super) because: &'static str,
}

/// A scenario.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// What it is, in a line.
    pub(super) summary: &'static str,
    /// How long it takes until all can be said; longer is as good.
    pub(super) takes: Duration,
    /// What to see.
    pub(super) promises: &'static [Promise],
}

const fn promise(function: &'static str, verdict: Verdict, because: &'static str) -> Promise {
    Promise { function, verdict, because }
}

/// What a scenario is.
pub(super) const fn plan(scenario: Scenario) -> Plan {
    match scenario {
        Scenario::Shop => Plan {
            summary: "a service with a leak among what is healthy",
            takes: Duration::from_secs(50),
            promises: const {
                &[
                    promise("subscribe_to_orders", Verdict::Leak, "starts tasks that never end"),
                    promise("handle_request", Verdict::Ok, "starts many and ends them all"),
                    promise("worker_pool", Verdict::Ok, "holds a fixed number"),
                ]
            },
        },
        Scenario::SlowLeak => Plan {
            summary: "one in 250 requests never ends; a graph of the total hardly shows it",
            takes: Duration::from_secs(55),
            promises: const {
                &[
                    promise(
                        "check_out",
                        Verdict::Leak,
                        "ends 249 of 250 within a quarter of a second, and forgets one",
                    ),
                    promise("render_page", Verdict::Ok, "ends them all"),
                ]
            },
        },
        Scenario::Burst => Plan {
            summary: "tasks come in bursts: of one kind some stay each time, of the other none",
            takes: Duration::from_mins(1),
            promises: const {
                &[
                    promise("reconnect", Verdict::Leak, "makes twenty at once, of which five stay"),
                    promise("run_batch", Verdict::Ok, "makes thirty at once, and all of them end"),
                ]
            },
        },
        Scenario::OneChannel => Plan {
            summary: "threads that all wait on one channel, to which nobody sends",
            takes: Duration::from_secs(45),
            promises: const {
                &[promise(
                    "notify_subscriber",
                    Verdict::Leak,
                    "starts a thread for each subscriber, and all of them wait at one place",
                )]
            },
        },
        Scenario::Healthy => Plan {
            summary: "what looks like a leak and is none: a pool, tickers, and load that rises",
            takes: Duration::from_secs(50),
            promises: const {
                &[
                    promise(
                        "handle_request",
                        Verdict::Ok,
                        "starts more and more as the load rises, and ends them all",
                    ),
                    promise("worker_pool", Verdict::Ok, "is filled once, and lives as long as the program"),
                    promise(
                        "start_tickers",
                        Verdict::Ok,
                        "starts eight that wake up for ever, and no more of them",
                    ),
                ]
            },
        },
    }
}

/// The sites whose tasks a function of the built-in program starts.
pub(super) fn sites<'a>(report: &'a Report, function: &str) -> impl Iterator<Item = &'a SiteReport> {
    let sites = report.processes.iter().flat_map(|process| &process.sites);
    let ends_so = |name: &str| name.rsplit("::").find(|part| !part.starts_with('{')) == Some(function);
    sites.filter(move |site| site.function.as_deref().is_some_and(ends_so))
}

/// What is told before: what to look for.
pub(super) fn before(plan: &Plan) -> String {
    let line = |promise: &Promise| {
        format!("  {:<8} {}: {}\n", promise.verdict.name(), promise.function, promise.because)
    };
    let promises: String = plan.promises.iter().map(line).collect();
    format!("{}. You should see:\n{promises}", plan.summary)
}

/// What is told after: what was seen of that.
pub(super) fn after(plan: &Plan, report: &Report) -> String {
    let mut kept = true;
    let mut lines = vec!["\nWhat was promised, and what was seen:".to_owned()];
    for promise in plan.promises {
        let seen = sites(report, promise.function).map(|site| site.verdict).max();
        let as_promised = seen == Some(promise.verdict);
        kept &= as_promised;
        let seen = seen.map_or("nothing", Verdict::name);
        let mark = if as_promised { "as promised" } else { "not as promised" };
        lines.push(format!("  {seen:<8} {} ({mark}): {}", promise.function, promise.because));
    }
    if !kept && report.duration_s < plan.takes.as_secs_f64() {
        let takes = plan.takes.as_secs();
        lines.push(format!(
            "To say all of it takes {takes} seconds on a quiet machine: leave --duration out."
        ));
    }
    lines.push("Now your own program: sudo leakwatch --pid PID\n".to_owned());
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;
    use crate::report::samples;

    #[test]
    fn sites_are_found_by_the_last_part_of_a_name() {
        let mut process = samples::leaking();
        process.sites[0].function = Some("leakwatch::cmd::demo::program::Service::check_out".to_owned());
        process.sites[1].function = Some("leakwatch::cmd::demo::program::check_out::{{closure}}".to_owned());
        process.sites[2].function = Some("leakwatch::cmd::demo::program::dont_check_out".to_owned());
        let report = samples::report(vec![process]);
        assert_eq!(sites(&report, "check_out").count(), 2);
    }

    #[test]
    fn what_was_not_seen_is_told_so() {
        for scenario in Scenario::value_variants() {
            let plan = plan(*scenario);
            assert!(!plan.promises.is_empty());
            let text = after(&plan, &samples::report(Vec::new()));
            assert_eq!(text.matches("nothing  ").count(), plan.promises.len(), "{text}");
            assert!(!text.contains("(as promised)"), "{text}");
        }
    }
}
