//! Makes a linked object fit to be kept: no DWARF, no path of the machine that built it.
//!
//! Works on bytes only; BTF (`.BTF`, `.BTF.ext`) and everything that the kernel reads stays as it was.

use anyhow::{Context, Result, bail};

/// The object without its DWARF sections.
pub(super) fn without_dwarf(object: &[u8]) -> Result<Vec<u8>> {
    let mut builder =
        object::build::elf::Builder::read(object).context("failed to read the linked object as ELF")?;
    for section in &mut builder.sections {
        if section.name.as_slice().starts_with(b".debug_")
            || section.name.as_slice().starts_with(b".rel.debug_")
        {
            section.delete = true;
        }
    }
    builder.delete_orphans();
    // LLVM keeps section names and symbol names in one section, which the writer cannot do.
    let names = builder.sections.add();
    names.name = b".shstrtab"[..].into();
    names.sh_type = object::elf::SHT_STRTAB;
    names.sh_addralign = 1;
    names.data = object::build::elf::SectionData::SectionString;
    let mut stripped = Vec::new();
    builder.write(&mut stripped).context("failed to write the stripped object")?;
    Ok(stripped)
}

/// Fails when the object names one of this machine's `folders`: what a machine is called is nobody else's
/// business, and the object would differ between machines.
pub(super) fn refuse_paths(object: &[u8], folders: &[String]) -> Result<()> {
    for folder in folders.iter().filter(|folder| folder.len() > 1) {
        if let Some(at) = object.windows(folder.len()).position(|window| window == folder.as_bytes()) {
            let rest = object.get(at..).unwrap_or_default();
            let text: Vec<u8> = rest.iter().copied().take_while(u8::is_ascii_graphic).take(120).collect();
            bail!(
                "the eBPF object contains a path of this machine, {:?}: extend the --remap-path-prefix list in \
                 xtask/src/ebpf.rs",
                String::from_utf8_lossy(&text)
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_found_and_named() {
        let folders = ["/srv/build".to_owned(), String::new()];
        refuse_paths(b"leakwatch-ebpf/src/main.rs", &folders).expect("a relative path is fine");
        let error = refuse_paths(b"xx\0/srv/build/a.rs\0yy", &folders).expect_err("a machine path");
        assert!(error.to_string().contains("\"/srv/build/a.rs\""), "{error}");
    }

    #[test]
    fn what_is_no_elf_is_an_error() {
        without_dwarf(b"\x7fELF nonsense").expect_err("not an object");
    }
}
