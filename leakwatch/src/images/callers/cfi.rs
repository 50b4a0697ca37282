//! The unwind tables of one ELF file: `.eh_frame`, found through `.eh_frame_hdr` where that is there.
//!
//! Foreign bytes: an entry that makes no sense gives no row, and an expression ends after a bounded number of steps.

use std::{ops::Range, rc::Rc};

use gimli::{
    BaseAddresses, CfaRule, EhFrame, EhFrameHdr, EndianRcSlice, EvaluationResult, FrameDescriptionEntry,
    Pointer, Register, RegisterRule, RunTimeEndian, UnwindContext, UnwindExpression, UnwindSection as _,
    Value, X86_64,
};
use leakwatch_inspect::{Arch, Elf};

use super::{REGISTERS, Registers};

type Reader = EndianRcSlice<RunTimeEndian>;

/// Most steps of one expression; those of compilers and assemblers have some ten.
const MOST_STEPS: u32 = 256;

/// Most bytes of a file's unwind tables that are held. Those of the largest programs known fit.
const LIMIT: u64 = 256 << 20;

/// How a caller's registers follow from its callee's.
#[derive(Debug)]
pub(super) struct Step {
    /// The caller's registers.
    pub(super) registers: Registers,
    /// Where on the stack the return address was; `None`: not on the stack.
    pub(super) at: Option<u64>,
}

/// What the tables say of a place.
#[derive(Debug)]
pub(super) enum Row {
    /// The caller.
    Caller(Box<Step>),
    /// There is none: the stack begins here.
    Start,
    /// The caller's frame is counted from a register whose value is not known. The function begins here (link time).
    Missing {
        /// Which register.
        register: u16,
        /// What is added to it.
        offset: i64,
        /// The function's first instruction, link time.
        function: u64,
    },
    /// Nothing covers the place.
    None,
}

/// The unwind tables of one file. Addresses are link-time addresses.
pub(super) struct Cfi {
    frames: EhFrame<Reader>,
    index: Option<gimli::ParsedEhFrameHdr<Reader>>,
    bases: BaseAddresses,
    /// Link-time address of `.eh_frame`.
    start: u64,
}

impl Cfi {
    /// The tables of a file; `None`: it has none that we read.
    pub(super) fn read(elf: &Elf, image: &[u8]) -> Option<Self> {
        if elf.arch != Arch::X86_64 {
            return None;
        }
        let section = |name: &str| {
            let section = elf.section(name).filter(|section| section.size <= LIMIT)?;
            let range = usize::try_from(section.file.start).ok()?..usize::try_from(section.file.end).ok()?;
            let bytes = image.get(range).filter(|bytes| !bytes.is_empty())?;
            Some((section.address.start, Reader::new(Rc::from(bytes), RunTimeEndian::Little)))
        };
        let (start, bytes) = section(".eh_frame")?;
        let text = elf.section(".text").map_or(0, |text| text.address.start);
        let got = elf.section(".got").map_or(0, |got| got.address.start);
        let mut bases = BaseAddresses::default().set_eh_frame(start).set_text(text).set_got(got);
        let index = section(".eh_frame_hdr").and_then(|(address, index)| {
            bases = bases.clone().set_eh_frame_hdr(address);
            EhFrameHdr::from(index).parse(&bases, 8).ok()
        });
        let mut frames = EhFrame::from(bytes);
        frames.set_address_size(8);
        Some(Self { frames, index, bases, start })
    }

    /// The entry of the function that holds an address.
    fn entry(&self, address: u64) -> Option<FrameDescriptionEntry<Reader>> {
        let entry = match self.index.as_ref().and_then(gimli::ParsedEhFrameHdr::table) {
            Some(table) => {
                let Ok(Pointer::Direct(entry)) = table.lookup(address, &self.bases) else { return None };
                let offset = usize::try_from(entry.checked_sub(self.start)?).ok()?;
                self.frames.fde_from_offset(&self.bases, offset.into(), EhFrame::cie_from_offset).ok()?
            }
            None => self.frames.fde_for_address(&self.bases, address, EhFrame::cie_from_offset).ok()?,
        };
        entry.contains(address).then_some(entry)
    }

    /// Bounds of the function that holds an address.
    pub(super) fn function(&self, address: u64) -> Option<Range<u64>> {
        let entry = self.entry(address)?;
        let start = entry.initial_address();
        Some(start..start.checked_add(entry.len())?)
    }

    /// The step from a place in a function to its caller.
    pub(super) fn row(
        &self,
        address: u64,
        registers: &Registers,
        context: &mut UnwindContext<usize>,
        read: &mut dyn FnMut(u64) -> Option<u64>,
    ) -> Row {
        let Some(entry) = self.entry(address) else { return Row::None };
        let Ok(row) = entry.unwind_info_for_address(&self.frames, &self.bases, context, address) else {
            return Row::None;
        };
        let encoding = entry.cie().encoding();
        let frame = match row.cfa() {
            CfaRule::RegisterAndOffset { register, offset } => match registers.get(register.0) {
                Some(value) => Some(value.wrapping_add_signed(*offset)),
                None => {
                    return Row::Missing {
                        register: register.0,
                        offset: *offset,
                        function: entry.initial_address(),
                    };
                }
            },
            CfaRule::Expression(expression) => self.evaluate(expression, encoding, None, registers, read),
        };
        let Some(frame) = frame else { return Row::None };
        let mut caller = Registers::default();
        let mut at = None;
        for number in 0..REGISTERS {
            let value = match row.register(Register(number)) {
                Some(RegisterRule::Undefined) if number == X86_64::RA.0 => return Row::Start,
                Some(RegisterRule::Undefined | RegisterRule::Architectural) => None,
                // What a function must preserve and says nothing of, it has not touched.
                None if number == X86_64::RA.0 => None,
                None | Some(RegisterRule::SameValue) => registers.get(number),
                Some(RegisterRule::Offset(offset)) => {
                    let place = frame.wrapping_add_signed(offset);
                    if number == X86_64::RA.0 {
                        at = Some(place);
                    }
                    read(place)
                }
                Some(RegisterRule::ValOffset(offset)) => Some(frame.wrapping_add_signed(offset)),
                Some(RegisterRule::Register(other)) => registers.get(other.0),
                Some(RegisterRule::Expression(expression)) => {
                    let place = self.evaluate(&expression, encoding, Some(frame), registers, read);
                    if number == X86_64::RA.0 {
                        at = place;
                    }
                    place.and_then(&mut *read)
                }
                Some(RegisterRule::ValExpression(expression)) => {
                    self.evaluate(&expression, encoding, Some(frame), registers, read)
                }
                Some(RegisterRule::Constant(value)) => Some(value),
            };
            caller.set(number, value);
        }
        if row.register(X86_64::RSP).is_none() {
            caller.set(X86_64::RSP.0, Some(frame));
        }
        Row::Caller(Box::new(Step { registers: caller, at }))
    }

    /// The value of an expression; `initial` is on its stack first.
    fn evaluate(
        &self,
        expression: &UnwindExpression<usize>,
        encoding: gimli::Encoding,
        initial: Option<u64>,
        registers: &Registers,
        read: &mut dyn FnMut(u64) -> Option<u64>,
    ) -> Option<u64> {
        let mut evaluation = expression.get(&self.frames).ok()?.evaluation(encoding);
        evaluation.set_max_iterations(MOST_STEPS);
        if let Some(initial) = initial {
            evaluation.set_initial_value(initial);
        }
        let mut result = evaluation.evaluate().ok()?;
        loop {
            result = match result {
                EvaluationResult::Complete => break,
                EvaluationResult::RequiresMemory { address, size: 8, .. } => {
                    evaluation.resume_with_memory(Value::Generic(read(address)?)).ok()?
                }
                EvaluationResult::RequiresRegister { register, .. } => {
                    evaluation.resume_with_register(Value::Generic(registers.get(register.0)?)).ok()?
                }
                _ => return None,
            };
        }
        match evaluation.as_result().first()?.location {
            gimli::Location::Address { address } => Some(address),
            _ => None,
        }
    }
}

impl std::fmt::Debug for Cfi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cfi").field("start", &self.start).finish_non_exhaustive()
    }
}
