//! `leakwatch demo`: a built-in program that leaks in known ways, watched like any other.
//!
//! The program is leakwatch itself, started again as a child with tasks of its own making. Its runtime is as small
//! as one can be, but it is watched as the real ones are: by probes on its start and end functions, from outside.

use std::{
    arch::naked_asm,
    collections::VecDeque,
    hint::black_box,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::Context as _;
use leakwatch_common::{Action, ProbeDescriptor, Register, RuntimeKind, TaskSource, fact};

use super::{
    End,
    output::{colour, write_whole},
    startup::{block_on, calibrate, load, own_offsets},
    watch::say,
};
use crate::{
    agent::{self, Target, Update},
    cli::{DemoArgs, Format},
    collect::{CustomProbe, Mode},
    export,
    host::Process,
    page::{self, Story},
    report::{Span, course::Course},
    text,
};

/// Starts the built-in program, watches it, and says what should be seen.
///
/// # Errors
/// As `watch`.
pub(super) fn run(args: &DemoArgs, verbose: u8) -> anyhow::Result<End> {
    let mut kernel = load(super::kernel_options(&crate::cli::SizeArgs::default(), verbose))?;
    let hit_ns = calibrate(&mut kernel);
    let duration = Duration::try_from(args.duration)?;
    let mut program = Program::start(duration)?;
    let process = Process::open(program.child.id())?;
    let target = Target { process, required: true, probes: probes()? };
    let pid = target.process.pid();
    let options = agent::Options {
        interval: Duration::from_millis(500).min(duration),
        duration: Some(duration),
        mode: Mode::Probes,
        stacks: false,
        budget_percent: None,
        stream: false,
        looks: false,
        states: false,
        rates: Span::Watch,
        named: Vec::new(),
        prove: None,
        main: None,
        stop: None,
        follow: false,
    };
    let mut course = Course::default();
    let text_options = text::Options { color: colour(), ..text::Options::default() };
    block_on(agent::watch(&mut kernel, vec![target], hit_ns, &options, &mut |update| match update {
        Update::Attached => {
            say(&format!("watching the built-in program, pid {pid}, for {}s", duration.as_secs_f32()))?;
            program.go()
        }
        Update::Final(report) => {
            course.take(report);
            let story = Story { report, course: &course, remarks: &[] };
            let text = match args.format {
                Format::Html => page::html(&story),
                Format::Markdown => page::markdown(&story),
                Format::Table => format!("{}{EPILOGUE}", text::render(report, &text_options)),
                Format::Json => export::to_json(report),
                Format::Prometheus => super::output::metrics(report),
                Format::Jsonl => export::to_json_line(report),
            };
            write_whole(None, &text)
        }
        Update::Interval(report) if args.format == Format::Jsonl => {
            write_whole(None, &export::to_json_line(report))
        }
        Update::Interval(report) => {
            course.take(report);
            Ok(())
        }
        Update::Made(_)
        | Update::Event(..)
        | Update::State(..)
        | Update::Malformed
        | Update::Looked(_)
        | Update::Reporting { .. } => Ok(()),
    }))?;
    Ok(End::Done)
}

const EPILOGUE: &str = "
What to see: `subscribe_to_orders` starts tasks that never end: it is the leak. `retry_payment` ends most of its
tasks and forgets one in ten. `handle_request` starts many and ends them all, and `worker_pool` holds a fixed number:
neither is a leak. Now your own program: sudo leakwatch --pid PID
";

/// The child; ended when dropped.
struct Program {
    child: Child,
}

impl Program {
    fn start(duration: Duration) -> anyhow::Result<Self> {
        let seconds = duration.as_secs().saturating_add(30).to_string();
        let own = std::env::current_exe().context("cannot find leakwatch's own executable")?;
        let child = Command::new(own)
            .args(["demo-target", "--seconds", &seconds])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the built-in program")?;
        let mut program = Self { child };
        let mut line = String::new();
        let out = program.child.stdout.take().context("the built-in program has no output")?;
        BufReader::new(out).read_line(&mut line).context("the built-in program did not start")?;
        Ok(program)
    }

    /// Lets it begin: nothing happens before the probes are placed, so every task is seen from its birth.
    fn go(&mut self) -> std::io::Result<()> {
        self.child.stdin.as_mut().map_or(Ok(()), |stdin| stdin.write_all(b"go\n"))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to do.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Probes on the two functions of the built-in program, which is the executable that we are.
fn probes() -> anyhow::Result<Vec<CustomProbe>> {
    let [start, end] = own_offsets([task_start as *const () as u64, task_end as *const () as u64])?;
    let descriptor = |action: Action| ProbeDescriptor {
        action: action as u8,
        task_register: Register::Rdi as u8,
        task_source: TaskSource::Register as u8,
        // At a function's first instruction the return address is on top of the stack: who started the task.
        facts_register: Register::Rsp as u8,
        site: 0,
        entry: fact::REGISTER + Register::Rsi as u8,
        runtime: RuntimeKind::Custom as u16,
        task_offset: 0,
        facts_offset: 0,
    };
    Ok(vec![
        CustomProbe { offset: end, descriptor: descriptor(Action::EndFreed) },
        CustomProbe { offset: start, descriptor: descriptor(Action::Start) },
    ])
}

/// The built-in program's "a task begins": task in rdi, what it runs in rsi.
#[unsafe(naked)]
extern "C" fn task_start(_task: u64, _entry: u64) {
    naked_asm!("push rbp", "pop rbp", "ret");
}

/// The built-in program's "a task ends".
#[unsafe(naked)]
extern "C" fn task_end(_task: u64) {
    naked_asm!("push rbp", "pop rbp", "nop", "ret");
}

/// The built-in program: waits for a line on its input, then makes tasks until its time is up or its input ends.
pub(super) fn target(seconds: u64) -> anyhow::Result<End> {
    writeln!(std::io::stdout().lock(), "ready").context("cannot tell that we are ready")?;
    let mut stdin = std::io::stdin().lock();
    let mut line = String::new();
    if stdin.read_line(&mut line).context("cannot read our input")? == 0 {
        return Ok(End::Done);
    }
    drop(stdin);
    // Our input ends when leakwatch does; nothing of us must stay behind then.
    std::thread::spawn(|| {
        let mut rest = Vec::new();
        drop(std::io::stdin().lock().read_to_end(&mut rest));
        terminate();
    });
    let mut service = Service::default();
    service.worker_pool();
    for tick in 0..seconds.saturating_mul(TICKS_PER_SECOND) {
        for _ in 0..5 {
            service.handle_request();
        }
        service.retry_payment(tick % 10 == 9);
        if tick % 4 == 0 {
            service.subscribe_to_orders();
        }
        service.finish_requests();
        std::thread::sleep(Duration::from_millis(1000 / TICKS_PER_SECOND));
    }
    Ok(End::Done)
}

#[expect(clippy::exit, reason = "a thread ends the whole child; nothing of it needs to be undone")]
fn terminate() {
    std::process::exit(0)
}

const TICKS_PER_SECOND: u64 = 40;

/// A made-up service and its tasks. The functions that start tasks are not inlined: each is a creation site.
#[derive(Default)]
struct Service {
    next: u64,
    requests: VecDeque<u64>,
}

impl Service {
    fn id(&mut self) -> u64 {
        self.next += 16;
        self.next
    }

    #[inline(never)]
    fn worker_pool(&mut self) {
        // One go statement, as it were: unrolled, it would be sixteen creation sites.
        for _ in 0..black_box(16) {
            task_start(self.id(), work as *const () as u64);
        }
    }

    #[inline(never)]
    fn handle_request(&mut self) {
        let id = self.id();
        task_start(id, serve as *const () as u64);
        self.requests.push_back(id);
    }

    /// Ends all requests but the youngest.
    fn finish_requests(&mut self) {
        while self.requests.len() > 10 {
            if let Some(id) = self.requests.pop_front() {
                task_end(id);
            }
        }
    }

    #[inline(never)]
    fn retry_payment(&mut self, forget: bool) {
        let id = self.id();
        task_start(id, retry as *const () as u64);
        if !forget {
            task_end(id);
        }
    }

    #[inline(never)]
    fn subscribe_to_orders(&mut self) {
        task_start(self.id(), listen as *const () as u64);
        no_tail_call();
    }
}

/// Behind a call that would be a function's last: as a tail call it would seem to come from the function's caller.
fn no_tail_call() {
    black_box(());
}

/// What the tasks run, by name only. The bodies differ, or the linker would make one of them.
#[inline(never)]
extern "C" fn work() -> u32 {
    1
}

#[inline(never)]
extern "C" fn serve() -> u32 {
    2
}

#[inline(never)]
extern "C" fn retry() -> u32 {
    3
}

#[inline(never)]
extern "C" fn listen() -> u32 {
    4
}
