//! Files that are no recordings and no reports, damaged ones, and such as somebody wrote to do harm.

use std::fs;

use serde_json::Value;

use super::{leakwatch, refuses};

/// A report as small as leakwatch reads them. WORD is where foreign words stand.
const REPORT: &str = r#"{
    "schema": "leakwatch.report/1", "host": "WORD", "started": "2026-11-21T12:00:00Z", "duration_s": 30.0,
    "environment": {"leakwatch": "WORD", "kernel": "WORD", "machine": "WORD", "command": ["WORD"]},
    "overhead": {"probe_hits": 0, "cpu_percent_of_one_core": null, "budget_percent": null},
    "processes": [{
        "pid": 7, "start_time": null, "comm": "WORD", "exe": "WORD", "container": "WORD", "pod": null, "watched_s": 30.0,
        "runtimes": [{"kind": "WORD", "version": "WORD", "mode": "probes", "problems": ["WORD"]}],
        "tasks": {"live": 9, "live_at_attach": 0, "started": 9, "ended": 0, "start_rate_per_s": 0.3, "end_rate_per_s": 0,
                  "growth_per_min": 18, "lost_events": 0, "drift": 0},
        "threads": {"live": 1, "started": 0, "ended": 0}, "forks": {"count": 0, "rate_per_s": 0},
        "memory": {"rss_bytes": null, "rss_growth_per_min": null, "task_stack_bytes": null,
                   "task_stack_growth_per_min": null},
        "sites": [{
            "runtime": "WORD", "function": "WORD", "file": "WORD", "line": 7, "task": "WORD", "system": false, "live": 9,
            "live_at_attach": 0, "started": 9, "ended": 0, "start_rate_per_s": 0.3, "end_rate_per_s": 0,
            "growth_per_min": 18, "age_s": {"p50": 1, "p99": 2, "max": 3}, "lifetime_s": {"p50": null, "p99": null},
            "never_ending_share": null, "never_ending_interval": null, "leak_rate_per_min": null, "proven": null,
            "waiting": [{"reason": "WORD", "stack": ["WORD"], "count": 9, "longest_s": null}],
            "verdict": "leak", "why": "WORD", "confidence": 0.9, "settles": "WORD"
        }],
        "leaks": 1
    }],
    "rules": [{"name": "WORD", "level": "P0", "per": "site", "state": "firing", "asked": 1, "firing": 1, "pending": 0,
               "not_enough_data": 0, "value": null, "why": "WORD"}],
    "alerts": [{"rule": "WORD", "level": "P0", "state": "firing", "pid": 7, "start_time": null, "comm": "WORD",
                "site": {"runtime": "WORD", "function": "WORD", "file": "WORD", "line": 7, "task": "WORD"},
                "since": "2026-11-21T12:00:00Z", "fired": "2026-11-21T12:00:01Z", "value": null, "why": "WORD", "about": "WORD"}],
    "actions": [{"name": "WORD", "kind": "webhook", "done": 0, "failed": 1, "given_up": 0, "dropped": 0, "waiting": 0,
                 "last_error": "WORD", "held": null}]
}"#;

/// That report, all of whose foreign words are this one.
fn report(word: &str) -> String {
    REPORT.replace("\"WORD\"", &Value::from(word).to_string())
}

#[test]
fn what_is_no_report() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("file");
    let path = path.to_str().expect("text");
    let check = |bytes: &[u8], why: &str| {
        fs::write(path, bytes).expect("a file");
        for output in [&[][..], &["--output", "/dev/full/page.html"]] {
            let arguments = [&["report", path], output].concat();
            if output.is_empty() {
                refuses(leakwatch(&arguments), &format!("cannot read {path}: {why}"));
            } else {
                // Where it cannot be written is known before anything is read.
                let said = leakwatch(&arguments).output().expect("leakwatch starts").stderr;
                assert!(String::from_utf8_lossy(&said).contains("choose another --output"), "{said:?}");
            }
        }
    };
    check(b"", "it is empty");
    let foreign = "it is no report as JSON (expected value at line 1 column 1)";
    check(b"goroutine 1 [running]:\nmain.main()\n", foreign);
    check(b"\x7fELF\x02\x01\x01", foreign);
    check(br#"{"schema": "leakwatch.dump/1"}"#, "its schema \"leakwatch.dump/1\" is not that of a report");
    check(
        br#"{"schema": "leakwatch.report/2", "processes": 7}"#,
        "its schema \"leakwatch.report/2\" is newer than this leakwatch knows; read it with the leakwatch that wrote it",
    );
    let whole = report("main.f");
    check(&whole.as_bytes()[..whole.len() - 40], "it was cut before its first report ended");
    let newer = report("main.f").replace("\"firing\", \"pid\"", "\"snoozed\", \"pid\"");
    check(newer.as_bytes(), "its JSON has a state of an alert \"snoozed\" that this leakwatch does not know");
    refuses(
        leakwatch(&["report", "/no/such/file"]),
        "cannot read /no/such/file: No such file or directory (os error 2)",
    );
    refuses(leakwatch(&["report", "/dev"]), "cannot read /dev: it is no regular file");
}

#[test]
fn what_is_no_recording() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("watch.lkw");
    let path = path.to_str().expect("text");
    // It begins as one, and then: nothing, noise, a length that nobody could allocate.
    for rest in [&b""[..], b"\n", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", &[0; 4096]] {
        fs::write(path, [b"LKWREC", rest].concat()).expect("a file");
        for command in ["report", "replay"] {
            let output = leakwatch(&[command, path]).output().expect("leakwatch starts");
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(
                (output.status.code(), said.lines().count()),
                (Some(1), 1),
                "{command} {rest:?}: {said}"
            );
            assert!(said.contains(path) && output.stdout.is_empty(), "{said}");
        }
    }
}

#[test]
fn hostile_names_are_words() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("report.json");
    let path = path.to_str().expect("text");
    let long = "x".repeat(10_000);
    for word in [
        "</td><script>alert(1)</script>",
        "\u{1b}]0;owned\u{7}\u{1b}[2J",
        "\u{202e}txt.exe",
        "`|x|`\n# y",
        &long,
    ] {
        fs::write(path, report(word)).expect("a file");
        for format in ["html", "markdown"] {
            let output = leakwatch(&["report", path, "--format", format]).output().expect("leakwatch starts");
            let (said, page) =
                (String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
            assert_eq!((output.status.code(), &*said), (Some(0), ""), "{word:?}");
            assert!(
                (format != "html" || !page.contains("<script")) && page.len() < 150_000,
                "{format} of {word:?}: {}",
                page.len()
            );
            let odd =
                |sign: char| sign.is_control() && sign != '\n' || ('\u{202a}'..='\u{202e}').contains(&sign);
            assert_eq!(page.matches(odd).count(), 0, "{format} of {word:?}");
            assert!(!page.contains("\n# y"), "a heading of a name");
        }
    }
}
