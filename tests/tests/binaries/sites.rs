//! Probe sites in every Go version and way to build: found, at the same place of the same function, and really the call
//! that they are said to be.

use leakwatch_inspect::go::GoFacts;
use leakwatch_inspect::go::pclntab::Pclntab;
use leakwatch_inspect::{Elf, Inspection, ProbeAction, ProbeSite, inspect};

use super::targets::{MINORS, Target, target};

/// Ways to build for x86-64.
const FLAVOURS: [&str; 5] = ["plain", "stripped", "strip", "pie", "cgo"];

/// Where a site is: function, distance from its entry.
type Place = (String, u64);

fn facts(target: &Target) -> (Elf, GoFacts) {
    let Inspection { elf, go, .. } =
        inspect(&target.image).unwrap_or_else(|e| panic!("{}: {e}", target.name));
    let go = go.unwrap_or_else(|| panic!("{}: no Go runtime was found", target.name));
    assert!(go.problems.is_empty(), "{}: {:?}", target.name, go.problems);
    (elf, go)
}

/// Checks a site against the file and the function table, and says where it is.
fn place(target: &Target, elf: &Elf, go: &GoFacts, site: &ProbeSite) -> Place {
    let name = &target.name;
    let table = Pclntab::new(&target.image, go.pclntab.as_ref().unwrap()).unwrap();
    let function = table.function_at(site.address).unwrap();
    assert_eq!(function.name, site.function, "{name}");
    assert_eq!(elf.file_offset(site.address), Some(site.file_offset), "{name}");
    let offset = usize::try_from(site.file_offset).unwrap();
    assert_eq!(target.image[offset..][..site.bytes.len()], site.bytes, "{name}");
    assert!(site.emulated, "{name}: {site:?}");
    assert_eq!(site.task_register, 0, "{name}");
    assert!(site.reason.contains("confirm"), "{name}: {}", site.reason);

    let [casgstatus] = table.find(["runtime.casgstatus"]);
    let called = site.text.split_once(' ').map(|(_, target)| target.to_owned());
    assert_eq!(called, casgstatus.map(|function| format!("{:#x}", function.entry)), "{name}: {}", site.text);
    (site.function.clone(), site.address - function.entry)
}

fn places(target: &Target) -> [Place; 2] {
    let (elf, go) = facts(target);
    let (start, end) = (go.start.as_ref(), go.end.as_ref());
    assert_eq!(start.map(|s| s.action), Some(ProbeAction::Start), "{}", target.name);
    assert_eq!(end.map(|s| s.action), Some(ProbeAction::End), "{}", target.name);
    [start, end].map(|site| place(target, &elf, &go, site.unwrap()))
}

/// What gdestroy is in Go 1.22 and later stood in goexit0 before.
fn end_function(minor: u32) -> &'static str {
    if minor >= 22 { "runtime.gdestroy" } else { "runtime.goexit0" }
}

#[test]
fn the_same_instructions_in_every_flavour() {
    for minor in MINORS {
        let found: Vec<_> = FLAVOURS
            .iter()
            .filter_map(|flavour| target(minor, flavour))
            .map(|t| (places(&t), t.name))
            .collect();
        for (places, name) in &found {
            assert_eq!(places[0].0, "runtime.newproc1", "{name}");
            assert_eq!(places[1].0, end_function(minor), "{name}");
            assert_eq!(*places, found[0].0, "{name} against {}", found[0].1);
        }
    }
}

#[test]
fn arm64() {
    for minor in MINORS {
        let Some(target) = target(minor, "arm64") else { continue };
        let places = places(&target);
        assert_eq!(places[0].0, "runtime.newproc1", "{}", target.name);
        assert_eq!(places[1].0, end_function(minor), "{}", target.name);
    }
}

#[test]
fn how_it_was_built() {
    for minor in MINORS {
        for flavour in FLAVOURS {
            let Some(target) = target(minor, flavour) else { continue };
            let (_, go) = facts(&target);
            let name = &target.name;
            let (stripped, cgo) = (flavour.starts_with("strip"), flavour == "cgo");
            assert_eq!(go.flavour.pie, flavour == "pie", "{name}");
            assert_eq!(go.flavour.cgo, cgo, "{name}");
            assert_eq!(go.flavour.external_link, Some(cgo), "{name}");
            assert_eq!(go.flavour.stripped, stripped, "{name}");
            assert_eq!(go.flavour.no_dwarf, stripped, "{name}");
            assert_eq!(go.flavour.trimpath, Some(flavour == "stripped"), "{name}");
            assert_eq!(go.version.map(|v| u32::from(v.minor)), Some(minor), "{name}");
        }
    }
}
