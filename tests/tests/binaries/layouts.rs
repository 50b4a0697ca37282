//! Runtime layouts: the table that leakwatch ships against the DWARF of every Go version and way to build.

use leakwatch_inspect::go::layout::FIELDS;
use leakwatch_inspect::go::layout::table::Table;
use leakwatch_inspect::go::{Source, dwarf, globals};
use leakwatch_inspect::{Elf, inspect};

use super::targets::{Target, every_version};

fn release(target: &Target) -> (u16, u16) {
    (1, u16::try_from(target.minor).unwrap())
}

#[test]
fn the_table_is_what_dwarf_says() {
    let table = Table::shipped().expect("the table is well-formed");
    for flavour in ["plain", "pie", "cgo", "arm64"] {
        for target in every_version(flavour) {
            let elf = Elf::parse(&target.image).unwrap();
            let offsets = dwarf::offsets(&elf, &target.image)
                .unwrap_or_else(|p| panic!("{}: {}", target.name, p.0))
                .unwrap_or_else(|| panic!("{}: no DWARF", target.name));
            for field in FIELDS {
                let known = table.offset(field.name, release(&target));
                assert_eq!(offsets.get(field.name).copied(), known, "{}: {}", target.name, field.name);
            }
        }
    }
}

#[test]
fn without_dwarf_the_table_answers() {
    for flavour in ["plain", "stripped", "strip", "pie", "cgo", "arm64"] {
        for target in every_version(flavour) {
            let go = inspect(&target.image).unwrap().go.unwrap();
            let layout = go.layout.unwrap_or_else(|| panic!("{}: {:?}", target.name, go.problems));
            let expected = if flavour.starts_with("strip") { Source::Table } else { Source::Dwarf };
            assert_eq!(layout.source, expected, "{}", target.name);
            assert!(layout.heap.is_some(), "{}", target.name);
            assert_eq!(layout.parent_goid.is_some(), target.minor >= 21, "{}", target.name);
            assert_eq!(layout.syscallbp.is_some(), target.minor >= 23, "{}", target.name);
        }
    }
}

#[test]
fn wait_reasons_are_those_in_the_binary() {
    let table = Table::shipped().expect("the table is well-formed");
    for target in every_version("plain") {
        let elf = Elf::parse(&target.image).unwrap();
        let [strings] = elf.symbols(&target.image, ["runtime.waitReasonStrings"]);
        let (address, count) = strings.map(|s| (s.address, usize::try_from(s.size / 16).unwrap())).unwrap();
        let own = globals::read_wait_reasons(&elf, &target.image, address, count);
        assert_eq!(table.wait_reasons(release(&target)), Some(own.as_slice()), "{}", target.name);
    }
    for flavour in ["plain", "stripped", "strip", "pie", "cgo", "arm64"] {
        for target in every_version(flavour) {
            let go = inspect(&target.image).unwrap().go.unwrap();
            assert_eq!(Some(&*go.wait_reasons), table.wait_reasons(release(&target)), "{}", target.name);
        }
    }
}
