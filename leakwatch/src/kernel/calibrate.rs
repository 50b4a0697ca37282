//! What a probe hit costs on this machine: measured on ourselves, with the real program and the real tables.
//!
//! Overhead is then hits times this price. It takes some milliseconds, once.

use std::{arch::naked_asm, path::Path};

use leakwatch_common::{Action, ProbeDescriptor, Register, RuntimeKind, TaskSource, fact, process_flags};

use super::{Kernel, KernelError};

/// Starts and ends in one round.
const PAIRS: u64 = 400;

/// Rounds; the cheapest one counts, as the others were disturbed.
const ROUNDS: usize = 3;

/// Two places to probe, each on a `push`, which the kernel emulates as it does the `call` of Go's probes.
#[unsafe(naked)]
extern "C" fn begin_task(_task: u64) {
    naked_asm!("push rbp", "pop rbp", "ret");
}

#[unsafe(naked)]
extern "C" fn end_task(_task: u64) {
    naked_asm!("push rbp", "pop rbp", "nop", "ret");
}

/// Run-time addresses of the instructions that [`Kernel::calibrate`] probes.
pub fn calibration_points() -> [u64; 2] {
    [begin_task as *const () as u64, end_task as *const () as u64]
}

impl Kernel {
    /// Cost of one probe hit in ns. `exe` and `offsets` are our own executable and the file offsets of
    /// [`calibration_points`]; `clock` tells monotonic nanoseconds.
    ///
    /// # Errors
    /// When our own process cannot be probed.
    pub fn calibrate(
        &mut self,
        exe: &Path,
        offsets: [u64; 2],
        clock: impl Fn() -> u64,
    ) -> Result<f64, KernelError> {
        let mut watched = self.watch(std::process::id(), 0)?;
        let result = [(Action::End, offsets[1]), (Action::Start, offsets[0])]
            .into_iter()
            .try_for_each(|(action, offset)| {
                let descriptor = ProbeDescriptor {
                    action: action as u8,
                    task_register: Register::Rdi as u8,
                    task_source: TaskSource::Register as u8,
                    site: fact::NONE,
                    entry: fact::NONE,
                    runtime: RuntimeKind::Custom as u16,
                    ..ProbeDescriptor::default()
                };
                self.attach(&mut watched, exe, offset, descriptor)
            })
            .and_then(|()| self.set_flags(&mut watched, process_flags::COUNTING | process_flags::LIVE_TABLE));
        let mut best = u64::MAX;
        if result.is_ok() {
            for _ in 0..ROUNDS {
                let begun = clock();
                for task in 0..PAIRS {
                    begin_task(task);
                    end_task(task);
                }
                best = best.min(clock().saturating_sub(begun));
            }
        }
        self.forget(&mut watched)?;
        result.map(|()| ratio(best, 2 * PAIRS))
    }
}

#[expect(clippy::cast_precision_loss, reason = "some milliseconds and some hundred hits")]
fn ratio(ns: u64, hits: u64) -> f64 {
    ns as f64 / hits as f64
}
