//! What leakwatch does to the program that it watches and to the kernel: nothing that lasts, however it ends.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use leakwatch_tests::process::{Guard, Lines, eventually};
use leakwatch_tests::{Agent, Target, agent, gate, matrix, need};
use nix::sys::signal::Signal;

use crate::storm::{Raise, while_storming};

/// How long the kernel may take to free what nobody holds any more.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a process has in the kernel, by number.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    programs: BTreeSet<u32>,
    maps: BTreeSet<u32>,
    links: BTreeSet<u32>,
}

impl Held {
    /// What this process holds file descriptors of.
    fn by(pid: u32) -> Self {
        let mut held = Self::default();
        for entry in fs::read_dir(format!("/proc/{pid}/fdinfo")).into_iter().flatten().flatten() {
            // It may have been closed meanwhile.
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            for line in text.lines() {
                let mut words = line.split_whitespace();
                let (Some(name), Some(Ok(id))) = (words.next(), words.next().map(str::parse)) else {
                    continue;
                };
                match name {
                    "prog_id:" => drop(held.programs.insert(id)),
                    "map_id:" => drop(held.maps.insert(id)),
                    "link_id:" => drop(held.links.insert(id)),
                    _ => {}
                }
            }
        }
        held
    }

    /// Those of them that the kernel still has.
    fn left(&self) -> Self {
        Self {
            programs: aya::programs::loaded_programs()
                .flatten()
                .map(|program| program.id())
                .filter(|id| self.programs.contains(id))
                .collect(),
            maps: aya::maps::loaded_maps()
                .flatten()
                .map(|map| map.id())
                .filter(|id| self.maps.contains(id))
                .collect(),
            links: aya::programs::loaded_links()
                .flatten()
                .map(|link| link.id())
                .filter(|id| self.links.contains(id))
                .collect(),
        }
    }
}

/// Bytes of the program's code in memory that are not those of its file, by file offset.
#[track_caller]
pub(crate) fn changed_code(pid: u32) -> Vec<u64> {
    let exe = File::open(format!("/proc/{pid}/exe")).expect("the executable");
    let inode = exe.metadata().expect("its inode").ino().to_string();
    let memory = File::open(format!("/proc/{pid}/mem")).expect("the memory");
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("the maps");
    let mut changed = Vec::new();
    let mut compared = 0;
    for line in maps.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let &[range, permissions, offset, _device, of, ..] = fields.as_slice() else { continue };
        if of != inode || !permissions.contains('x') {
            continue;
        }
        let (from, to) = range.split_once('-').expect("a range");
        let number = |text| u64::from_str_radix(text, 16).expect("a number");
        let (from, to, offset) = (number(from), number(to), number(offset));
        let length = usize::try_from(to - from).expect("a length");
        let (mut now, mut file) = (vec![0; length], vec![0; length]);
        memory.read_exact_at(&mut now, from).expect("the code in memory");
        // The last page of a mapping goes beyond the file's end.
        let read = exe.read_at(&mut file, offset).expect("the code in the file");
        let different = now.iter().zip(&file).take(read).zip(offset..).filter(|((now, file), _)| now != file);
        changed.extend(different.map(|(_, at)| at));
        compared += read;
    }
    assert!(compared > 1 << 16, "the code is there: {maps}");
    changed
}

/// A line of `/proc/PID/status`.
fn status(pid: u32, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.trim_start_matches(':').trim().to_owned()
}

/// What is pinned in the BPF file system.
fn pins() -> Vec<PathBuf> {
    fs::read_dir("/sys/fs/bpf").into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// Panics unless everything is gone: probes, programs, maps, links.
#[track_caller]
pub(crate) fn nothing_is_left(pid: u32, held: &Held, about: &str) {
    assert!(eventually(PATIENCE, || changed_code(pid).is_empty()), "{about}: {:x?}", changed_code(pid));
    let gone = eventually(PATIENCE, || held.left() == Held::default());
    assert!(gone, "{about}: the kernel still has {:?}", held.left());
}

/// What leakwatch has in the kernel while it watches; there is something of each.
#[track_caller]
pub(crate) fn held_while_watching(agent: u32, pid: u32) -> Held {
    let held = Held::by(agent);
    assert!(!held.programs.is_empty() && !held.maps.is_empty() && !held.links.is_empty(), "{held:?}");
    assert_eq!(held.left(), held, "the numbers are the kernel's");
    assert!(changed_code(pid).len() >= 2, "two probes: {:x?}", changed_code(pid));
    held
}

/// A new leakwatch attaches as if there never had been one.
#[track_caller]
fn a_new_one_is_exact(target: &mut Target, about: &str) {
    let before = target.check();
    let agent = Agent::watch(target.pid(), &[]);
    target.command("storm 2000");
    target.command("spawn chan 5");
    let after = target.check();
    let report = agent.interrupt().report();
    report.process(target.pid()).assert_is(&before, &after, about);
}

#[test]
fn killed_while_the_program_storms() {
    for version in [matrix::GO_RELEASES[0], matrix::GO_RELEASES[matrix::GO_RELEASES.len() - 1]] {
        for flavour in ["plain", "pie"] {
            let binary = matrix::go_target(version, flavour);
            need!(gate::live(), gate::file(&binary.path));
            let mut target = Target::start(&binary.path);
            target.command("spawn chan 200");
            let pid = target.pid();
            assert_eq!(changed_code(pid), [0_u64; 0], "{}", binary.name());
            for time in 0..3 {
                let about = format!("{}, kill {time}", binary.name());
                let held = while_storming(&mut target, || {
                    let agent = Agent::watch(pid, &["--stream"]);
                    let held = held_while_watching(agent.pid(), pid);
                    agent.signal(Signal::SIGKILL);
                    assert_eq!(agent.wait().signal(), Some(9), "{about}");
                    held
                });
                nothing_is_left(pid, &held, &about);
                target.check();
            }
            a_new_one_is_exact(&mut target, &format!("{}, after kills", binary.name()));
        }
    }
}

#[test]
fn killed_during_the_attach() {
    let binary = matrix::any_go_target();
    need!(gate::live(), gate::file(&binary.path));
    let mut target = Target::start(&binary.path);
    target.command("spawn chan 20000");
    let pid = target.pid();
    for links in 0..8 {
        let watch = ["watch", "--format", "json", "--pid", &pid.to_string()];
        let agent = Agent::start(watch);
        let mut held = Held::default();
        // As many probes and tracepoints are placed; if it never has so many, then it is attached.
        eventually(Duration::from_secs(2), || {
            held = Held::by(agent.pid());
            held.links.len() >= links
        });
        agent.signal(Signal::SIGKILL);
        assert_eq!(agent.wait().signal(), Some(9));
        nothing_is_left(pid, &held, &format!("killed with {links} links"));
    }
    target.check();
    a_new_one_is_exact(&mut target, "after kills during the attach");
}

#[test]
fn ended_by_a_signal_or_by_an_error() {
    let binary = matrix::any_go_target();
    need!(gate::live(), gate::file(&binary.path));
    let mut target = Target::start(&binary.path);
    target.command("spawn chan 200");
    let pid = target.pid();
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let about = format!("{signal}");
        let held = while_storming(&mut target, || {
            let agent = Agent::watch(pid, &[]);
            let held = held_while_watching(agent.pid(), pid);
            agent.signal(signal);
            agent.wait();
            held
        });
        nothing_is_left(pid, &held, &about);
        target.check();
    }
    // A full disk: the report cannot be written.
    let held = while_storming(&mut target, || {
        let mut command = agent::command(["watch", "--format", "json", "--pid", &pid.to_string()]);
        let full = File::options().write(true).open("/dev/full").expect("a full disk");
        let mut leakwatch =
            Guard::start_as_is(command.stdin(Stdio::null()).stdout(full).stderr(Stdio::piped()));
        let stderr = Lines::of(leakwatch.child().stderr.take().expect("it is piped"));
        let first = stderr.next(PATIENCE).expect("a line");
        assert!(first.contains("watching pid"), "{first}");
        let held = held_while_watching(leakwatch.pid(), pid);
        leakwatch.signal(Signal::SIGINT);
        assert_eq!(leakwatch.wait(PATIENCE).code(), Some(1));
        let said = stderr.rest(Duration::from_secs(1));
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].contains("No space left"), "{said:?}");
        held
    });
    nothing_is_left(pid, &held, "an error");
    target.check();
    a_new_one_is_exact(&mut target, "after all that");
}

#[test]
fn the_program_is_never_stopped_and_does_not_grow() {
    let binary = matrix::any_go_target();
    need!(gate::live(), gate::file(&binary.path));
    let mut target = Target::start(&binary.path);
    target.command("spawn chan 20000");
    target.command("storm 20000 2");
    target.command("gcstorm 500");
    let pid = target.pid();
    let kilobytes = |text: String| -> u64 {
        text.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a size")
    };
    let before = kilobytes(status(pid, "VmHWM"));
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let looks = scope.spawn(|| {
            let mut looks = 0_u64;
            while !over.load(Ordering::Relaxed) {
                assert_eq!(status(pid, "TracerPid"), "0", "nobody traces it");
                let state = status(pid, "State");
                assert!(!state.starts_with(['t', 'T']), "it is stopped: {state}");
                looks += 1;
            }
            looks
        });
        let _end = Raise(&over);
        let agent = Agent::watch(pid, &["--stacks", "--interval", "100ms"]);
        for _ in 0..5 {
            target.command("storm 50000 2");
            target.command("gcstorm 300");
        }
        let report = agent.interrupt().report();
        assert_eq!(report.process(pid).lost_events(), 0);
        over.store(true, Ordering::Relaxed);
        assert!(looks.join().expect("nothing seen") > 100, "it was looked at often");
    });
    let after = kilobytes(status(pid, "VmHWM"));
    // The program allocates on its own account; reading it takes nothing of its memory.
    assert!(after < before + before / 2 + (32 << 10), "from {before} to {after} kB");
    target.check();
}

#[test]
fn what_leakwatch_leaves_on_the_machine() {
    let binary = matrix::any_go_target();
    need!(gate::live(), gate::file(&binary.path));
    // Entries of uprobes that were made through tracefs, which is the way that can stay behind.
    let entries = || fs::read_to_string("/sys/kernel/tracing/uprobe_events").unwrap_or_default();
    let mounts = || fs::read_to_string("/proc/self/mounts").expect("the mounts");
    let (entries_before, mounts_before, pins_before) = (entries(), mounts(), pins());
    let mut target = Target::start(&binary.path);
    let agent = Agent::watch(target.pid(), &[]);
    assert_eq!(entries(), entries_before);
    target.command("storm 100");
    agent.signal(Signal::SIGKILL);
    agent.wait();
    assert_eq!(entries(), entries_before);
    assert_eq!(mounts(), mounts_before);
    assert_eq!(pins(), pins_before);
}
