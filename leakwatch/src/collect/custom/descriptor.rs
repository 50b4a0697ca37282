//! What the kernel side does at a named function, in its own terms.

use leakwatch_common::{
    AT_TASK, Action, INSTRUCTION_POINTER, ProbeDescriptor, Register, RuntimeKind, TaskSource, fact,
    task_source,
};
use leakwatch_inspect::function::{ARGUMENTS, Point, RESULT};

use super::{Base, FactAt, Invalid, Means, NamedFunction, TaskAt};

/// What must be noted at a function's entry because it is gone when the function returns.
pub(super) fn note_for(function: &NamedFunction) -> Option<NamedFunction> {
    let base = match function.task.base {
        Base::ArgumentAtReturn(number) => Base::Argument(number),
        // A caller is known at the return, too.
        _ if matches!(function.site, FactAt::Argument(_))
            || matches!(function.entry, FactAt::Argument(_)) =>
        {
            Base::Argument(1)
        }
        _ => return None,
    };
    Some(NamedFunction {
        means: Means::Note,
        task: TaskAt { base, word: false, offset: 0 },
        invalid: Invalid::default(),
        half: false,
        ..function.clone()
    })
}

/// Registers that must be intact at the entry.
pub(super) fn registers(function: &NamedFunction) -> Vec<u8> {
    let of = |number: u8| ARGUMENTS.get(usize::from(number).wrapping_sub(1)).copied();
    let fact = |fact: FactAt| match fact {
        FactAt::Argument(number) => of(number),
        _ => None,
    };
    let task = match function.task.base {
        Base::Argument(number) | Base::ArgumentAtReturn(number) => of(number),
        Base::Return => None,
    };
    task.into_iter().chain(fact(function.site)).chain(fact(function.entry)).collect()
}

/// What the kernel side does there. `point` is `None` for a return probe.
pub(super) fn descriptor(function: &NamedFunction, point: Option<&Point>) -> Result<ProbeDescriptor, String> {
    let argument = |number: u8| {
        ARGUMENTS.get(usize::from(number).wrapping_sub(1)).copied().ok_or_else(|| {
            format!("arg{number}: arguments are arg1 to arg6, those that are passed in registers")
        })
    };
    let mut source = TaskSource::Register as u8;
    let task_register = match function.task.base {
        Base::Argument(number) => argument(number)?,
        Base::Return => RESULT,
        Base::ArgumentAtReturn(_) => {
            source |= task_source::NOTED_TASK | task_source::NOTED_FACTS;
            RESULT
        }
    };
    let bits = [
        (function.task.word, task_source::MEMORY),
        (function.invalid.zero, task_source::NOT_ZERO),
        (function.invalid.minus_one, task_source::NOT_MINUS_ONE),
        (function.invalid.negative, task_source::NOT_NEGATIVE),
        (function.half, task_source::HALF),
    ];
    source |= bits.iter().filter(|(on, _)| *on).fold(0, |all, (_, bit)| all | bit);
    // An offset is applied by the same part of the kernel side; any bit leads there.
    if function.task.offset != 0 && source == TaskSource::Register as u8 {
        source |= task_source::OFFSET;
    }
    let at_return = !matches!(function.task.base, Base::Argument(_));
    let mut facts = Facts { register: AT_TASK, offset: 0, used: None };
    let mut place = |fact_at: FactAt| -> Result<u8, String> {
        match fact_at {
            FactAt::Nowhere => Ok(fact::NONE),
            FactAt::Noted => {
                source |= task_source::NOTED_FACTS;
                Ok(fact::NONE)
            }
            FactAt::Argument(number) if at_return => {
                argument(number)?;
                source |= task_source::NOTED_FACTS;
                Ok(fact::NONE)
            }
            FactAt::Argument(number) => Ok(fact::REGISTER + argument(number)?),
            FactAt::Caller => match point {
                None => Ok(fact::REGISTER + INSTRUCTION_POINTER),
                Some(point) => facts.word(Register::Rsp as u8, point.return_address),
            },
            FactAt::TaskWord(offset) => facts.word(AT_TASK, offset),
        }
    };
    let (site, entry) = (place(function.site)?, place(function.entry)?);
    Ok(ProbeDescriptor {
        action: match function.means {
            Means::Start => Action::Start as u8,
            Means::End => Action::EndFreed as u8,
            Means::Note => Action::Note as u8,
        },
        task_register,
        task_source: source,
        facts_register: facts.register,
        site,
        entry,
        runtime: RuntimeKind::Custom as u16,
        task_offset: function.task.offset,
        facts_offset: facts.offset,
    })
}

/// The one place in memory that facts are read from.
struct Facts {
    register: u8,
    offset: i32,
    used: Option<(u8, i32)>,
}

impl Facts {
    fn word(&mut self, register: u8, offset: i32) -> Result<u8, String> {
        let (base, first) = *self.used.get_or_insert((register, offset));
        self.register = base;
        self.offset = first;
        let into = offset.checked_sub(first).filter(|_| base == register);
        match into {
            Some(0) => Ok(0),
            Some(8) => Ok(1),
            Some(16) => Ok(2),
            _ => Err("site and entry cannot both be read from memory there; give one of them as argN or leave it out"
                .to_owned()),
        }
    }
}
