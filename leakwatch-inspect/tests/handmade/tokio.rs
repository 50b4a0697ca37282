//! Files with as much of tokio in them as it takes: vtables of two types, code that makes their tasks and completes them.

use leakwatch_inspect::tokio_rt::{FactsAt, TaskKind, VtableForm};
use leakwatch_inspect::{ProbeSite, inspect};

const BASE: u64 = 0x40_0000;
const TEXT: u64 = BASE + 0x200;
const DATA: u64 = BASE + 0x1000;
/// Where things are in the data: the vtables, a Location and its file, the version's file, the unwind tables.
const VTABLES: [u64; 2] = [DATA, DATA + 0x80];
const LOCATION: u64 = DATA + 0x100;
const FILES: u64 = DATA + 0x140;
const FRAMES: u64 = DATA + 0x200;
/// Bytes of a function.
const FUNCTION: u64 = 0x40;
/// Offset of the trailer in a task, and its size.
const TRAILER: u64 = 0x60;
const SIZE: u32 = 0x80;

/// The forms that vtables have had.
pub(super) const FORMS: [VtableForm; 3] = [VtableForm::Plain, VtableForm::Trailer, VtableForm::Offsets];

/// The functions in the file, in the order of their addresses.
#[derive(Clone, Copy)]
enum Function {
    /// Does nothing.
    Empty,
    /// Calls what completes a task.
    Shutdown,
    /// Panics in the file of the scheduler of blocking jobs.
    NeverScheduled,
    /// Makes tasks of the first type, of the second.
    Make(usize),
    Complete,
    Allocate,
}

const FUNCTIONS: [Function; 7] = [
    Function::Empty,
    Function::Shutdown,
    Function::NeverScheduled,
    Function::Make(0),
    Function::Make(1),
    Function::Complete,
    Function::Allocate,
];

fn address(index: u64) -> u64 {
    TEXT + index * FUNCTION
}

fn words(numbers: &[u64]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

fn low(address: u64) -> [u8; 4] {
    u32::try_from(address).unwrap().to_le_bytes()
}

/// `call` of a function from an instruction.
fn call(from: u64, to: u64) -> Vec<u8> {
    let displacement = i32::try_from(to.cast_signed() - (from + 5).cast_signed()).unwrap();
    [&[0xe8], &displacement.to_le_bytes()[..]].concat()
}

fn code(form: VtableForm, function: Function, at: u64) -> Vec<u8> {
    match function {
        Function::Empty | Function::Allocate => vec![0xc3],
        Function::Shutdown => [call(at, address(5)), vec![0xc3]].concat(),
        // mov edi, LOCATION; ud2
        Function::NeverScheduled => [&[0xbf], &low(LOCATION)[..], &[0x0f, 0x0b]].concat(),
        Function::Make(which) => {
            let offset = u8::try_from(form.vtable_offset()).unwrap();
            // mov qword [rsp + offset], VTABLE; mov edi, SIZE; mov esi, 128
            let mut code = [&[0x48, 0xc7, 0x44, 0x24, offset], &low(VTABLES[which])[..]].concat();
            code.extend([&[0xbf], &SIZE.to_le_bytes()[..], &[0xbe, 0x80, 0, 0, 0]].concat());
            code.extend(call(at + code.len() as u64, address(6)));
            // test rax, rax; je +1; ret; ud2
            code.extend([0x48, 0x85, 0xc0, 0x74, 1, 0xc3, 0x0f, 0x0b]);
            code
        }
        // push rax; mov rax, [rdi]; mov rcx, rax; xor rcx, 3; lock cmpxchg [rdi], rcx; jne -14; test al, 1; je +0; ret
        Function::Complete => vec![
            0x50, 0x48, 0x8b, 0x07, 0x48, 0x89, 0xc1, 0x48, 0x83, 0xf1, 0x03, 0xf0, 0x48, 0x0f, 0xb1, 0x0f,
            0x75, 0xf2, 0xa8, 1, 0x74, 0, 0xc3,
        ],
    }
}

/// A vtable: of futures, or of blocking jobs.
fn vtable(form: VtableForm, blocking: bool) -> Vec<u8> {
    let (count, schedule, offsets): (_, _, &[u64]) = match form {
        VtableForm::Plain => (8, 6, &[]),
        VtableForm::Trailer => (8, 6, &[TRAILER]),
        VtableForm::Offsets => (7, 1, &[TRAILER, 32, 40]),
    };
    let mut functions = vec![address(0); count];
    functions[count - 1] = address(1);
    if blocking {
        functions[schedule] = address(2);
    }
    [words(&functions), words(offsets)].concat()
}

/// Unwind tables that bound the functions.
fn frames() -> Vec<u8> {
    // CIE: length, 0, version 1, no augmentation, code 1, data -8, return address in 16.
    let mut out = [&12_u32.to_le_bytes()[..], &[0; 4], &[1, 0, 1, 0x78, 16, 0, 0, 0]].concat();
    for index in 0..FUNCTIONS.len() as u64 {
        let back = u32::try_from(out.len() + 4).unwrap();
        out.extend(20_u32.to_le_bytes());
        out.extend(back.to_le_bytes());
        let function = code(VtableForm::Offsets, FUNCTIONS[usize::try_from(index).unwrap()], address(index));
        out.extend(words(&[address(index), function.len() as u64]));
    }
    out.extend([0; 4]);
    out
}

/// The file.
pub(super) fn build(form: VtableForm) -> Vec<u8> {
    let version = match form {
        VtableForm::Plain => "1.20.6",
        VtableForm::Trailer => "1.21.2",
        VtableForm::Offsets => "1.54.1",
    };
    let mut out = vec![0; 0x2000];
    let mut put = |address: u64, bytes: &[u8]| {
        let at = usize::try_from(address - BASE).unwrap();
        out[at..at + bytes.len()].copy_from_slice(bytes);
    };
    for (index, function) in (0..).zip(FUNCTIONS) {
        put(address(index), &code(form, function, address(index)));
    }
    put(VTABLES[0], &vtable(form, false));
    put(VTABLES[1], &vtable(form, true));
    let file = format!("/x/tokio-{version}/src/runtime/blocking/schedule.rs");
    put(LOCATION, &words(&[FILES, file.len() as u64, 9 << 32 | 0x11]));
    put(FILES, file.as_bytes());
    let frames = frames();
    put(FRAMES, &frames);
    let names = b"\0.text\0.eh_frame\0.shstrtab\0";
    let names_at = out.len();
    out.extend(names);
    let headers = out.len();
    let section = |name: &str, kind: u32, address: u64, offset: u64, size: usize| {
        let at = names.windows(name.len()).position(|window| window == name.as_bytes()).unwrap();
        let flags = if address == 0 { 0 } else { 2 };
        let numbers = words(&[flags, address, offset, size as u64, 0, 1, 0]);
        [&u32::try_from(at).unwrap().to_le_bytes()[..], &kind.to_le_bytes(), &numbers].concat()
    };
    let text = usize::try_from(FUNCTION).unwrap() * FUNCTIONS.len();
    for header in [
        vec![0; 64],
        section(".text", 1, TEXT, TEXT - BASE, text),
        section(".eh_frame", 1, FRAMES, FRAMES - BASE, frames.len()),
        section(".shstrtab", 3, 0, names_at as u64, names.len()),
    ] {
        out.extend(header);
    }
    let mut header = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0".to_vec();
    header.extend(words(&[TEXT, 64, headers as u64]));
    header.extend([0, 0, 0, 0, 64, 0, 56, 0, 2, 0, 64, 0, 4, 0, 3, 0]);
    for (flags, address) in [(5_u64, BASE), (6, DATA)] {
        header.extend(words(&[1 | flags << 32, address - BASE, address, address, 0x1000, 0x1000, 0x1000]));
    }
    out[..header.len()].copy_from_slice(&header);
    out
}

#[test]
fn every_form_is_found_with_its_makers_and_ends() {
    for form in FORMS {
        let image = build(form);
        let found = inspect(&image).unwrap().tokio;
        let [tokio] = &found[..] else { panic!("{form:?}: {found:#x?}") };
        assert_eq!(tokio.form, form);
        let types: Vec<_> = tokio.types.iter().map(|task| (task.vtable, task.kind)).collect();
        let expected = [(VTABLES[0], Some(TaskKind::Async)), (VTABLES[1], Some(TaskKind::Blocking))];
        assert_eq!(types, expected, "{form:?}");
        assert!(tokio.types.iter().all(|task| !task.worker_loop), "{form:?}");
        assert_eq!(tokio.problems, [], "{form:?}");
        let at = |site: &ProbeSite| (site.address, site.bytes.clone(), site.task_register, site.emulated);
        // The branch behind the allocation, with the task in rax; its vtable is still in the frame.
        let starts: Vec<_> = tokio.starts.iter().map(|start| at(&start.site)).collect();
        assert_eq!(starts, [3, 4].map(|index| (address(index) + 27, vec![0x74, 1], 0, true)), "{form:?}");
        let facts = FactsAt::Register { register: 4, offset: form.vtable_offset().cast_signed() };
        assert!(tokio.starts.iter().all(|start| start.facts == facts), "{form:?}");
        // The branch behind the loop, with the task in rdi.
        assert_eq!(
            tokio.ends.iter().map(at).collect::<Vec<_>>(),
            [(address(5) + 20, vec![0x74, 0], 7, true)]
        );
    }
}

#[test]
fn without_its_end_or_its_maker_it_is_no_tokio_that_can_be_counted() {
    let mut image = build(VtableForm::Offsets);
    // The state is not asked for behind the loop.
    let test = usize::try_from(address(5) - BASE).unwrap() + 19;
    image[test] = 0x40;
    let found = inspect(&image).unwrap().tokio;
    assert!(found.iter().all(|tokio| tokio.ends.is_empty() && !tokio.problems.is_empty()), "{found:#x?}");
    let mut image = build(VtableForm::Plain);
    let make = usize::try_from(address(3) - BASE).unwrap();
    image[make..make + 0x80].fill(0x90);
    assert!(inspect(&image).unwrap().tokio.is_empty(), "a table that nobody uses is none");
}
