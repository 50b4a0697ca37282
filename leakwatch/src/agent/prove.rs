//! One proof from beginning to end: the pauses between passes, and the clock.

use std::time::Duration;

use super::clock;
use crate::{
    collect::{
        CollectError,
        prove::{Options, Subject},
    },
    observe::{Proof, Why},
};

/// Proves what can be proven of a process; `going_on` is asked between passes. `None`: it said no.
///
/// # Errors
/// When the process ended or its heap makes no sense.
pub fn prove(
    subject: &Subject,
    options: Options,
    going_on: &dyn Fn() -> bool,
) -> Result<Option<Proof>, CollectError> {
    subject.prove(options, &mut clock::monotonic_ns, &mut |pause_ns| pause(pause_ns) && going_on())
}

/// The same, and why each of these goroutines, by number, is proven or is not.
///
/// # Errors
/// As of [`prove`].
pub fn explain(subject: &Subject, ids: &[u64], options: Options) -> Result<(Proof, Vec<Why>), CollectError> {
    let explained = subject.explain(ids, options, &mut clock::monotonic_ns, &mut pause)?;
    Ok(explained.unwrap_or_default())
}

fn pause(pause_ns: u64) -> bool {
    std::thread::sleep(Duration::from_nanos(pause_ns));
    true
}
