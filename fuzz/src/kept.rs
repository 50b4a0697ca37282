//! What the fuzz targets do with files that others keep. Uses nothing but leakwatch's public API, so that its stable tests can
//! include this file and replay the corpus (`leakwatch/tests/config_corpus.rs`).

use std::io;

use leakwatch::host::engines::bolt::{self, BoltError};

/// The bytes as a database of containerd: as they are, and as what is behind two metas that are whole.
pub fn bolt(input: &[u8]) {
    let whole = [&metas()[..], input].concat();
    for file in [input, &whole] {
        for path in [&["v1", "k8s.io", "containers", "0123", "image"][..], &["v1"], &[]] {
            match bolt::get(|into, at| read(file, into, at), path) {
                Ok(Some(value)) => assert!(value.len() <= file.len()),
                Ok(None) | Err(BoltError::Read(_) | BoltError::Damaged(_)) => {}
                Err(error) => panic!("nobody writes it: {error}"),
            }
        }
    }
}

fn read(file: &[u8], into: &mut [u8], at: u64) -> io::Result<()> {
    let bytes = usize::try_from(at).ok().and_then(|at| file.get(at..)?.get(..into.len()));
    into.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
    Ok(())
}

/// Pages 0 and 1 of a database whose root is page 2.
fn metas() -> Vec<u8> {
    let mut pages = vec![0; 2 * 4096];
    for (number, transaction) in [0_u64, 1].into_iter().enumerate() {
        let mut meta = Vec::new();
        for half in [0xED0C_DAED_u32, 2, 4096, 0] {
            meta.extend(half.to_le_bytes());
        }
        for word in [2, 0, 0, 3, transaction] {
            meta.extend(word.to_le_bytes());
        }
        // FNV-1a.
        let sum = meta.iter().fold(0xcbf2_9ce4_8422_2325_u64, |sum, &byte| {
            (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        meta.extend(sum.to_le_bytes());
        let at = number * 4096 + 16;
        pages[at..at + meta.len()].copy_from_slice(&meta);
    }
    pages
}
