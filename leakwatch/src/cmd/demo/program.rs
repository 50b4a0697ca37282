//! The program that the demo watches: leakwatch itself, started again as a child, with tasks of its own making.
//!
//! Its runtime is as small as one can be: two functions, one that every task's start passes and one that every end does. One
//! scenario makes threads instead. Nothing of it may outlive leakwatch: its input ends when leakwatch does.

use std::{
    arch::naked_asm,
    collections::VecDeque,
    hint::black_box,
    io::{BufRead as _, Read as _, Write as _},
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use leakwatch_common::{Action, ProbeDescriptor, Register, RuntimeKind, TaskSource, fact};

use crate::{
    cli::Scenario,
    cmd::{End, startup::own_offsets},
    collect::CustomProbe,
};

/// What is to be watched: probes on the two functions, which the executable that we are has, too; none for threads.
pub(super) fn probes(scenario: Scenario) -> anyhow::Result<Vec<CustomProbe>> {
    if scenario == Scenario::OneChannel {
        return Ok(Vec::new());
    }
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

/// Waits for a line on its input, then makes tasks until its time is up or its input ends.
pub(in crate::cmd) fn run(seconds: u64, scenario: Scenario) -> anyhow::Result<End> {
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
    for tick in 0..seconds.saturating_mul(TICKS_PER_SECOND) {
        match scenario {
            Scenario::Shop => service.shop(tick),
            Scenario::SlowLeak => service.slow_leak(tick),
            Scenario::Burst => service.burst(tick),
            Scenario::OneChannel => service.one_channel(tick),
            Scenario::Healthy => service.healthy(tick),
        }
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
    /// Tasks that end, by the tick at which they do.
    ending: VecDeque<(u64, u64)>,
    /// The channel that nobody sends to.
    channel: Arc<(Mutex<VecDeque<u64>>, Condvar)>,
}

impl Service {
    fn shop(&mut self, tick: u64) {
        if tick == 0 {
            self.worker_pool();
        }
        for _ in 0..5 {
            self.handle_request(tick + 2);
        }
        self.retry_payment(tick % 10 == 9);
        if tick.is_multiple_of(4) {
            self.subscribe_to_orders();
        }
        self.end(tick);
    }

    fn slow_leak(&mut self, tick: u64) {
        for request in 0..5 {
            self.check_out(tick + 5 + request, (tick * 5 + request) % 250 == 249);
            self.render_page(tick + 3);
        }
        self.end(tick);
    }

    fn burst(&mut self, tick: u64) {
        // Every six seconds, from the first second on.
        if tick % (6 * TICKS_PER_SECOND) == TICKS_PER_SECOND {
            for connection in 0..20 {
                self.reconnect(tick + 3 + connection % 3, connection % 4 == 3);
            }
        }
        if tick % (6 * TICKS_PER_SECOND) == 4 * TICKS_PER_SECOND {
            for job in 0..30 {
                self.run_batch(tick + TICKS_PER_SECOND + job);
            }
        }
        self.end(tick);
    }

    fn one_channel(&mut self, tick: u64) {
        if tick.is_multiple_of(10) {
            self.notify_subscriber();
        }
    }

    fn healthy(&mut self, tick: u64) {
        if tick == 0 {
            self.worker_pool();
            self.start_tickers();
        }
        // From 40 a second to ten times as many within a minute.
        for _ in 0..=(tick * 9 / (60 * TICKS_PER_SECOND)).min(9) {
            self.handle_request(tick + TICKS_PER_SECOND / 2);
        }
        self.end(tick);
    }

    fn id(&mut self) -> u64 {
        self.next += 16;
        self.next
    }

    fn ends_at(&mut self, tick: u64, task: u64) {
        self.ending.push_back((tick, task));
    }

    /// Ends those whose time has come.
    fn end(&mut self, tick: u64) {
        self.ending.retain(|&(ends, task)| {
            if ends <= tick {
                task_end(task);
            }
            ends > tick
        });
    }

    #[inline(never)]
    fn worker_pool(&mut self) {
        // One go statement, as it were: unrolled, it would be sixteen creation sites.
        for _ in 0..black_box(16) {
            task_start(self.id(), work as *const () as u64);
        }
    }

    #[inline(never)]
    fn start_tickers(&mut self) {
        for _ in 0..black_box(8) {
            task_start(self.id(), tick_tock as *const () as u64);
        }
    }

    #[inline(never)]
    fn handle_request(&mut self, ends: u64) {
        let id = self.id();
        task_start(id, serve as *const () as u64);
        self.ends_at(ends, id);
    }

    #[inline(never)]
    fn render_page(&mut self, ends: u64) {
        let id = self.id();
        task_start(id, render as *const () as u64);
        self.ends_at(ends, id);
    }

    #[inline(never)]
    fn check_out(&mut self, ends: u64, forget: bool) {
        let id = self.id();
        task_start(id, pay as *const () as u64);
        if !forget {
            self.ends_at(ends, id);
        }
    }

    #[inline(never)]
    fn reconnect(&mut self, ends: u64, forget: bool) {
        let id = self.id();
        task_start(id, dial as *const () as u64);
        if !forget {
            self.ends_at(ends, id);
        }
    }

    #[inline(never)]
    fn run_batch(&mut self, ends: u64) {
        let id = self.id();
        task_start(id, compute as *const () as u64);
        self.ends_at(ends, id);
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

    /// A thread that waits for something to be sent. Nobody sends.
    #[inline(never)]
    fn notify_subscriber(&mut self) {
        let channel = Arc::clone(&self.channel);
        let subscriber = std::thread::Builder::new().name("subscriber".to_owned()).stack_size(64 << 10);
        // Where the machine allows no more threads, there are no more.
        drop(subscriber.spawn(move || receive(&channel)));
        no_tail_call();
    }
}

/// Waits for the next one.
#[inline(never)]
fn receive(channel: &(Mutex<VecDeque<u64>>, Condvar)) -> Option<u64> {
    let (queue, sent) = channel;
    let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
    while queue.is_empty() {
        queue = sent.wait(queue).unwrap_or_else(PoisonError::into_inner);
    }
    queue.pop_front()
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

#[inline(never)]
extern "C" fn render() -> u32 {
    5
}

#[inline(never)]
extern "C" fn pay() -> u32 {
    6
}

#[inline(never)]
extern "C" fn tick_tock() -> u32 {
    7
}

#[inline(never)]
extern "C" fn dial() -> u32 {
    8
}

#[inline(never)]
extern "C" fn compute() -> u32 {
    9
}
