//! Globals read out of code against the symbols of the same binary, which is the proof for stripped ones.

use leakwatch_inspect::Elf;
use leakwatch_inspect::go::globals::{from_code, from_symbols};
use leakwatch_inspect::go::pclntab::Pclntab;
use leakwatch_inspect::go::{Global, GoGlobals};

use super::targets::{MINORS, Target, every_version, target};

/// Addresses by name.
fn addresses(globals: GoGlobals) -> [(&'static str, Option<u64>); 9] {
    let GoGlobals {
        allgs,
        allglen,
        allgptr,
        sched,
        wait_reason_strings,
        firstmoduledata,
        mheap,
        semtable,
        allp,
    } = globals;
    let at = |global: Option<Global>| global.map(|global| global.address);
    [
        ("allgs", at(allgs)),
        ("allglen", at(allglen)),
        ("allgptr", at(allgptr)),
        ("sched", at(sched)),
        ("waitReasonStrings", at(wait_reason_strings)),
        ("firstmoduledata", at(firstmoduledata)),
        ("mheap_", at(mheap)),
        ("semtable", at(semtable)),
        ("allp", at(allp)),
    ]
}

fn by_symbols(target: &Target) -> [(&'static str, Option<u64>); 9] {
    addresses(from_symbols(&Elf::parse(&target.image).unwrap(), &target.image))
}

fn by_code(target: &Target) -> [(&'static str, Option<u64>); 9] {
    let elf = Elf::parse(&target.image).unwrap();
    let location =
        Pclntab::locate(&elf, &target.image).unwrap_or_else(|p| panic!("{}: {}", target.name, p.0));
    addresses(from_code(&elf, &target.image, &location))
}

fn all_found(target: &Target, globals: &[(&'static str, Option<u64>); 9]) {
    for (name, address) in globals {
        assert!(address.is_some(), "{}: runtime.{name} was not found", target.name);
    }
}

#[test]
fn code_says_what_symbols_say() {
    for flavour in ["plain", "pie", "cgo", "arm64"] {
        for target in every_version(flavour) {
            let symbols = by_symbols(&target);
            all_found(&target, &symbols);
            assert_eq!(by_code(&target), symbols, "{}", target.name);
        }
    }
}

#[test]
fn stripped_binaries_have_the_globals_of_their_unstripped_twins() {
    for minor in MINORS {
        if let (Some(plain), Some(strip)) = (target(minor, "plain"), target(minor, "strip")) {
            assert!(by_symbols(&strip).iter().all(|(_, address)| address.is_none()), "{}", strip.name);
            assert_eq!(by_code(&strip), by_symbols(&plain), "{}", strip.name);
        }
        if let Some(stripped) = target(minor, "stripped") {
            all_found(&stripped, &by_code(&stripped));
        }
    }
}
