//! `tests/targets/go/truth` with five thousand more places that start goroutines: the newest Go, in its plain flavour.
//!
//! Their source is written here, and is in no folder: Go takes it in with `-overlay`.

use std::fmt::Write as _;
use std::fs;

use anyhow::{Context, Result};

use super::{Target, go, root, sources};
use crate::shell;
use crate::tools::go_toolchains;

/// Places.
const SITES: usize = 5_000;

/// What they have in common: the command `many` starts one goroutine at the first, two at the second, three at the third, one at the
/// fourth and so on, which all wait.
const HEAD: &str = r#"package main

func init() { commands["many"] = command{"many", many} }

var never = make(chan struct{})

func hold(s *site) {
	s.enter()
	defer s.ending()
	<-never
}

func many([]string) (interface{}, error) {
	for i, start := range places {
		s := newSite()
		for n := 0; n <= i%3; n++ {
			s.starting()
			start(s)
		}
	}
	return none{}, nil
}

"#;

pub(super) fn targets() -> Result<Vec<Vec<Target>>> {
    let toolchain = go_toolchains()?.pop().context("there is no Go")?;
    let program = shell::root().join("tests/targets/go/truth");
    let source = source();
    let home = root().join("go").join(toolchain.version).join("plain");
    let recipe = format!("{} {} {source}", sources(&program)?, toolchain.identity()?);
    let target = Target {
        name: format!("go {} plain many", toolchain.version),
        output: home.join("many"),
        recipe,
        make: Box::new(move |output| {
            let file = |name: &str, text: &str| {
                let file = home.join(name);
                fs::write(&file, text).with_context(|| format!("failed to write {}", file.display()))?;
                anyhow::Ok(file)
            };
            let generated = file("many.go", &source)?;
            let replace =
                format!(r#"{{"Replace": {{"{}/many.go": "{}"}}}}"#, program.display(), generated.display());
            let overlay = file("many.overlay", &replace)?;
            let module = file("many.mod", &go::module("truth", toolchain.version))?;
            let mut go = go::go(&toolchain);
            go.env("CGO_ENABLED", "0").current_dir(&program).arg("build").arg("-modfile").arg(module);
            go.arg("-overlay").arg(overlay).arg("-o").arg(output).arg(".");
            shell::output(&mut go).map(drop)
        }),
    };
    Ok(vec![vec![target]])
}

fn source() -> String {
    let mut text = HEAD.to_owned();
    for place in 0..SITES {
        // Writing to a text does not fail.
        let _written = writeln!(text, "func place{place}(s *site) {{ go hold(s) }}");
    }
    text.push_str("\nvar places = []func(*site){\n");
    for place in 0..SITES {
        let _written = writeln!(text, "\tplace{place},");
    }
    text + "}\n"
}
