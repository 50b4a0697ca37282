//! One proof from beginning to end: the pauses between passes, and the clock.

use std::time::Duration;

use super::clock;
use crate::{
    collect::{
        CollectError,
        prove::{Options, Subject},
    },
    observe::Proof,
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
    subject.prove(options, &mut clock::monotonic_ns, &mut |pause_ns| {
        std::thread::sleep(Duration::from_nanos(pause_ns));
        going_on()
    })
}
