//! Function tables of every format, looked up and damaged.

use leakwatch_inspect::Elf;
use leakwatch_inspect::go::pclntab::{Pclntab, PclntabLocation};
use proptest::prelude::*;

use super::corpus::exercise;
use super::image::{Image, NAMES, RODATA, USUAL, all};

fn readable() -> impl Iterator<Item = (&'static str, Image)> {
    all().into_iter().filter(|(_, kind)| kind.format != 2)
}

fn located(kind: &Image) -> (Vec<u8>, PclntabLocation) {
    let image = kind.build();
    let location = Pclntab::locate(&Elf::parse(&image).unwrap(), &image).unwrap();
    (image, location)
}

#[test]
fn every_format_is_located() {
    for (name, kind) in readable() {
        let (_, location) = located(&kind);
        let inlines = kind.moduledata && kind.format != 16;
        assert_eq!(location.address, kind.pclntab_address(), "{name}");
        assert_eq!(location.file.start, RODATA, "{name}");
        assert_eq!((location.format, location.functions), (kind.format, 3), "{name}");
        assert_eq!(location.gofunc, inlines.then(|| kind.gofunc()), "{name}");
        assert_eq!(location.moduledata, kind.moduledata.then(|| kind.moduledata()), "{name}");
        assert_eq!(location.text_end, kind.entries()[3], "{name}");
        if kind.format != 16 {
            assert_eq!(location.text_start, kind.text(), "{name}");
        }
    }
}

#[test]
fn functions_by_name_and_by_pc() {
    for (name, kind) in readable() {
        let (image, location) = located(&kind);
        let table = Pclntab::new(&image, &location).unwrap();
        let [main, worker, exit, end] = kind.entries();
        let all: Vec<_> = table.functions().map(|f| (f.name, f.entry, f.end)).collect();
        let expect = [
            ("main.main", main, worker),
            ("main.worker[go.shape.int]", worker, exit),
            ("runtime.goexit", exit, end),
        ];
        assert_eq!(all, expect, "{name}");
        let found = table.find([
            "runtime.goexit",
            "main.worker",
            "main.leak",
            "main.worker[go.shape.int]",
            "main.main",
        ]);
        let found = found.map(|f| f.map(|f| f.entry));
        assert_eq!(found, [Some(exit), None, None, Some(worker), Some(main)], "{name}");
        let at = |pc| table.function_at(pc).map(|f| f.entry);
        let pcs = [main - 1, main, worker - 1, worker, end - 1, end, u64::MAX];
        assert_eq!(
            pcs.map(at),
            [None, Some(main), Some(main), Some(worker), Some(exit), None, None],
            "{name}"
        );
    }
}

#[test]
fn frames_with_inlined_calls() {
    for (name, kind) in readable() {
        let (image, location) = located(&kind);
        let table = Pclntab::new(&image, &location).unwrap();
        let [main, worker, exit, _] = kind.entries();
        let frames = |pc| -> Vec<String> {
            let text = |f: leakwatch_inspect::go::pclntab::Frame<'_>| {
                format!("{} {}:{} {}", f.function, f.file.unwrap_or("-"), f.line.unwrap_or(0), f.inlined)
            };
            table.frames(pc).into_iter().map(text).collect()
        };
        assert_eq!(frames(main), ["main.main /src/main.go:10 false"], "{name}");
        assert_eq!(table.line_at(main + 0x10), Some(("/src/lib.go", 30)), "{name}");
        assert_eq!(frames(worker + 8), ["main.worker[go.shape.int] /src/main.go:50 false"], "{name}");
        assert_eq!(frames(exit), ["runtime.goexit -:0 false"], "{name}");
        if location.gofunc.is_some() {
            let deep = [
                "main.(*T).deeper /src/lib.go:30 true",
                "main.leak /src/main.go:20 true",
                "main.main /src/main.go:11 false",
            ];
            assert_eq!(frames(main + 0x1f), deep, "{name}");
            assert_eq!(frames(main + 0x2f), deep[1..], "{name}");
        } else {
            assert_eq!(frames(main + 0x10), ["main.main /src/lib.go:30 false"], "{name}");
        }
    }
}

#[test]
fn reasons_why_there_is_no_table() {
    let problem = |image: &[u8]| Pclntab::locate(&Elf::parse(image).unwrap(), image).unwrap_err().0;
    let old = all().into_iter().find(|(name, _)| *name == "go1_12").unwrap().1.build();
    assert!(problem(&old).contains("Go 1.15 or older"));
    let mut none = USUAL.build();
    let at = usize::try_from(RODATA).unwrap();
    none[at] = 0;
    assert!(problem(&none).starts_with("no usable Go function table"));
    // Entries that fall outside of executable memory are not believed.
    let nowhere = Image { moduledata: false, section_headers: false, ..USUAL };
    assert!(problem(&nowhere.build()).starts_with("no usable Go function table"));
}

#[test]
fn without_moduledata_the_symbol_tells_the_text() {
    let kind = Image { moduledata: false, ..USUAL };
    assert_eq!(located(&kind).1.text_start, kind.text());
}

#[test]
fn a_location_of_another_image_is_refused() {
    let (image, location) = located(&USUAL);
    let other = Image { format: 18, ..USUAL }.build();
    assert!(Pclntab::new(&other, &location).is_none());
    assert!(Pclntab::new(&image[..0x400], &location).is_none());
    assert!(Pclntab::new(&[], &location).is_none());
}

#[test]
fn inline_trees_that_go_in_circles_end() {
    let (mut image, location) = located(&USUAL);
    // parentPc of main.leak: into itself.
    let at = usize::try_from(location.gofunc_file.start).unwrap() + 0x10 + 8;
    assert_eq!(image[at], 0x30);
    image[at] = 0x20;
    let table = Pclntab::new(&image, &location).unwrap();
    assert!(table.frames(USUAL.entries()[0] + 0x20).len() <= 129);
}

#[test]
fn names_are_not_cut_out_of_others() {
    let (image, location) = located(&USUAL);
    let table = Pclntab::new(&image, &location).unwrap();
    let part = str::from_utf8(&NAMES[5..9]).unwrap();
    assert_eq!(table.find([part, "", "main.main\0main.leak"]).map(|f| f.is_some()), [false; 3]);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn overwritten_words_never_panic(
        index in 0..12_usize,
        words in prop::collection::vec((any::<prop::sample::Index>(), odd_word()), 1..6),
    ) {
        let mut image = all()[index].1.build();
        for (at, (len, word)) in words {
            let at = at.index(image.len() - 8) / usize::from(len) * usize::from(len);
            image[at..at + usize::from(len)].copy_from_slice(&word.to_le_bytes()[..usize::from(len)]);
        }
        exercise(&image);
    }

    #[test]
    fn tables_of_anything_never_panic(
        choice: u8,
        magic in prop::sample::select(vec![0xf1, 0xf0, 0xfa]),
        body in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        let mut input = vec![choice, magic, 0xff, 0xff, 0xff, 0, 0, if choice & 1 == 0 { 1 } else { 4 }, 8];
        for offset in [3_u64, 2, 0x40_0000, 0x48, 0xa8, 0xb0, 0xd0, 0x110] {
            input.extend(offset.to_le_bytes());
        }
        input.extend(body);
        super::corpus::fuzz::pclntab(&input);
    }
}

/// A width and a number that parsers stumble over.
fn odd_word() -> impl Strategy<Value = (u8, u64)> {
    let numbers = prop_oneof![
        any::<u64>(),
        prop::sample::select(vec![
            0,
            1,
            7,
            8,
            0x7fff_ffff,
            0x8000_0000,
            0xffff_ffff,
            1 << 63,
            u64::MAX,
            u64::MAX - 7
        ]),
        0..0x1000_u64,
    ];
    (prop::sample::select(vec![1, 2, 4, 8]), numbers)
}
