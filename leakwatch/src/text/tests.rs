//! Whole outputs against files in `golden/`. `LEAKWATCH_UPDATE_GOLDEN=1 cargo test` writes them anew; read the
//! difference before you commit it.

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::report::clean::width;
use crate::report::{ProcessReport, samples};

fn golden(name: &str, processes: Vec<ProcessReport>, options: &Options) {
    let text = render(&samples::report(processes), options);
    let path = Path::new(file!()).with_file_name("golden").join(format!("{name}.txt"));
    // `file!()` is relative to the workspace, tests run in the package.
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    if std::env::var_os("LEAKWATCH_UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text, expected, "{name}");
    for line in text.lines().filter(|_| !options.color) {
        assert!(width(line) <= options.width, "{} > {}: {line}", width(line), options.width);
    }
}

fn columns(width: usize) -> Options {
    Options { width, ..Options::default() }
}

#[test]
fn a_leak_in_80_columns() {
    golden("leak-80", vec![samples::leaking()], &columns(80));
}

#[test]
fn a_leak_in_132_columns() {
    golden("leak-132", vec![samples::leaking()], &columns(132));
}

#[test]
fn a_leak_in_200_columns_in_colour() {
    golden("leak-200-colour", vec![samples::leaking()], &Options { color: true, ..columns(200) });
}

#[test]
fn stacks_and_system_tasks() {
    golden("leak-stacks", vec![samples::leaking()], &Options { stacks: 1, system: true, ..columns(80) });
}

#[test]
fn losses_and_unknown_figures() {
    golden("lossy", vec![samples::lossy()], &columns(80));
}

#[test]
fn hostile_names_are_text() {
    golden("hostile", vec![samples::hostile()], &Options { stacks: 3, ..columns(100) });
}

#[test]
fn several_processes() {
    golden(
        "several",
        vec![samples::leaking(), samples::hostile(), samples::lossy()],
        &Options { sites: 1, ..columns(120) },
    );
}

#[test]
fn nothing_watched() {
    golden("nothing", Vec::new(), &columns(80));
}

#[test]
fn a_process_without_sites_is_its_headline() {
    let text = render(&samples::report(vec![samples::process(1, "idle")]), &columns(80));
    assert!(text.starts_with("idle (pid 1, go1.27.2): 0 goroutines\n"), "{text}");
    assert!(!text.contains("WHERE"), "{text}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_text_is_harmless_at_any_width(
        columns in 0usize..260,
        name in ".{0,200}",
        raw in proptest::collection::vec(any::<char>(), 0..60),
        stacks in 0usize..4,
    ) {
        let raw: String = raw.into_iter().collect();
        let mut process = samples::hostile();
        process.comm = raw.clone();
        process.sites[0].function = Some(name.clone());
        process.sites[1].task = Some(raw.clone());
        process.sites[2].file = Some(raw.clone());
        process.sites[0].waiting[0].reason = raw.clone();
        process.sites[0].waiting[0].stack = vec![raw.as_str().into(), name.into()];
        process.runtimes[0].problems = vec![raw];
        let text = render(&samples::report(vec![process]), &Options { stacks, ..self::columns(columns) });
        for line in text.lines() {
            prop_assert!(!line.chars().any(char::is_control), "{:?}", line);
            prop_assert!(width(line) <= columns.max(60), "{} > {}: {}", width(line), columns, line);
        }
    }
}
