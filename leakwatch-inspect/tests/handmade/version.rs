//! Build info in its two forms, and versions without it.

use leakwatch_inspect::go::pclntab::Pclntab;
use leakwatch_inspect::go::version::{find_build_info, guess_version};
use leakwatch_inspect::{Elf, inspect};

use super::image::{Image, USUAL, all};

#[test]
fn inline_build_info() {
    for kind in
        [USUAL, Image { section_headers: false, ..USUAL }, Image { pie: true, zero_words: true, ..USUAL }]
    {
        let image = kind.build();
        let info = find_build_info(&Elf::parse(&image).unwrap(), &image).unwrap();
        assert_eq!(info.version, "go1.27.3");
        assert_eq!(info.main_path.as_deref(), Some("example.com/cmd/leaky"));
        let settings: Vec<_> = info.settings.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(settings, [("-trimpath", "true"), ("-ldflags", "-X \"a=b\"")]);
    }
}

#[test]
fn build_info_by_pointers_tells_an_old_version() {
    let kind = all().into_iter().find(|(name, _)| *name == "go1_16").unwrap().1;
    let image = kind.build();
    let info = find_build_info(&Elf::parse(&image).unwrap(), &image).unwrap();
    assert_eq!((info.version.as_str(), info.main_path), ("go1.17.5", None));
}

#[test]
fn build_info_that_ends_too_early() {
    let image = USUAL.build();
    let at = image.windows(8).position(|w| w == b"go1.27.3").unwrap();
    let mut short = image.clone();
    short[at - 1] = 0xff;
    let elf = Elf::parse(&short).unwrap();
    assert_eq!(find_build_info(&elf, &short), None);
    // A length beyond the file for the settings: the version is still known.
    let mut half = image;
    half[at + 8..at + 12].copy_from_slice(&[0xff, 0xff, 0xff, 0x7f]);
    let info = find_build_info(&elf, &half).unwrap();
    assert_eq!((info.version.as_str(), info.settings.len()), ("go1.27.3", 0));
}

#[test]
fn versions_guessed_from_data() {
    for pie in [false, true] {
        let kind = Image { build_info: None, pie, zero_words: pie, ..USUAL };
        let image = kind.build();
        let elf = Elf::parse(&image).unwrap();
        let table = Pclntab::locate(&elf, &image).unwrap();
        assert_eq!(guess_version(&elf, &image, Some(&table)).map(|v| v.text).as_deref(), Some("go1.26.5"));
        // A table of Go 1.18 was not written by Go 1.26.
        let older = leakwatch_inspect::go::pclntab::PclntabLocation { format: 18, ..table };
        assert_eq!(guess_version(&elf, &image, Some(&older)), None);
    }
}

#[test]
fn build_information_alone_makes_no_go_program() {
    let mut image = USUAL.build();
    assert!(inspect(&image).unwrap().go.is_some());
    // As in a program that has the magic among its data: no version behind it, and no function table.
    // Texts of versions are among its data, too.
    while let Some(at) = image.windows(8).position(|window| window == b"go1.27.3") {
        image[at..at + 8].copy_from_slice(b"no words");
    }
    let magic = image.windows(6).position(|w| w[1..] == [0xff, 0xff, 0xff, 0, 0]).unwrap();
    image[magic] = 0;
    assert!(inspect(&image).unwrap().go.is_none());
}
