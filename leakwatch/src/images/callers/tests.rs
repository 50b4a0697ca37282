use std::{
    arch::asm,
    hint::black_box,
    sync::mpsc::{Sender, channel},
};

use super::*;
use crate::host::{Memory as _, Process, ProcessMemory, threads};

fn ourselves() -> (Process, Modules, ProcessMemory) {
    let process = Process::open(std::process::id()).expect("ourselves");
    let modules = Modules::of_process(&process).expect("our modules");
    let memory = ProcessMemory::open(&process).expect("our memory");
    (process, modules, memory)
}

/// Registers of the place of the call, as a kernel would give them.
#[expect(clippy::inline_always, reason = "registers of the caller are wanted")]
#[inline(always)]
fn here() -> UserRegisters {
    let mut user = UserRegisters::default();
    // SAFETY: it reads registers and writes nothing but `user`.
    unsafe {
        asm!(
            "lea {ip}, [rip]", "mov [{into} + 0], {ip}", "mov [{into} + 8], rsp", "mov [{into} + 16], rbp",
            "mov [{into} + 24], rbx", "mov [{into} + 32], r12", "mov [{into} + 40], r13",
            "mov [{into} + 48], r14", "mov [{into} + 56], r15", "mov [{into} + 64], rdi",
            ip = out(reg) _, into = in(reg) &raw mut user, options(nostack),
        );
    }
    user
}

#[inline(never)]
fn outer(depth: u32) -> NativeStack {
    let stack = if depth == 0 { inner() } else { outer(depth - 1) };
    black_box(depth);
    stack
}

#[inline(never)]
fn inner() -> NativeStack {
    let (_, mut modules, memory) = ourselves();
    let registers = here();
    let stack =
        NativeUnwinder::default().unwind(&mut modules, (&registers).into(), |at| memory.read_u64(at).ok());
    black_box(&registers);
    stack
}

fn named(modules: &mut Modules, stack: &NativeStack) -> Vec<String> {
    let names = stack.frames.iter().map(|frame| modules.function_name(frame.pc));
    names.map(Option::unwrap_or_default).collect()
}

#[test]
fn our_own_stack_to_where_the_thread_began() {
    let (_, mut modules, _) = ourselves();
    let stack = outer(3);
    let names = named(&mut modules, &stack);
    let of = |function: &str| names.iter().filter(|name| name.ends_with(function)).count();
    assert_eq!((of("tests::inner"), of("tests::outer")), (1, 4), "{names:#?}");
    assert!(names[0].ends_with("tests::inner"), "{names:#?}");
    assert!(names.iter().any(|name| name.contains("our_own_stack_to_where_the_thread_began")), "{names:#?}");
    assert!(stack.whole, "{names:#?}");
    // Every return address is where the stack says, and further out the further up.
    let places: Vec<u64> = stack.frames.iter().skip(1).map(|frame| frame.at.expect("a place")).collect();
    assert!(places.is_sorted() && places.len() + 1 == names.len());
}

#[inline(never)]
fn waits(tell: &Sender<u32>, stop: &std::sync::Mutex<()>) {
    tell.send(rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned()).expect("sent");
    drop(stop.lock());
    black_box(stop);
}

#[test]
fn a_blocked_thread_by_its_stack_pointer_alone() {
    let (_, mut modules, memory) = ourselves();
    let stop = std::sync::Mutex::new(());
    let held = stop.lock().expect("free");
    std::thread::scope(|scope| {
        let (tell, told) = channel();
        let stop = &stop;
        scope.spawn(move || waits(&tell, stop));
        let tid = told.recv().expect("its id");
        let place = loop {
            // Until it is blocked it has no place to show.
            if let Some(place) = threads::blocked_at(std::process::id(), tid).expect("our own thread") {
                break place;
            }
            std::thread::yield_now();
        };
        let registers = Registers::at(place.pc, place.sp);
        let stack = NativeUnwinder::default().unwind(&mut modules, registers, |at| memory.read_u64(at).ok());
        let names = named(&mut modules, &stack);
        assert!(names.iter().any(|name| name.ends_with("tests::waits")), "{names:#?}");
        drop(held);
    });
}

#[test]
fn nonsense_ends_the_stack() {
    let (_, mut modules, memory) = ourselves();
    let mut unwinder = NativeUnwinder::default();
    let read = |at| memory.read_u64(at).ok();
    for (pc, sp) in [(0, 0), (u64::MAX, u64::MAX), (8, 16), (ourselves as *const () as u64, 8)] {
        let stack = unwinder.unwind(&mut modules, Registers::at(pc, sp), read);
        assert!(stack.frames.len() <= 1, "{pc:#x}: {stack:?}");
    }
    // Memory that leads in circles.
    let code = ourselves as *const () as u64;
    let stack = unwinder.unwind(&mut modules, Registers::at(code, 0x1000), |_| Some(code + 3));
    assert!(stack.frames.len() <= MOST_FRAMES);
}

#[test]
fn call_instructions() {
    let ends = |bytes: &[u8]| {
        let mut all = [0x90; 8];
        all[8 - bytes.len()..].copy_from_slice(bytes);
        ends_with_call(all)
    };
    assert!(ends(&[0xe8, 1, 2, 3, 4]));
    assert!(ends(&[0xff, 0xd0]) && ends(&[0x41, 0xff, 0xd3]) && ends(&[0xff, 0x50, 0x18]));
    assert!(ends(&[0xff, 0x15, 1, 2, 3, 4]) && ends(&[0xff, 0x94, 0x24, 0, 1, 0, 0]));
    assert!(!ends(&[0x90]) && !ends(&[0xe9, 1, 2, 3, 4]) && !ends(&[0xff, 0xe0]));
}

#[test]
fn sizes_of_frames() {
    assert_eq!(frame_size(&[0x55, 0x48, 0x89, 0xe5, 0x48, 0x83, 0xec, 0x20, 0x90]), Some(32));
    let endbr_and_pushes =
        [0xf3, 0x0f, 0x1e, 0xfa, 0x55, 0x48, 0x89, 0xe5, 0x41, 0x54, 0x53, 0x48, 0x81, 0xec, 0, 1, 0, 0];
    assert_eq!(frame_size(&endbr_and_pushes), Some(256 + 16));
    assert_eq!(frame_size(&[0x55, 0x48, 0x89, 0xe5, 0x48, 0x83, 0xc4, 0x80]), Some(128));
    assert_eq!(frame_size(&[0x55, 0x48, 0x89, 0xe5, 0xe8]), Some(0));
    assert_eq!(frame_size(&[0x48, 0x83, 0xec, 0x20]), None);
}
