//! Where tasks start: behind the allocation of a task's cell, in the code that writes its vtable.
//!
//! `Cell::new` of `src/runtime/task/core.rs` makes every task, those of `spawn_blocking` and of a `LocalSet`, too. It is
//! found, wherever it was inlined to, by the vtable's address in code. There a cell is put together on the stack,
//! allocated, and copied; or allocated and filled. Probed is the first instruction at which the cell's address is in a
//! register and its vtable in memory: usually the branch that looks whether the allocation failed. It is passed once for
//! each task, before the task can run.
//!
//! Must never leave a function that makes tasks without a site and without a problem that says so.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::code::Code;
use super::maker::{Maker, Place, behind_call, calls_of};
use super::names::symbols_at;
use super::vtables::Found;
use super::{StartSite, VtableForm, site};
use crate::{ElfKind, ProbeAction, Problem};

/// Most pairs of caller and callee that are looked at where nothing is inlined.
const MAX_CALLERS: usize = 1 << 16;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Starts {
    pub(super) sites: Vec<StartSite>,
    /// For each vtable, the functions that make its tasks, by address.
    pub(super) makers: Vec<Vec<u64>>,
    pub(super) problems: Vec<Problem>,
}

impl Starts {
    fn add(
        &mut self,
        code: &Code<'_>,
        (vtable, address): (usize, u64),
        function: &Range<u64>,
        place: &Place,
    ) {
        let Some(site) =
            site(code, ProbeAction::Start, function, &place.instruction, place.register, place.why)
        else {
            return;
        };
        if let Some(makers) = self.makers.get_mut(vtable)
            && !makers.contains(&function.start)
        {
            makers.push(function.start);
        }
        match self.sites.iter_mut().find(|known| known.site.address == site.address) {
            Some(known) => known.vtables.push(address),
            None => self.sites.push(StartSite { site, facts: place.facts, vtables: vec![address] }),
        }
    }
}

/// Finds them all, by address.
pub(super) fn find(code: &Code<'_>, form: VtableForm, vtables: &[Found]) -> Starts {
    let by_address: BTreeMap<u64, usize> =
        vtables.iter().enumerate().map(|(index, table)| (table.address, index)).collect();
    let mut starts = Starts { makers: vec![Vec::new(); vtables.len()], ..Starts::default() };
    let mut getters = BTreeMap::new();
    for function in referring(code, &by_address) {
        let Some(instructions) = code.decode(&function) else {
            starts.problems.push(Problem(format!(
                "the function at {:#x} makes tasks and cannot be disassembled",
                function.start
            )));
            continue;
        };
        let maker = Maker::read(form, vtables, &by_address, &instructions);
        if let Some(vtable) = maker.getter {
            getters.insert(function.start, vtable);
            continue;
        }
        for &vtable in &maker.vtables_used {
            let places = maker.places(vtable);
            for place in &places {
                starts.add(code, (vtable, address_of(vtables, vtable)), &function, place);
            }
            if places.is_empty() && maker.stores(vtable) && form == VtableForm::Offsets {
                starts.problems.push(Problem(format!(
                    "the function at {:#x} makes tasks of the vtable {:#x} in a way that is not known",
                    function.start,
                    address_of(vtables, vtable)
                )));
            }
        }
    }
    through_getters(code, form, vtables, &getters, &mut starts);
    starts.sites.sort_by_key(|start| start.site.address);
    starts
}

fn address_of(vtables: &[Found], index: usize) -> u64 {
    vtables.get(index).map_or(0, |table| table.address)
}

/// The functions whose code has the address of one of these tables, by address.
fn referring(code: &Code<'_>, tables: &BTreeMap<u64, usize>) -> Vec<Range<u64>> {
    let mut functions = BTreeMap::new();
    let wanted: BTreeSet<u64> = tables.keys().copied().collect();
    let mut found = |place: u64| {
        if let Some(function) = code.function_at(place) {
            functions.insert(function.start, function);
        }
    };
    for (address, text) in code.text() {
        // lea reg, [rip + displacement]: REX.W, 8d, a ModRM byte without base.
        for (place, target) in relative(address, text, 0x8d) {
            if tables.contains_key(&target) {
                found(place);
            }
        }
        for (place, _) in immediate(code, address, text, &wanted) {
            found(place);
        }
    }
    functions.into_values().collect()
}

/// At fixed addresses a 32-bit number does it, too: where one of these addresses stands in the code.
pub(super) fn immediate(
    code: &Code<'_>,
    address: u64,
    text: &[u8],
    wanted: &BTreeSet<u64>,
) -> impl Iterator<Item = (u64, u64)> {
    let text = if code.elf.kind == ElfKind::Executable { text } else { &[] };
    let span = wanted.first().copied().unwrap_or(0)..=wanted.last().copied().unwrap_or(0);
    (address..).zip(text.windows(4)).filter_map(move |(at, window)| {
        let value = u64::from(u32::from_le_bytes(*window.first_chunk::<4>()?));
        (span.contains(&value) && wanted.contains(&value)).then_some((at, value))
    })
}

/// The instructions with this opcode, a REX.W prefix and a rip-relative operand: (their address, the operand's). Some are
/// none: parts of others that look the same.
pub(super) fn relative(address: u64, text: &[u8], opcode: u8) -> impl Iterator<Item = (u64, u64)> {
    memchr::memchr_iter(opcode, text).filter_map(move |at| {
        let [0x48..=0x4f, _, modrm, a, b, c, d, ..] = text.get(at.checked_sub(1)?..)? else { return None };
        (modrm & 0xc7 == 5).then_some(())?;
        let place = address.checked_add(u64::try_from(at).ok()?)?.checked_sub(1)?;
        let displacement = i64::from(i32::from_le_bytes([*a, *b, *c, *d]));
        Some((place, place.checked_add(7)?.wrapping_add_signed(displacement)))
    })
}

/// Where nothing is inlined, `raw::vtable` returns the address, `Cell::new` calls it, and what calls that holds the cell.
fn through_getters(
    code: &Code<'_>,
    form: VtableForm,
    vtables: &[Found],
    getters: &BTreeMap<u64, usize>,
    starts: &mut Starts,
) {
    let mut makers = BTreeMap::new();
    let mut getters = getters.clone();
    if form != VtableForm::Offsets {
        let names = symbols_at(code, &getters.keys().copied().collect());
        getters.retain(|address, _| {
            names
                .get(address)
                .is_some_and(|names| names.iter().any(|name| name.contains("task::raw::vtable")))
        });
    }
    for (caller, callee) in callers(code, &getters) {
        if let Some(vtable) = getters.get(&callee) {
            makers.insert(caller.start, *vtable);
        }
    }
    for (caller, callee) in callers(code, &makers) {
        let (Some(vtable), Some(instructions)) = (makers.get(&callee), code.decode(&caller)) else {
            continue;
        };
        for call in calls_of(code, &instructions, callee) {
            if let Some(place) = behind_call(form, &instructions, call) {
                starts.add(code, (*vtable, address_of(vtables, *vtable)), &caller, &place);
            }
        }
    }
}

/// Who calls these functions: (caller, callee), each pair once.
fn callers(code: &Code<'_>, callees: &BTreeMap<u64, usize>) -> Vec<(Range<u64>, u64)> {
    let mut found = BTreeMap::new();
    if callees.is_empty() {
        return Vec::new();
    }
    for (address, text) in code.text() {
        let mut call = |place: u64, target: Option<u64>| {
            if let Some(target) = target.filter(|target| callees.contains_key(target))
                && let Some(function) = code.function_at(place)
                && found.len() < MAX_CALLERS
            {
                found.insert((function.start, target), function);
            }
        };
        for at in memchr::memchr2_iter(0xe8, 0xff, text) {
            let Some(place) = u64::try_from(at).ok().and_then(|at| address.checked_add(at)) else { continue };
            match text.get(at..).unwrap_or_default() {
                [0xe8, a, b, c, d, ..] => {
                    let displacement = i64::from(i32::from_le_bytes([*a, *b, *c, *d]));
                    call(place, Some(place.wrapping_add(5).wrapping_add_signed(displacement)));
                }
                [0xff, 0x15, a, b, c, d, ..] => {
                    let displacement = i64::from(i32::from_le_bytes([*a, *b, *c, *d]));
                    call(place, code.data.word(place.wrapping_add(6).wrapping_add_signed(displacement)));
                }
                _ => {}
            }
        }
        // mov reg, [rip + displacement]; call reg.
        for (place, slot) in relative(address, text, 0x8b) {
            call(place, code.data.word(slot));
        }
    }
    found.into_iter().map(|((_, callee), caller)| (caller, callee)).collect()
}
