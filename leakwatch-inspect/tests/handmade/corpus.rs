//! The fuzz corpus on a stable compiler: every input as it is, cut short and with flipped bytes.
//!
//! The corpus is made of the handmade files and of inputs that once broke something (`crash-*`). After a change to
//! the handmade ones run this test with `LEAKWATCH_BLESS=1`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::image::{USUAL, all};
use super::{runtime, tokio};

#[path = "../../../fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "the file is a crate of its own elsewhere")]
pub(super) mod fuzz;

type Target = fn(&[u8]);
const TARGETS: [(&str, Target); 8] = [
    ("elf", fuzz::elf),
    ("pclntab", fuzz::pclntab),
    ("version", fuzz::version),
    ("inspect", fuzz::inspect),
    ("tokio", fuzz::tokio),
    ("functions", fuzz::functions),
    ("lines", fuzz::lines),
    ("btf", fuzz::btf),
];

/// All targets that take a whole file.
pub(super) fn exercise(image: &[u8]) {
    fuzz::elf(image);
    fuzz::version(image);
    fuzz::inspect(image);
}

fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target)
}

/// What the corpus begins with, by target and name.
fn seeds() -> BTreeMap<(&'static str, String), Vec<u8>> {
    let mut seeds = BTreeMap::new();
    for (name, kind) in all() {
        let image = kind.build();
        let mut table = vec![0xc0 | u8::from(kind.arch == leakwatch_inspect::elf::Arch::Aarch64)];
        table.extend(kind.pclntab());
        seeds.insert(("pclntab", format!("handmade-{name}")), table);
        seeds.insert(("elf", format!("handmade-{name}")), image);
    }
    for kind in runtime::KINDS {
        seeds.insert(("inspect", format!("handmade-{kind:?}")), runtime::build(kind, false));
        seeds.insert(("inspect", format!("handmade-{kind:?}-dwarf")), runtime::build(kind, true));
        seeds.insert(("functions", format!("handmade-{kind:?}")), runtime::build(kind, false));
    }
    for form in tokio::FORMS {
        seeds.insert(("tokio", format!("handmade-{form:?}")), tokio::build(form));
    }
    for (name, form, table) in [
        ("python-3.9", 0, &[6, 1, 44, 0xfe, 2, 0x7f][..]),
        ("python-3.10", 1, &[6, 0, 44, 1, 4, 0x80, 2, 2]),
        ("python-3.11", 2, &[0xf8, 0xd9, 2, 3, 0xf0, 4, 1, 1, 1, 0xe8, 3, 0x80, 0x10]),
        ("java", 0, &[3, 34, 0xff, 2, 1, 0]),
        ("java-scopes", 0, &[0, 0, 7, 11, 1, 3, 0]),
    ] {
        seeds.insert(("lines", name.to_owned()), [&[form, 10, 4, 0], table].concat());
    }
    seeds.insert(("btf", "handmade".to_owned()), type_information());
    let usual = USUAL.build();
    for cut in [3, 5, 40, 64, 100, 0x208, 0x340, 0x820, 0xd40] {
        seeds.insert(("elf", format!("truncated-{cut:04x}")), usual[..cut].to_vec());
    }
    for (name, at, value) in [
        ("program-headers-outside", 32, u64::MAX),
        ("sections-outside", 40, u64::MAX - 64),
        ("segment-wraps", 64 + 16, u64::MAX - 8),
        ("segment-endless", 64 + 40, u64::MAX),
        ("functions-endless", 0x308, u64::MAX / 8),
        ("functions-many", 0x308, 0x4000_0000),
        ("names-outside", 0x300 + 32, u64::MAX),
        ("ftab-outside", 0x300 + 64, u64::MAX - 16),
    ] {
        let mut hostile = usual.clone();
        hostile[at..at + 8].copy_from_slice(&value.to_le_bytes());
        seeds.insert(("elf", format!("hostile-{name}")), hostile);
    }
    for text in
        ["go1.26.3 X:foo", "go1.23rc1", "devel go1.27-abcdef Mon Jan 5 10:00:00 2026 +0000", "go1.99999"]
    {
        let name: String = text.chars().take(12).map(|c| if c.is_alphanumeric() { c } else { '_' }).collect();
        seeds.insert(("version", format!("text-{name}")), text.as_bytes().to_vec());
    }
    for name in ["no_build_info", "go1_16"] {
        let kind = all().into_iter().find(|(n, _)| *n == name).unwrap().1;
        seeds.insert(("version", format!("handmade-{name}")), kind.build());
    }
    seeds
}

/// `struct inner { u64 a; u64 fsbase; }` and `struct task { u64; struct inner thread; }`, as a kernel tells of its own.
fn type_information() -> Vec<u8> {
    const STRINGS: &[u8] = b"\0task\0thread\0fsbase\0inner\0";
    const STRUCT: u32 = 4 << 24;
    let types = [0, 1 << 24, 8, 64]
        .into_iter()
        .chain([20, STRUCT | 2, 16, 0, 1, 0, 13, 1, 64])
        .chain([1, 1 << 31 | STRUCT | 2, 24, 0, 1, 0, 6, 2, 64])
        .flat_map(u32::to_le_bytes)
        .collect::<Vec<u8>>();
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap();
    let head = [0x0001_eb9f, 24, 0, length(&types), length(&types), length(STRINGS)];
    head.into_iter().flat_map(u32::to_le_bytes).chain(types).chain(STRINGS.iter().copied()).collect()
}

#[test]
fn the_corpus_holds_the_handmade_files() {
    let bless = std::env::var_os("LEAKWATCH_BLESS").is_some();
    for ((target, name), bytes) in seeds() {
        let path = folder(target).join(&name);
        if bless {
            std::fs::create_dir_all(folder(target)).unwrap();
            std::fs::write(&path, &bytes).unwrap();
        }
        let kept = std::fs::read(&path).unwrap_or_default();
        assert!(kept == bytes, "fuzz/corpus/{target}/{name} is stale: run this test with LEAKWATCH_BLESS=1");
    }
}

#[test]
fn every_input_as_it_is_cut_and_flipped() {
    for (target, run) in TARGETS {
        let mut inputs: Vec<PathBuf> =
            std::fs::read_dir(folder(target)).unwrap().map(|e| e.unwrap().path()).collect();
        inputs.sort();
        assert!(!inputs.is_empty(), "no corpus for {target}");
        for path in inputs {
            let bytes = std::fs::read(&path).unwrap();
            run(&bytes);
            let stride = (bytes.len() / 48).max(1);
            for at in (0..bytes.len()).step_by(stride) {
                run(&bytes[..at]);
                let mut flipped = bytes.clone();
                flipped[at] ^= 0xff;
                run(&flipped);
                flipped[at] = bytes[at] ^ (1 << (at % 8));
                run(&flipped);
            }
        }
    }
}
