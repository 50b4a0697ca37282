use leakwatch_inspect::ElfKind;

use super::*;
use crate::host::ProcessMemory;

fn ourselves() -> (Process, Image) {
    let process = Process::open(std::process::id()).expect("ourselves");
    let image = Image::of_process(&process).expect("our image");
    (process, image)
}

#[test]
fn our_own_bias() {
    let (process, image) = ourselves();
    assert_eq!(image.inspection().elf.kind, ElfKind::PositionIndependent);
    // The bytes of a function of ours, by its run-time address, are those of the file at the address without bias.
    let code = ourselves as *const () as u64;
    let mut in_memory = [0; 16];
    let memory = ProcessMemory::open(&process).expect("our memory");
    memory.read(code, &mut in_memory).expect("our code");
    let link = code - image.bias();
    let elf = &image.inspection().elf;
    assert_eq!(elf.bytes(image.executable().bytes(), link, 16), Some(in_memory.as_slice()));
    assert!(elf.executable_at(link));
}

#[test]
fn a_program_without_a_runtime_has_the_names_of_its_symbols() {
    let (process, image) = ourselves();
    let memory = ProcessMemory::open(&process).expect("our memory");
    let code = ourselves as *const () as u64;
    let name = image.function_name(code);
    assert!(name.as_ref().is_some_and(|name| name.ends_with("images::tests::ourselves")), "{name:?}");
    assert!(!image.is_system(code));
    assert_eq!(image.check_sites(&memory), [], "there is nothing to probe");
    // The stack is no code: nothing there has a name.
    let local = 0_u64;
    let nowhere = &raw const local as u64;
    assert_eq!(image.function_name(nowhere), None);
    assert_eq!(image.site_name(nowhere), Created::default());
    assert_eq!(image.frames(nowhere), []);
}

#[test]
fn files_that_are_no_programs() {
    let error = Image::of_file(Path::new("/etc/passwd")).expect_err("text");
    assert!(error.to_string().starts_with("cannot inspect /etc/passwd: this is not an ELF file"), "{error}");
    let error = Image::of_file(Path::new("/dev/null")).expect_err("a device");
    assert!(matches!(error, ImageError::Host(HostError::NotAFile { .. })), "{error}");
}
