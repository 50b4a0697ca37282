//! `leakwatch agent`: finds what runs and what comes, counts as the programs themselves do, forgets what ends.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::folder::Folder;
use leakwatch_tests::process::Guard;
use leakwatch_tests::{HostAgent, Server, Target, TokioTarget, churn, gate, matrix, need};

/// Looks once a second: a test need not wait.
const OFTEN: &str = "[sampling]\ninterval = \"1s\"\ncpu_percent = 50\n[promote]\nenabled = false\n";

/// The same of the targets alone: what else runs on the machine is not read.
const TARGETS: &str = "[sampling]\ninterval = \"1s\"\ncpu_percent = 50\n[promote]\nenabled = false\n\
                       [discover]\ninclude = [{ comm = \"truth\" }]\n";

fn newest() -> PathBuf {
    matrix::go_target(matrix::GO_RELEASES[matrix::GO_RELEASES.len() - 1], "strip").path
}

/// All live tasks of a process by the report are those that the program knows, site by site.
#[track_caller]
fn assert_live_is_true(host: &HostAgent, target: &mut Target) {
    let truth = target.check();
    host.wait_live(target.pid(), truth.num_goroutine);
    let report = host.report(target.pid()).expect("it is watched");
    let process = report.process(target.pid());
    let functions = process.by_function();
    for (function, truth) in &truth.sites {
        assert_eq!(functions.get(function).map_or(0, |counts| counts.live), truth.live, "{function}");
    }
    let sum: u64 = functions.values().map(|counts| counts.live).sum();
    assert_eq!(sum, truth.live, "nothing else");
}

#[test]
fn those_that_run_those_that_come_and_those_that_go() {
    let oldest = matrix::go_target(matrix::GO_RELEASES[0], "plain").path;
    need!(gate::live(), gate::file(&newest()), gate::file(&oldest));
    let mut early = Target::start(&newest());
    early.command("spawn chan 100");
    let host = HostAgent::start("come-and-go", TARGETS);
    assert_live_is_true(&host, &mut early);

    // One of another binary, one of the same, both from their exec on.
    let mut other = Target::start(&oldest);
    let mut same = Target::start(&newest());
    other.command("spawn chan 30");
    same.command("spawn method 7");
    assert_live_is_true(&host, &mut other);
    assert_live_is_true(&host, &mut same);
    early.command("finish chan 40");
    early.command("spawn iowait 5");
    assert_live_is_true(&host, &mut early);
    for target in [&early, &other, &same] {
        let process = host.process(target.pid()).expect("watched");
        assert_eq!((&process["tier"], &process["probe_hits"]), (&"memory".into(), &0.into()), "{process}");
    }

    // It replaces itself by itself: what was known of the old program is gone.
    same.exec();
    same.command("spawn chan 3");
    assert_live_is_true(&host, &mut same);

    let (gone, kept) = (early.pid(), other.pid());
    drop(early);
    host.wait_until("the end of a process", |host| host.process(gone).is_none());
    assert!(host.report(gone).is_none());
    let metrics = host.get("/metrics", &[]).body;
    assert!(!metrics.contains(&format!("pid=\"{gone}\"")), "a series is left behind");
    assert!(metrics.contains(&format!("pid=\"{kept}\"")), "{metrics}");
    let outcome = host.terminate();
    assert_eq!(outcome.code(), Some(0), "{}", outcome.stderr);
}

#[test]
fn starts_between_two_looks_are_counted_by_their_numbers() {
    need!(gate::live(), gate::file(&newest()));
    let mut target = Target::start(&newest());
    let host = HostAgent::start("numbers", TARGETS);
    host.wait_until("a first look", |host| host.process(target.pid()).is_some());
    let before = target.truth();
    target.command("storm 20000");
    let after = target.check();
    let started = after.started - before.started;
    let counted = |host: &Server| {
        let report = host.report(target.pid()).expect("watched");
        report.process(target.pid()).tasks().started
    };
    // Numbers are given to processors 16 at a time.
    let slack = 16 * u64::from(target.ready().gomaxprocs) + 64;
    host.wait_until("the starts", |host| counted(host) + slack >= started);
    assert!(counted(&host) <= started + slack, "{} of {started}", counted(&host));
    let report = host.report(target.pid()).expect("watched");
    let tasks = report.process(target.pid()).tasks();
    assert_eq!(tasks.live_at_attach + tasks.started - tasks.ended, tasks.live);
}

#[test]
fn what_a_program_starts_before_the_first_look_is_among_its_starts() {
    need!(gate::live(), gate::file(&newest()));
    // Its program is known by then: nothing has to be read.
    let first = Target::start(&newest());
    let host = HostAgent::start("newborn", TARGETS);
    host.wait_until("a first look", |host| host.process(first.pid()).is_some());
    let mut target = Target::start(&newest());
    target.command("storm 1000");
    target.command("spawn chan 100");
    let truth = target.check();
    assert!(truth.started >= 1100, "{truth:?}");
    host.wait_until("a first look", |host| host.process(target.pid()).is_some());
    let tasks = || host.report(target.pid()).expect("watched").process(target.pid()).tasks();
    let slack = 16 * u64::from(target.ready().gomaxprocs) + 64;
    host.wait_until("the starts", |_| tasks().started + slack >= truth.started);
    let tasks = tasks();
    assert!(tasks.started <= truth.started + slack, "{tasks:?} of {truth:?}");
    assert_eq!((tasks.live_at_attach, tasks.started - tasks.ended), (0, tasks.live), "{tasks:?}");
}

#[test]
fn only_those_that_are_wanted() {
    need!(gate::live(), gate::file(&newest()));
    let folder = std::env::temp_dir().join(format!("leakwatch-wanted-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("made");
    let copy = folder.join("wanted");
    std::fs::copy(newest(), &copy).expect("copied");
    let other = folder.join("link");
    symlink(newest(), &other).expect("linked");
    let (wanted, unwanted) = (Target::start(&copy), Target::start(&other));
    let only = format!("{OFTEN}[discover]\ninclude = [{{ exe = \"{}/.*\" }}]\n", folder.display());
    let host = HostAgent::start("wanted", &only);
    assert!(host.process(wanted.pid()).is_some(), "{:#}", host.about());
    assert!(host.process(unwanted.pid()).is_none());
    assert!(host.about()["left_out"]["filtered"].as_u64().is_some_and(|count| count >= 1));

    // Read again: the other way round, and nothing is forgotten of who stays wanted.
    let both =
        format!("{OFTEN}[discover]\ninclude = [{{ comm = \"truth|wanted\" }}, {{ comm = \"link\" }}]\n");
    let looks = |host: &Server| host.process(wanted.pid()).expect("watched")["looks"].as_u64().unwrap_or(0);
    host.wait_until("some looks", |host| looks(host) >= 3);
    host.reload(&both);
    host.wait_until("the other", |host| host.process(unwanted.pid()).is_some());
    assert!(looks(&host) >= 3, "it began anew");
    host.reload(&format!("{OFTEN}[discover]\nexclude = [{{ comm = \"wanted\" }}]\n"));
    host.wait_until("its end", |host| host.process(wanted.pid()).is_none());
    assert!(host.process(unwanted.pid()).is_some());
    // Wanted again, it is found again.
    host.reload(&both);
    host.wait_until("its return", |host| host.process(wanted.pid()).is_some());
    host.reload(&format!("{OFTEN}[discover]\nexclude = [{{ comm = \"wanted\" }}]\n"));
    host.wait_until("its end again", |host| host.process(wanted.pid()).is_none());
    // A wrong one changes nothing.
    host.reload("[discover]\nincluded = []\n");
    host.wait_until("the error", |host| host.about()["errors"]["reload"] == 1);
    assert!(host.process(wanted.pid()).is_none() && host.process(unwanted.pid()).is_some());
    std::fs::remove_dir_all(&folder).expect("removed");
}

/// A look through all processes comes however much news of execs there is.
#[test]
fn a_fork_that_executes_nothing_is_found_while_others_execute() {
    need!(gate::live());
    let wanted = "[discover]\nrescan = \"1s\"\nruntimes = [\"thread\"]\ninclude = [{ comm = \"sh\" }]\n";
    let host = HostAgent::start("forks", &format!("{OFTEN}{wanted}"));
    // Without a pause longer than that.
    let _busy = Guard::start(Command::new("sh").args(["-c", "while :; do sleep 0.02; done"]));
    let mut parent =
        Guard::start(Command::new("sh").args(["-c", "exec 3<&0; (read line <&3; :) & echo $!; wait"]));
    let mut line = String::new();
    let output = parent.child().stdout.take().expect("its output is a pipe");
    BufReader::new(output).read_line(&mut line).expect("a line");
    let fork: u32 = line.trim().parse().expect("a pid");
    host.wait_until("the fork", |host| host.process(fork).is_some());
}

#[test]
fn processes_are_chosen_by_user_and_runtime() {
    let tokio = matrix::any_tokio_target().path;
    need!(gate::live(), gate::file(&newest()), gate::file(&tokio));
    let (go, tokio) = (Target::start(&newest()), TokioTarget::start(&tokio));
    let mut setpriv = Command::new("setpriv");
    setpriv.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(newest());
    let others = Target::start_command(&mut setpriv);
    let pids = [go.pid(), tokio.pid(), others.pid()];
    let config = |runtimes: &str, patterns: &str| {
        format!("{OFTEN}[discover]\nrescan = \"1s\"\nruntimes = [{runtimes}]\n{patterns}\n")
    };
    let of_targets = r#"include = [{ comm = "truth" }]"#;
    let host = HostAgent::start("chosen", &config(r#""go", "tokio""#, of_targets));
    for (runtimes, patterns, expect) in [
        (r#""go", "tokio""#, of_targets, [true, true, true]),
        (r#""go""#, of_targets, [true, false, true]),
        (r#""tokio""#, of_targets, [false, true, false]),
        (r#""go""#, r#"include = [{ comm = "truth", user = "nobody" }]"#, [false, false, true]),
        (r#""go", "tokio""#, r#"include = [{ comm = "truth", user = 0 }]"#, [true, true, false]),
        (
            r#""go", "tokio""#,
            "include = [{ comm = \"truth\" }]\nexclude = [{ user = 65534 }]",
            [true, true, false],
        ),
    ] {
        host.reload(&config(runtimes, patterns));
        host.wait_until(&format!("{runtimes} of {patterns}"), |host| {
            pids.map(|pid| host.process(pid).is_some()) == expect
        });
    }
}

#[test]
fn one_that_grows_gets_probes_and_loses_them_again() {
    need!(gate::live(), gate::file(&newest()));
    let mut target = Target::start(&newest());
    target.command("spawn chan 100");
    let config = "[sampling]\ninterval = \"1s\"\ncpu_percent = 50\n[promote]\ngrowth_per_min = 30\nhold = \"3s\"\nrest = \"1h\"\n\
                  [discover]\ninclude = [{ comm = \"truth\" }]\n[budget]\nprocess_percent = 100\nhost_percent = 100\n";
    let host = HostAgent::start("promote", config);
    let pid = target.pid();
    let tier = |host: &Server| host.process(pid).expect("watched")["tier"].clone();
    host.wait_until("probes", |host| {
        target.command("spawn chan 5");
        tier(host) == "probes"
    });
    assert_live_is_true(&host, &mut target);
    // From here on every start and end is seen: as many more were counted as there were.
    let totals = |host: &Server| {
        let report = host.report(pid).expect("watched");
        report.process(pid).tasks()
    };
    let (before, known) = (target.check(), totals(&host));
    target.command("storm 5000");
    target.command("finish chan 50");
    let after = target.check();
    host.wait_live(pid, after.num_goroutine);
    let now = totals(&host);
    assert_eq!(now.started - known.started, after.started - before.started, "starts by probes");
    assert_eq!(now.ended - known.ended, after.ended - before.ended, "ends by probes");
    assert!(host.about()["probes"].as_u64().is_some_and(|probes| probes >= 2));

    // Nothing grows any more: they are taken off, and counting goes on.
    host.wait_until("no probes", |host| tier(host) == "memory");
    assert_eq!(host.about()["probes"], 0);
    assert_eq!((&host.about()["promoted"], &host.about()["demoted"]), (&1.into(), &1.into()));
    target.command("spawn method 9");
    assert_live_is_true(&host, &mut target);
    let last = totals(&host);
    assert!(last.started >= now.started && last.ended >= now.ended, "{last:?} after {now:?}");
    assert_eq!(last.live_at_attach + last.started - last.ended, last.live);
}

#[test]
fn binaries_are_not_read_again_by_the_next_agent() {
    need!(gate::live(), gate::file(&newest()));
    let folder = Folder::new("cache");
    let cache = folder.path().join("state/binaries.cache");
    let mut target = Target::start(&folder.copy_of(&newest(), "kept"));
    target.command("spawn chan 12");
    let config = format!(
        "{OFTEN}[discover]\ncache = \"{}\"\ninclude = [{{ exe = \"{}/kept\" }}]\n",
        cache.display(),
        folder.path().display()
    );
    for (run, read) in [("first", 1), ("second", 0), ("damaged", 1), ("fourth", 0)] {
        let host = HostAgent::start(run, &config);
        assert_live_is_true(&host, &mut target);
        let binaries = host.about()["binaries"].clone();
        assert_eq!((&binaries["known"], &binaries["inspected"]), (&1.into(), &read.into()), "{run}");
        let outcome = host.terminate();
        assert_eq!(outcome.stderr.contains("is passed over"), run == "damaged", "{}", outcome.stderr);
        if run == "second" {
            std::fs::write(&cache, "somebody else's").expect("written");
        }
    }
}

#[test]
fn probes_over_the_budget_are_thinned_and_then_taken_off() {
    need!(gate::live(), gate::file(&newest()));
    let folder = Folder::new("thinned");
    let mut target = Target::start(&folder.copy_of(&newest(), "busy"));
    target.command("spawn chan 100");
    let config = |percent: f64| {
        format!(
            "[sampling]\ninterval = \"1s\"\ncpu_percent = 50\n[promote]\ngrowth_per_min = 30\nrest = \"1h\"\n[discover]\n\
             include = [{{ exe = \"{}/busy\" }}]\n[budget]\nprocess_percent = {percent:.4}\nhost_percent = 100\nperiod = \"6s\"\n",
            folder.path().display()
        )
    };
    let host = HostAgent::start("thinned", &config(100.0));
    let pid = target.pid();
    let of = |host: &Server, figure: &str| host.process(pid).expect("watched")[figure].clone();
    let totals = |host: &Server| host.report(pid).expect("watched").process(pid).tasks();
    host.wait_until("probes", |host| {
        target.command("spawn chan 5");
        of(host, "tier") == "probes"
    });
    assert_live_is_true(&host, &mut target);
    let (before, known) = (target.check(), totals(&host));

    // What they cost under a steady load, whatever that is here; the budget is half of it.
    let mut added = 0.0;
    host.wait_until("a cost", |host| {
        target.command("storm 400");
        added = of(host, "added_percent").as_f64().unwrap_or(0.0);
        added > 0.2
    });
    host.reload(&config(added / 2.0));
    host.wait_until("thinning", |host| {
        target.command("storm 400");
        of(host, "tier") == "thinned"
    });
    // Off and on again, twice.
    for on in [false, true, false, true] {
        host.wait_until(&format!("probes that are placed: {on}"), |host| {
            target.command("storm 400");
            (host.about()["probes"] != 0) == on && of(host, "tier") == "thinned"
        });
    }
    let about = host.about();
    assert_eq!((&about["promoted"], &about["demoted"]), (&1.into(), &0.into()), "{about:#}");
    assert!(about["thinned"].as_u64().is_some_and(|times| times >= 1), "{about:#}");
    let metrics = host.get("/metrics", &[]).body;
    assert!(metrics.contains("leakwatch_processes_by_tier{tier=\"thinned\"} 1"), "{metrics}");

    // What it costs many times over is not worth its while.
    host.reload(&config(added / 200.0));
    host.wait_until("no probes", |host| {
        target.command("storm 400");
        of(host, "tier") == "memory"
    });
    let report = host.report(pid).expect("watched");
    let problems = report.process(pid).json()["runtimes"][0]["problems"].clone();
    let said = problems.as_array().map(Vec::as_slice).unwrap_or_default();
    assert!(
        matches!(said, [why] if why.as_str().is_some_and(|why| why.contains(" % of a core to the process, over the budget"))),
        "{problems:#}"
    );
    // By probes, by memory and by the runtime's own numbers: all starts, but for what numbers cannot tell at each change.
    let after = target.check();
    let started = after.started - before.started;
    let slack = 12 * (16 * u64::from(target.ready().gomaxprocs) + 64);
    let counted = |host: &Server| totals(host).started - known.started;
    host.wait_until("the starts", |host| counted(host) + slack >= started);
    assert!(counted(&host) <= started + slack, "{} of {started}", counted(&host));
    assert_live_is_true(&host, &mut target);
    let now = totals(&host);
    assert_eq!(now.live_at_attach + now.started - now.ended, now.live, "{now:?}");
    assert_eq!(host.terminate().code(), Some(0));
}

#[test]
fn who_may_ask_for_what() {
    need!(gate::live());
    let token = std::env::temp_dir().join(format!("leakwatch-token-{}", std::process::id()));
    std::fs::write(&token, "0123456789abcdef0123456789abcdef\n").expect("written");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&token, mode).expect("set");
    let config = format!("[http]\nbearer_token_file = \"{}\"\napi = \"auth\"\n{TARGETS}", token.display());
    let host = HostAgent::start("access", &config);
    let bearer = |token: &'static str| [("Authorization", token)];
    let good = "Bearer 0123456789abcdef0123456789abcdef";
    for (path, headers, status) in [
        ("/healthz", &[][..], 200),
        ("/metrics", &[][..], 200),
        ("/api/v1/report", &[][..], 401),
        ("/api/v1/processes", &bearer("Bearer wrong")[..], 401),
        ("/api/v1/processes", &bearer(good)[..], 200),
        ("/api/v1/report", &bearer(good)[..], 200),
        ("/api/v1/report?pid=0", &bearer(good)[..], 404),
        ("/api/v1/report?pid=x", &bearer(good)[..], 400),
        ("/api/v1/report?all=1", &bearer(good)[..], 400),
        ("/nowhere", &bearer(good)[..], 404),
        // The page itself says nothing of anybody; what it asks for does.
        ("/", &[][..], 200),
    ] {
        let answer = host.get(path, headers);
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
        assert!(!answer.body.contains("0123456789abcdef"), "{path} tells the token");
    }
    let post =
        host.raw("POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc");
    assert_eq!(post.status, 405);
    let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(100_000));
    assert!([0, 414, 431].contains(&host.raw(&long).status));
    let open_metrics = host.get("/metrics", &[("Accept", "application/openmetrics-text; version=1.0.0")]);
    assert!(open_metrics.body.ends_with("# EOF\n"), "{}", open_metrics.headers);
    std::fs::remove_file(&token).expect("removed");
    drop(host);
}

#[test]
fn it_ends_when_it_is_told_to_and_leaves_nothing() {
    need!(gate::live(), gate::file(&newest()));
    let mut target = Target::start(&newest());
    let host = HostAgent::start("end", TARGETS);
    assert_live_is_true(&host, &mut target);
    let outcome = host.terminate();
    assert_eq!(outcome.code(), Some(0), "{}", outcome.stderr);
    // The target lives on, and counts as before.
    target.command("spawn chan 1");
    target.check();
}

/// `cargo xtask churn` is the same with 300 processes, for a minute.
#[test]
fn after_many_came_and_went_it_has_what_it_had() {
    let binaries: Vec<PathBuf> =
        matrix::GO_RELEASES.iter().map(|one| matrix::go_target(one, "strip").path).collect();
    need!(gate::live(), gate::file(&newest()), gate::file(&binaries[0]));
    let host = HostAgent::start("churn", TARGETS);
    let churned = churn::churn(&host, &binaries, 24, 20, Duration::from_secs(10));
    let (before, after) = (churned.before, churned.after);
    // A process takes five or so; a connection of our own may be open when they are counted.
    assert!(after.open_fds <= before.open_fds + 4, "{churned:?}");
    assert_eq!((after.bpf, after.threads), (before.bpf, before.threads), "{churned:?}");
    assert_eq!(after.series, before.series, "{churned:?}");
    assert!(churned.forks[0] > 0 && churned.forks[0] == churned.forks[1], "{churned:?}");
    // What the allocator keeps is not much, and no more with each of them.
    assert!(churned.full_again.rss_bytes < churned.full.rss_bytes + (24 << 20), "{churned:?}");
    assert_eq!(host.about()["errors"]["kernel"], 0);
}

#[test]
fn rules_of_its_configuration_fire_and_resolve() {
    need!(gate::live(), gate::file(&newest()));
    let rule = "[[rule]]\nname = \"many\"\nwhen = \"tasks.live > 300\"\n";
    let mut target = Target::start(&newest());
    let mut host = HostAgent::start("rules", &format!("{TARGETS}{rule}"));
    target.command("spawn chan 400");
    let fires = host.wait_said("many");
    assert!(fires.contains("firing") && fires.contains(&format!("pid {}", target.pid())), "{fires}");
    target.command("finish chan 400");
    let over = host.wait_said("many");
    assert!(over.contains("resolved"), "{over}");
}

#[test]
fn a_reload_that_cannot_be_taken_is_refused_as_a_whole() {
    need!(gate::live(), gate::file(&newest()));
    let mut target = Target::start(&newest());
    target.command("spawn chan 10");
    let rule = "[[rule]]\nname = \"many\"\nwhen = \"tasks.live > 100000000\"\n";
    let action = "[[action]]\nkind = \"log\"\n";
    let host = HostAgent::start("refused", &format!("{TARGETS}{rule}{action}"));
    assert_live_is_true(&host, &mut target);
    // Each changes what is read again, too: nothing of it is taken.
    let nobody = TARGETS.replace("truth", "nobody");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let hold = format!("listen = \"{}\"", taken.local_addr().expect("its address"));
    let begins = "are read at the start only: restart the agent for their changes";
    let changed = [
        (
            "gave up executing programs: restart it",
            format!("{nobody}{rule}{action}[[action]]\nkind = \"command\"\ncommand = [\"/bin/true\"]\n"),
        ),
        ("choose another `listen`", format!("{nobody}{rule}[[action]]\nkind = \"hold\"\n{hold}\n")),
        (
            "the rights of queue_dir",
            format!(
                "{nobody}{rule}{action}[export.remote_write]\nurl = \"http://127.0.0.1:1/\"\nqueue_dir = \"/proc/no\"\n"
            ),
        ),
        (begins, format!("[http]\nconnections = 9\n{nobody}{rule}{action}")),
        (
            "no certificate chain",
            format!("[http]\ntls_cert = \"/dev/null\"\ntls_key = \"/dev/null\"\n{nobody}"),
        ),
    ];
    for ((_, config), errors) in changed.iter().zip(1..) {
        host.reload(config);
        host.wait_until("the refusal", |host| host.about()["errors"]["reload"] == errors);
        target.command("spawn chan 1");
        assert_live_is_true(&host, &mut target);
    }
    let outcome = host.terminate();
    assert_eq!(outcome.code(), Some(0), "{}", outcome.stderr);
    for (said, _) in &changed {
        assert!(outcome.stderr.contains(said), "{said}: {}", outcome.stderr);
    }
}
