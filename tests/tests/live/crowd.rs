//! More than there is room for: processes, and sites of one process. Nothing is lost in the sums, and what has no series of its own is
//! counted.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use leakwatch_tests::process::eventually;
use leakwatch_tests::{HostAgent, Server, Target, gate, matrix, need};

use crate::folder::Folder;
use crate::metrics::{complaints, samples, sum};

/// Processes that have series of their own, and sites of one (docs/metrics.md).
const OWN: usize = 1_000;
const OWN_SITES: usize = 20;

/// Sites of one process that the agent tells apart.
const TOLD_APART: u64 = 512;

const PATIENCE: Duration = Duration::from_mins(2);

/// Of this program alone, by memory, at once.
fn watching(program: &Path, most: usize) -> String {
    format!(
        "[discover]\ninclude = [{{ exe = \"{}\" }}]\nmax_processes = {most}\nrescan = \"1s\"\n\
         [sampling]\ninterval = \"1s\"\ncpu_percent = 100\n[promote]\nenabled = false\n[prove]\nenabled = false\n",
        program.display()
    )
}

/// A program that takes little.
fn small(program: &Path) -> Target {
    Target::start_command(Command::new(program).env("TRUTH_GOMAXPROCS", "1"))
}

fn scrape(host: &Server) -> String {
    host.get("/metrics", &[]).body
}

/// A count in the metrics.
fn whole(value: f64) -> u64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
    let count = value.round() as u64;
    count
}

/// The sum of a metric's series with these labels.
fn total(metrics: &str, name: &str, having: &[&str]) -> u64 {
    whole(sum(metrics, name, having))
}

/// A figure of the agent.
fn figure(metrics: &str, name: &str) -> u64 {
    let found = samples(metrics).into_iter().find(|(other, _)| *other == name);
    whole(found.unwrap_or_else(|| panic!("no {name}")).1)
}

const LEFT_OUT: &str = "leakwatch_series_left_out{what=\"processes\"}";

#[test]
fn of_more_processes_than_have_series_the_sums_are_right() {
    let truth = matrix::any_go_target().path;
    need!(gate::live(), gate::file(&truth), gate::third_party("promtool"));
    let folder = Folder::new("crowd");
    let program = folder.copy("crowd");
    let host = HostAgent::start("crowd", &watching(&program, 2_000));
    let mut crowd: Vec<Target> = (0..OWN + 20).map(|_| small(&program)).collect();
    let mut live = 0;
    for (place, target) in crowd.iter_mut().enumerate() {
        target.command(&format!("spawn chan {}", 1 + place % 5));
        live += target.truth().num_goroutine;
    }
    let threads = || -> u64 {
        let of =
            |target: &Target| fs::read_dir(format!("/proc/{}/task", target.pid())).expect("it runs").count();
        crowd.iter().map(|target| of(target) as u64).sum()
    };
    let mut metrics = String::new();
    let mut have = [0; 2];
    let right = eventually(PATIENCE, || {
        metrics = scrape(&host);
        have = ["leakwatch_tasks_live", "leakwatch_threads_live"].map(|name| total(&metrics, name, &[]));
        have == [live, threads()]
    });
    assert!(right, "{have:?}, not {live} and {}", threads());
    let own = |name: &str| samples(&metrics).iter().filter(|(other, _)| other.starts_with(name)).count();
    assert_eq!(own("leakwatch_process_info{"), OWN);
    assert_eq!(own("leakwatch_tasks_live{"), OWN + 1, "the others are one series");
    // Those with the fewest tasks have none of their own: two each, with the main goroutine.
    assert_eq!(total(&metrics, "leakwatch_tasks_live", &["{comm=\"(other)\",runtime=\"go\"}"]), 40);
    assert_eq!(figure(&metrics, LEFT_OUT), 20);
    assert_eq!(figure(&metrics, "leakwatch_processes"), crowd.len() as u64);
    assert_eq!(complaints(&metrics), "");

    // Others come into their place.
    crowd.drain(..100);
    host.wait_until("series of all", |host| {
        let metrics = scrape(host);
        figure(&metrics, LEFT_OUT) == 0 && !metrics.contains("comm=\"(other)\"")
    });
}

#[test]
fn those_that_there_is_no_room_for_are_counted_and_come_when_there_is() {
    let truth = matrix::any_go_target().path;
    need!(gate::live(), gate::file(&truth));
    let folder = Folder::new("room");
    let program = folder.copy("room");
    let host = HostAgent::start("room", &watching(&program, 3));
    let mut all: Vec<Target> = (0..6).map(|_| small(&program)).collect();
    let watched = |host: &HostAgent| all.iter().filter(|target| host.process(target.pid()).is_some()).count();
    host.wait_until("three of them, and three are counted", |_| {
        watched(&host) == 3
            && figure(&scrape(&host), LEFT_OUT) == 3
            && host.about()["left_out"]["no_room"] == 3
    });
    // More room, then the end of those that have it.
    host.reload(&watching(&program, 5));
    host.wait_until("five of them", |_| watched(&host) == 5 && host.about()["left_out"]["no_room"] == 1);
    let last = all.iter().position(|target| host.process(target.pid()).is_none()).expect("one has no room");
    let mut last = all.swap_remove(last);
    drop(all.pop());
    host.wait_until("the last one", |host| host.process(last.pid()).is_some());
    assert_eq!(host.about()["left_out"].get("no_room"), None);
    last.command("spawn chan 7");
    host.wait_live(last.pid(), last.check().num_goroutine);
}

#[test]
fn of_more_sites_than_have_series_the_sums_are_right() {
    let many = matrix::go_many();
    need!(gate::live(), gate::file(&many), gate::third_party("promtool"));
    let folder = Folder::new("sites");
    let program = folder.copy_of(&many, "sites");
    let mut target = Target::start(&program);
    target.command("many");
    let truth = target.check();
    let sites = truth.sites.len() as u64;
    assert!(sites >= 5_000, "{sites}");
    for tier in ["memory", "probes"] {
        let probes = "[promote]\ngrowth_per_min = 30\n[budget]\nprocess_percent = 100\nhost_percent = 100\n";
        let config = watching(&program, 10);
        let config = match tier {
            "probes" => config.replace("[promote]\nenabled = false\n", probes),
            _ => config,
        };
        let host = HostAgent::start("sites", &config);
        host.wait_live(target.pid(), target.check().num_goroutine);
        if tier == "probes" {
            host.wait_until("probes", |host| {
                target.command("spawn chan 5");
                host.process(target.pid()).expect("watched")["tier"] == "probes"
            });
            target.command("many");
        }
        let truth = target.check();
        host.wait_live(target.pid(), truth.num_goroutine);
        let metrics = scrape(&host);
        let of_sites = total(&metrics, "leakwatch_site_tasks_live", &[]);
        assert_eq!(of_sites, truth.num_goroutine, "{tier}");
        let own = samples(&metrics);
        let own = own.iter().filter(|(name, _)| name.starts_with("leakwatch_site_tasks_live{"));
        let (others, own): (Vec<_>, Vec<_>) =
            own.partition(|(name, _)| name.contains("function=\"(other)\""));
        assert_eq!((own.len(), others.len()), (OWN_SITES, 1), "{tier}: {others:?}");
        for (name, live) in own {
            let function =
                name.split("function=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a name");
            // The main goroutine is in no book.
            let known = truth.sites.get(function).map_or(1, |site| site.live);
            assert_eq!(whole(live), known, "{tier}: {name}");
        }
        let left_out = figure(&metrics, "leakwatch_series_left_out{what=\"sites\"}");
        // The main goroutine's is one more, and one that has no goroutine left may be there still.
        let all = left_out + OWN_SITES as u64;
        assert!(all >= truth.sites.len() as u64, "{tier}: {all} of {}", truth.sites.len());
        let report = host.report(target.pid()).expect("watched");
        let lost = report.process(target.pid()).json()["losses"]["sites_over_limit"].as_u64();
        assert!(lost.is_some_and(|lost| lost + TOLD_APART >= sites), "{tier}: {lost:?}");
        assert_eq!(complaints(&metrics), "");
        assert_eq!(host.terminate().code(), Some(0));
    }
}
