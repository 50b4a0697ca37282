//! Dumps and proofs read a process from end to end, and take turns: one at a time on the whole host, so that no process is read
//! twice at once and the host never pays for two of them.
//!
//! A dump is asked for by somebody, so it waits; a proof is put off. It must never be held by who waits for anything but the
//! process that is read.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use crate::alert::Dumper;

/// Whose turn it is.
#[derive(Clone, Debug, Default)]
pub struct Reading(Arc<Mutex<()>>);

/// It is yours until this is dropped.
#[derive(Debug)]
pub(super) struct Turn<'r>(#[expect(dead_code, reason = "held, not looked at")] MutexGuard<'r, ()>);

impl Reading {
    /// A turn; `None`: somebody else has it.
    pub(super) fn begin_now(&self) -> Option<Turn<'_>> {
        match self.0.try_lock() {
            Ok(turn) => Some(Turn(turn)),
            // Who broke down while he read left nothing behind.
            Err(TryLockError::Poisoned(turn)) => Some(Turn(turn.into_inner())),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Waits for a turn.
    fn begin(&self) -> Turn<'_> {
        Turn(self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Has dumps wait for their turn.
    pub fn in_turns(&self, dumper: Dumper) -> Dumper {
        let reading = self.clone();
        Arc::new(move |pid| {
            let _turn = reading.begin();
            dumper(pid)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_dump_waits_for_a_proof_and_a_proof_is_put_off() {
        let reading = Reading::default();
        let (said, heard) = mpsc::channel();
        let asked = reading.clone();
        let dumper = reading.in_turns(Arc::new(move |pid| {
            said.send((pid, asked.begin_now().is_some())).expect("heard");
            Err("no dump".to_owned())
        }));
        let turn = reading.begin_now().expect("nobody reads");
        assert!(reading.begin_now().is_none(), "one at a time");
        std::thread::scope(|scope| {
            let dump = scope.spawn(|| dumper(7));
            assert!(heard.try_recv().is_err(), "it waits");
            drop(turn);
            assert_eq!(heard.recv().expect("its turn"), (7, false), "a proof would be put off now");
            assert_eq!(dump.join().expect("it ends").expect_err("none"), "no dump");
        });
        assert!(reading.begin_now().is_some());
    }
}
