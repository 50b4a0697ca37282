//! Programs that somebody hostile controls, beside one that is honest: the agent stays up, the honest one's figures stay exact,
//! and what the agent prints is clean.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use leakwatch_tests::process::Guard;
use leakwatch_tests::{HostAgent, Server, Target, gate, matrix, need};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use object::{Object as _, ObjectSymbol as _};

use crate::folder::Folder;

/// An executable of these bytes.
fn executable(folder: &Folder, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, bytes).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("set");
    path
}

/// A configuration that watches what runs from a folder, whatever it calls itself, once a second, with probes where they are
/// due, and with alerts about all of it.
fn config(folder: &Folder) -> String {
    format!(
        "[sampling]\ninterval = \"1s\"\ncpu_percent = 50\n[promote]\ngrowth_per_min = 1\n\
         [discover]\ninclude = [{{ exe = \"(?s){}/.*\" }}]\nrescan = \"1s\"\n\
         [[rule]]\nname = \"any\"\nwhen = \"tasks.live > 1\"\n\
         [[rule]]\nname = \"each-site\"\nper = \"site\"\nwhen = \"live > 1\"\n",
        folder.path().display()
    )
}

/// Bytes that are the same in each run and follow no pattern.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let word = self.next().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }
}

/// The honest program is watched, and its figures are what it knows.
#[track_caller]
fn assert_honest(host: &HostAgent, honest: &mut Target) {
    honest.command("spawn chan 3");
    honest.command("finish chan 1");
    let truth = honest.check();
    host.wait_live(honest.pid(), truth.num_goroutine);
    let functions = host.report(honest.pid()).expect("watched").process(honest.pid()).by_function();
    for (function, truth) in &truth.sites {
        assert_eq!(functions.get(function).map_or(0, |counts| counts.live), truth.live, "{function}");
    }
}

/// Whatever the programs call themselves, nothing of it can end a line, move a cursor or close a tag where it is printed.
#[track_caller]
fn assert_clean(host: &HostAgent) {
    let metrics = host.get("/metrics", &[]);
    assert_eq!(metrics.status, 200);
    for line in metrics.body.lines() {
        assert!(line.starts_with(['#', 'l', 'p']), "a name has begun a line of its own: {line:?}");
        assert!(line.chars().all(|c| !c.is_control()), "{line:?}");
    }
    for path in ["/api/v1/report", "/api/v1/processes", "/api/v1/alerts"] {
        let answer = host.get(path, &[]);
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.body.chars().all(|c| c == '\n' || !c.is_control()), "{path} has control characters");
        drop(serde_json::from_str::<serde_json::Value>(&answer.body).expect(path));
    }
}

/// What `promtool` thinks of the metrics.
#[track_caller]
fn assert_promtool_takes_them(host: &HostAgent, folder: &Folder) {
    let path = folder.path().join("metrics.txt");
    fs::write(&path, host.get("/metrics", &[]).body).expect("written");
    let program = matrix::third_party("promtool").expect("the gate has looked");
    let input = fs::File::open(&path).expect("just written");
    let output =
        Command::new(program).args(["check", "metrics"]).stdin(input).output().expect("promtool runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains("error while linting") && !said.contains("parse"), "{said}");
}

/// Ends as it is told to, and what it logged has no character that a terminal acts on.
#[track_caller]
fn assert_ends_well(host: HostAgent) {
    let outcome = host.terminate();
    assert_eq!(outcome.code(), Some(0), "{}", outcome.stderr);
    let odd = outcome.stderr.lines().find(|line| line.chars().any(char::is_control));
    assert_eq!(odd, None, "the log has control characters");
}

fn newest() -> PathBuf {
    matrix::any_go_target().path
}

/// A name with everything that a terminal, a page, a log or a metric may trip over.
const NAME: &str = "a\u{1b}[2J\n<b>\"}\\";

#[test]
fn names_with_newlines_escape_codes_and_tags_stay_names() {
    need!(gate::live(), gate::file(&newest()), gate::third_party("promtool"));
    let folder = Folder::new("names");
    let program = fs::read(newest()).expect("the target");
    let honest = executable(&folder, "honest", &program);
    // Its functions are called so, too: their names are a table that the runtime does not check.
    let mut renamed = program;
    let (old, new) = (b"main.leakChan".as_slice(), b"\x1bM\n<b>\"}\\\xff\x07xx".as_slice());
    assert_eq!(old.len(), new.len(), "a name of another length");
    let mut at = 0;
    let mut names = 0;
    while let Some(found) = find(&renamed[at..], old) {
        renamed[at + found..at + found + new.len()].copy_from_slice(new);
        at += found + old.len();
        names += 1;
    }
    assert!(names > 0, "the names are somewhere else");
    let hostile = executable(&folder, NAME, &renamed);
    let mut honest = Target::start(&honest);
    // It is not asked what it knows: it does not understand its own stacks any more.
    let mut hostile = Guard::start(&mut Command::new(hostile));
    hostile.child().stdin.as_mut().expect("it is piped").write_all(b"spawn chan 30\n").expect("it reads");
    let host = HostAgent::start("names", &config(&folder));
    host.wait_live(hostile.pid(), 31);
    assert_honest(&host, &mut honest);
    host.wait_until("an alert of it", |host| {
        let alerts = host.get("/api/v1/alerts", &[]).body;
        alerts.contains("each-site") && alerts.contains(&hostile.pid().to_string())
    });
    assert_clean(&host);
    assert_promtool_takes_them(&host, &folder);
    drop(hostile);
    assert_honest(&host, &mut honest);
    assert_ends_well(host);
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// Where an ELF file says that its section headers are, what each is and how large, is for tools: the kernel runs it without.
const SECTION_OFFSET: usize = 0x28;

#[test]
fn executables_whose_tables_are_garbage_cost_nobody_else() {
    need!(gate::live(), gate::file(&newest()));
    let folder = Folder::new("elf");
    let program = fs::read(newest()).expect("the target");
    let honest = executable(&folder, "honest", &program);
    let mut honest = Target::start(&honest);
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    let mut hostile = Vec::new();
    let headers =
        u64::from_le_bytes(program[SECTION_OFFSET..SECTION_OFFSET + 8].try_into().expect("8 bytes"));
    let headers = usize::try_from(headers).expect("in the file");
    let elf = object::File::parse(&*program).expect("an ELF file");
    let notes: Vec<(usize, usize)> =
        [".note.go.buildid", ".go.buildinfo", ".symtab", ".strtab", ".debug_info"]
            .into_iter()
            .filter_map(|name| {
                let range = object::ObjectSection::file_range(&elf.section_by_name(name)?)?;
                Some((usize::try_from(range.0).ok()?, usize::try_from(range.1).ok()?))
            })
            .collect();
    assert!(notes.len() >= 3, "{notes:?}");
    // Section headers of noise, of the largest numbers, beyond the file's end; tables of noise and of the largest numbers.
    let mut variants = Vec::new();
    for fill in [None, Some(0xff), Some(0)] {
        let spoil = |noise: &mut Noise, bytes: &mut [u8]| match fill {
            None => noise.fill(bytes),
            Some(byte) => bytes.fill(byte),
        };
        let mut one = program.clone();
        spoil(&mut noise, &mut one[headers..]);
        variants.push(one);
        let mut one = program.clone();
        for &(start, length) in &notes {
            spoil(&mut noise, &mut one[start..start + length]);
        }
        variants.push(one);
    }
    let mut one = program.clone();
    one[SECTION_OFFSET..SECTION_OFFSET + 8].fill(0xff);
    variants.push(one);
    let mut one = program.clone();
    one[0x3a..0x40].fill(0xff);
    variants.push(one);
    for (number, bytes) in variants.iter().enumerate() {
        let path = executable(&folder, &format!("hostile-{number}"), bytes);
        // Some do not get far; those are processes that end.
        hostile.push(Guard::start(&mut Command::new(path)));
    }
    let host = HostAgent::start("elf", &config(&folder));
    assert_honest(&host, &mut honest);
    for guard in &mut hostile {
        // Each is watched, or it is said why not.
        if guard.is_running() {
            let pid = guard.pid();
            let left_out = host.about()["left_out"].clone();
            assert!(
                host.process(pid).is_some()
                    || left_out.as_object().is_some_and(|reasons| !reasons.is_empty()),
                "nothing is said of pid {pid}: {left_out}"
            );
        }
    }
    assert_clean(&host);
    drop(hostile);
    assert_honest(&host, &mut honest);
    assert_ends_well(host);
}

/// Writes to a process's memory, as it could itself.
struct Spoiler {
    pid: u32,
    memory: fs::File,
}

impl Spoiler {
    /// The program stands still from here on: what is written is what the agent finds.
    #[track_caller]
    fn stop(pid: u32) -> Self {
        let number = i32::try_from(pid).expect("a pid");
        kill(Pid::from_raw(number), Signal::SIGSTOP).expect("stopped");
        let memory = fs::OpenOptions::new().read(true).write(true).open(format!("/proc/{pid}/mem"));
        Self { pid, memory: memory.expect("its memory") }
    }

    #[track_caller]
    fn write(&mut self, address: u64, bytes: &[u8]) {
        self.memory.seek(SeekFrom::Start(address)).expect("an address");
        self.memory.write_all(bytes).expect("written");
    }

    #[track_caller]
    fn read_word(&mut self, address: u64) -> u64 {
        let mut word = [0; 8];
        self.memory.seek(SeekFrom::Start(address)).expect("an address");
        self.memory.read_exact(&mut word).expect("read");
        u64::from_le_bytes(word)
    }

    /// Ranges that the program may write, of its executable alone or all of them.
    fn writable(&self, of_file: Option<&Path>) -> Vec<(u64, u64)> {
        let maps = fs::read_to_string(format!("/proc/{}/maps", self.pid)).expect("its maps");
        let range = |line: &str| {
            let (start, end) = line.split(' ').next()?.split_once('-')?;
            Some((u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?))
        };
        let wanted = |line: &&str| {
            line.contains(" rw-p ") && of_file.is_none_or(|path| line.ends_with(&path.display().to_string()))
        };
        maps.lines().filter(wanted).filter_map(range).collect()
    }
}

/// What is done to a program's memory, and what that is called.
type Spoil<'a> = (&'a str, &'a dyn Fn(&mut Spoiler));

/// The address of a symbol in an executable that is loaded where it says.
#[track_caller]
fn symbol(program: &[u8], name: &str) -> u64 {
    let elf = object::File::parse(program).expect("an ELF file");
    let found = elf.symbols().find(|symbol| symbol.name() == Ok(name));
    found.unwrap_or_else(|| panic!("there is no {name}")).address()
}

#[test]
fn memory_that_is_garbage_costs_nobody_else() {
    need!(gate::live(), gate::file(&newest()));
    let folder = Folder::new("memory");
    let program = fs::read(newest()).expect("the target");
    let path = executable(&folder, "honest", &program);
    let mut honest = Target::start(&path);
    let hostile = executable(&folder, "hostile", &program);
    let (all, length) = (symbol(&program, "runtime.allgs"), symbol(&program, "runtime.allglen"));
    let pointer = symbol(&program, "runtime.allgptr");
    let host = HostAgent::start("memory", &config(&folder));
    let spoils: [Spoil<'_>; 6] = [
        ("a list of the largest length", &|spoiler| {
            spoiler.write(length, &u64::MAX.to_le_bytes());
            spoiler.write(all + 8, &u64::MAX.to_le_bytes());
        }),
        ("a list somewhere else", &|spoiler| {
            spoiler.write(pointer, &0xdead_beef_0000_u64.to_le_bytes());
            spoiler.write(all, &0xdead_beef_0000_u64.to_le_bytes());
        }),
        ("a list of itself", &|spoiler| {
            let list = spoiler.read_word(pointer);
            for entry in 0..30 {
                spoiler.write(list + 8 * entry, &list.to_le_bytes());
            }
            spoiler.write(length, &(1_u64 << 40).to_le_bytes());
        }),
        ("tasks of noise", &|spoiler| {
            let list = spoiler.read_word(pointer);
            let mut noise = Noise(7);
            for entry in 0..30 {
                let task = spoiler.read_word(list + 8 * entry);
                let mut bytes = [0; 400];
                noise.fill(&mut bytes);
                spoiler.write(task, &bytes);
            }
        }),
        ("globals of the largest numbers", &|spoiler| {
            for (start, end) in spoiler.writable(Some(&hostile)) {
                spoiler.write(start, &vec![0xff; usize::try_from(end - start).expect("small")]);
            }
        }),
        ("noise wherever it may write", &|spoiler| {
            let mut noise = Noise(11);
            for (start, end) in spoiler.writable(None) {
                let mut bytes = vec![0; usize::try_from(end - start).expect("small").min(4 << 20)];
                noise.fill(&mut bytes);
                spoiler.write(start, &bytes);
            }
        }),
    ];
    let mut targets: Vec<Target> = spoils.iter().map(|_| Target::start(&hostile)).collect();
    for target in &mut targets {
        target.command("spawn chan 40");
        host.wait_live(target.pid(), target.truth().num_goroutine);
    }
    for (target, (_, spoil)) in targets.iter().zip(&spoils) {
        spoil(&mut Spoiler::stop(target.pid()));
    }
    let looks = |host: &Server, pid: u32| {
        host.process(pid).map_or(0, |process| process["looks"].as_u64().unwrap_or(0))
    };
    let before: Vec<u64> = targets.iter().map(|target| looks(&host, target.pid())).collect();
    for ((target, before), (what, _)) in targets.iter().zip(before).zip(&spoils) {
        host.wait_until(what, |host| looks(host, target.pid()) >= before + 2);
    }
    assert_honest(&host, &mut honest);
    assert_clean(&host);
    // Claimed sizes are not believed.
    let own = fs::read_to_string(format!("/proc/{}/statm", host.pid())).expect("it runs");
    let pages: u64 = own.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number");
    assert!(pages < (400 << 20) / 4096, "{pages} pages are resident");
    drop(targets);
    assert_honest(&host, &mut honest);
    assert_ends_well(host);
}
