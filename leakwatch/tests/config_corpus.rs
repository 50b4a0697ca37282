//! The fuzz corpus of files that users write and that container engines keep, on a stable compiler: every input as it is, cut short at each character, and
//! with one byte replaced by each that TOML or the language of conditions gives a meaning.
#![expect(clippy::tests_outside_test_module, reason = "all of it is a test")]

use std::path::Path;

#[path = "../../fuzz/src/config.rs"]
#[expect(unreachable_pub, reason = "the file is part of the fuzz targets elsewhere")]
mod config;

#[path = "../../fuzz/src/kept.rs"]
#[expect(unreachable_pub, reason = "the file is part of the fuzz targets elsewhere")]
mod kept;

fn replay(folder: &str, target: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(folder);
    let mut inputs = 0;
    for entry in std::fs::read_dir(&folder).expect("the corpus") {
        let input = std::fs::read(entry.expect("an entry").path()).expect("an input");
        target(&input);
        // A long one would take long: what its parts do, the short ones tell.
        let step = 1 + input.len() / 400;
        for at in (0..input.len()).step_by(step) {
            target(&input[..at]);
            for byte in *b"[]{}=\"'.,()<>%-/#\n0z\xff" {
                let mut other = input.clone();
                other[at] = byte;
                target(&other);
            }
        }
        inputs += 1;
    }
    assert!(inputs > 2, "{} has {inputs} inputs", folder.display());
}

#[test]
fn rules_are_read_or_refused() {
    replay("rules", config::rules);
}

#[test]
fn databases_are_read_or_refused() {
    replay("bolt", kept::bolt);
}

#[test]
fn profiles_are_read_or_refused() {
    replay("profiles", config::profile);
}
