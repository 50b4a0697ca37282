//! Task vtables: one static of code pointers and offsets for each type of task (and scheduler).
//!
//! `tokio::runtime::task::raw::Vtable` has had three forms (tokio 1.20, 1.21 - 1.22, 1.23 to the newest, read in
//! `src/runtime/task/raw.rs` of each). A candidate is a run of as many pointers as the form has, each to the start of a
//! function, followed by offsets that a task cell can have. Must never take a table that fails one of these.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::ops::Range;

use iced_x86::FlowControl;

use super::code::Code;
use super::{TaskKind, VtableForm};

/// Largest task cell that is believed. A future of this size overflows every stack before it is spawned.
const MAX_TRAILER: u64 = 1 << 28;
/// Largest offset of the scheduler in a cell: the header, aligned to at most this.
const MAX_SCHEDULER: u64 = 512;
/// Largest scheduler handle in a task (two words of hooks and an `Arc`, with room).
const MAX_SCHEDULER_SIZE: u64 = 128;

/// Jumps from function to function that are followed.
const MAX_TAIL_CALLS: u8 = 3;

/// A vtable that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) address: u64,
    pub(super) functions: Vec<u64>,
    pub(super) trailer_offset: Option<u64>,
    pub(super) scheduler_offset: Option<u64>,
    pub(super) id_offset: Option<u64>,
    pub(super) spawn_location_offset: Option<u64>,
}

/// All tables of a form, by address.
pub(super) fn find(code: &Code<'_>, form: VtableForm) -> Vec<Found> {
    let pointers = form.functions();
    let mut found = Vec::new();
    for segment in code.data.segments() {
        let mut run = 0_usize;
        for (at, word) in segment.words.iter().enumerate() {
            if *word != 0 && code.elf.executable_at(*word) {
                run = run.saturating_add(1);
                continue;
            }
            let (ended, after) = (std::mem::take(&mut run), at);
            // The table's last pointer is the run's last one where offsets follow; the run may have begun in what
            // stands before the table. Without offsets it may be followed by pointers, too: that is for the oldest
            // form, where every place in the run is a candidate.
            let starts = match (ended.checked_sub(pointers), form) {
                (None, _) => 0..0,
                (Some(spare), VtableForm::Plain) => {
                    after.saturating_sub(ended)
                        ..after.saturating_sub(ended).saturating_add(spare).saturating_add(1)
                }
                (Some(_), _) => {
                    after.saturating_sub(pointers)..after.saturating_sub(pointers).saturating_add(1)
                }
            };
            for start in starts {
                let place = u64::try_from(start).ok().and_then(|at| at.checked_mul(8));
                let address = place.and_then(|place| segment.address.checked_add(place));
                if let Some(address) = address {
                    found.extend(check(code, form, address, segment.words.get(start..).unwrap_or_default()));
                }
            }
        }
    }
    found
}

/// The table at an address, if all of it is plausible.
fn check(code: &Code<'_>, form: VtableForm, address: u64, words: &[u64]) -> Option<Found> {
    let functions = words.get(..form.functions())?;
    let mut table = Found {
        address,
        functions: functions.to_vec(),
        trailer_offset: None,
        scheduler_offset: None,
        id_offset: None,
        spawn_location_offset: None,
    };
    let offsets = words.get(form.functions()..)?;
    let plausible_trailer = |offset: u64| offset.is_multiple_of(8) && (40..MAX_TRAILER).contains(&offset);
    match form {
        VtableForm::Plain => {}
        VtableForm::Trailer => {
            let trailer = *offsets.first()?;
            plausible_trailer(trailer).then_some(())?;
            table.trailer_offset = Some(trailer);
        }
        VtableForm::Offsets => {
            let [trailer, scheduler, id, rest @ ..] = offsets else { return None };
            let aligned = [scheduler, id].iter().all(|offset| offset.is_multiple_of(8));
            let ordered = (32..=MAX_SCHEDULER).contains(scheduler)
                && (0..=MAX_SCHEDULER_SIZE).contains(&id.checked_sub(*scheduler)?)
                && id.checked_add(8)? <= *trailer;
            (plausible_trailer(*trailer) && aligned && ordered).then_some(())?;
            table.trailer_offset = Some(*trailer);
            table.scheduler_offset = Some(*scheduler);
            table.id_offset = Some(*id);
            // With `tokio_unstable` there is a word more: where the task's spawn Location is, right behind the id.
            table.spawn_location_offset =
                rest.first().copied().filter(|next| id.checked_add(8) == Some(*next));
        }
    }
    functions.iter().all(|function| code.is_function(*function)).then_some(table)
}

/// A task of `spawn_blocking` is never scheduled: its `schedule` function does nothing but panic
/// (`src/runtime/blocking/schedule.rs`).
pub(super) fn kind(code: &Code<'_>, form: VtableForm, table: &Found) -> Option<TaskKind> {
    let schedule = (form == VtableForm::Offsets).then(|| table.functions.get(1).copied())??;
    let mut function = code.function_at(schedule)?;
    for _ in 0..MAX_TAIL_CALLS {
        match leaves(code, &function)? {
            Leaves::Returns => return Some(TaskKind::Async),
            Leaves::Never => return Some(TaskKind::Blocking),
            // `raw::schedule` goes on to the scheduler's own.
            Leaves::To(target) => function = code.function_at(target)?,
        }
    }
    None
}

/// How a function is left, as far as its straight code tells.
enum Leaves {
    /// It returns, or may.
    Returns,
    /// It does not.
    Never,
    /// By a jump to another one.
    To(u64),
}

fn leaves(code: &Code<'_>, function: &Range<u64>) -> Option<Leaves> {
    let instructions = code.decode(function)?;
    let mut at = 0_usize;
    for _ in 0..instructions.len() {
        let Some(instruction) = instructions.get(at) else { break };
        at = at.checked_add(1)?;
        match instruction.flow_control() {
            FlowControl::Return | FlowControl::ConditionalBranch => return Some(Leaves::Returns),
            FlowControl::UnconditionalBranch | FlowControl::IndirectBranch => {
                let Some(target) = code.target(instruction) else { return Some(Leaves::Returns) };
                if !function.contains(&target) {
                    return Some(Leaves::To(target));
                }
                at = instructions.binary_search_by(|instruction| instruction.ip().cmp(&target)).ok()?;
            }
            FlowControl::Exception | FlowControl::Interrupt => break,
            _ => {}
        }
    }
    Some(Leaves::Never)
}
