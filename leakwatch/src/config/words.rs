//! The words of the little languages: where a task is, where its site is, which versions. The same in flags and files.

use crate::collect::custom::{Base, FactAt, Invalid, Relation, TaskAt, Versions, numbers};

/// What `task` may be.
const TASK: &str = "it is argN (an argument, N from 1 to 6), ret (the result), argN+8 or argN-8 (computed), *argN or \
                    *argN+8 (the word in memory there); argN@ret and *argN@ret count once the function has returned 0";

/// What `site` and `entry` may be.
const FACT: &str = "it is caller (who called the function), argN (N from 1 to 6), *task+8 (the word in memory at the \
                    task's value), note (what a [[note]] function said), or none";

/// `task = "…"`.
pub(super) fn task(text: &str) -> Result<TaskAt, String> {
    let wrong = || format!("`{text}` is no place of a task: {TASK}");
    let compact: String = text.split_whitespace().collect();
    let (word, rest) = match compact.strip_prefix('*') {
        Some(rest) => (true, rest),
        None => (false, compact.as_str()),
    };
    let (rest, at_return) = match rest.strip_suffix("@ret") {
        Some(rest) => (rest, true),
        None => (rest, false),
    };
    let (base, offset) = with_offset(rest).ok_or_else(wrong)?;
    let base = match (base, at_return) {
        ("ret", false) => Base::Return,
        (argument, false) => Base::Argument(argument_number(argument).ok_or_else(wrong)?),
        (argument, true) => Base::ArgumentAtReturn(argument_number(argument).ok_or_else(wrong)?),
    };
    Ok(TaskAt { base, word, offset })
}

/// `site = "…"` and `entry = "…"`.
pub(super) fn fact(text: &str) -> Result<FactAt, String> {
    let wrong = || format!("`{text}` is no place of a site or entry: {FACT}");
    let compact: String = text.split_whitespace().collect();
    match compact.as_str() {
        "caller" => return Ok(FactAt::Caller),
        "none" => return Ok(FactAt::Nowhere),
        "note" => return Ok(FactAt::Noted),
        _ => {}
    }
    if let Some(rest) = compact.strip_prefix('*') {
        return match with_offset(rest) {
            Some(("task", offset)) => Ok(FactAt::TaskWord(offset)),
            _ => Err(wrong()),
        };
    }
    argument_number(&compact).map(FactAt::Argument).ok_or_else(wrong)
}

/// One of `invalid = [0, -1]`, or `negative`.
pub(super) fn invalid(text: &str, invalid: &mut Invalid) -> Result<(), String> {
    match text.trim() {
        "0" => invalid.zero = true,
        "-1" => invalid.minus_one = true,
        "negative" => invalid.negative = true,
        "none" => *invalid = Invalid::default(),
        _ => {
            return Err(format!(
                "`{text}` cannot be told from a task: values that are none may be 0, -1 and negative"
            ));
        }
    }
    Ok(())
}

/// `bits = 32`.
pub(super) fn is_half(bits: i64) -> Result<bool, String> {
    match bits {
        32 => Ok(true),
        64 => Ok(false),
        _ => Err(format!("{bits} is no width of a task: bits is 32 (an int) or 64 (a pointer)")),
    }
}

/// `versions = ">=3.8, <3.13"`.
pub(super) fn versions(text: &str) -> Result<Versions, String> {
    let wrong = |part: &str| {
        format!("`{part}` is no bound of a version: write such as \">=1.40, <2\" with the signs < <= > >= =")
    };
    let bounds: Result<Vec<_>, String> = text
        .split(',')
        .map(|part| {
            let part = part.trim();
            let (relation, version) = [
                ("<=", Relation::LessOrEqual),
                (">=", Relation::GreaterOrEqual),
                ("<", Relation::Less),
                (">", Relation::Greater),
                ("=", Relation::Equal),
            ]
            .into_iter()
            .find_map(|(sign, relation)| Some((relation, part.strip_prefix(sign)?)))
            .ok_or_else(|| wrong(part))?;
            let version = version.trim();
            let digits = version.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
            let bound = numbers(version).filter(|_| digits).ok_or_else(|| wrong(part))?;
            Ok((relation, bound))
        })
        .collect();
    Ok(Versions { written: text.to_owned(), bounds: bounds? })
}

/// `arg2` is 2.
fn argument_number(text: &str) -> Option<u8> {
    let number = text.strip_prefix("arg")?;
    let number: u8 = number.parse().ok().filter(|_| number.len() == 1)?;
    (1..=6).contains(&number).then_some(number)
}

/// `arg1+0x18` is `arg1` and 24.
fn with_offset(text: &str) -> Option<(&str, i32)> {
    let Some(at) = text.find(['+', '-']) else { return Some((text, 0)) };
    let (base, offset) = text.split_at_checked(at)?;
    let digits = offset.get(1..)?;
    let number = match digits.strip_prefix("0x") {
        Some(hex) => i32::from_str_radix(hex, 16).ok()?,
        None => digits.parse().ok()?,
    };
    // `parse` takes a second sign.
    let plain = digits.bytes().all(|byte| byte.is_ascii_alphanumeric());
    plain.then(|| (base, if offset.starts_with('-') { -number } else { number }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_tasks() {
        let is = |text: &str, base, word, offset| {
            assert_eq!(task(text), Ok(TaskAt { base, word, offset }), "{text}");
        };
        is("arg1", Base::Argument(1), false, 0);
        is("ret", Base::Return, false, 0);
        is(" arg2 - 0x10 ", Base::Argument(2), false, -16);
        is("*arg1+8", Base::Argument(1), true, 8);
        is("*arg1@ret", Base::ArgumentAtReturn(1), true, 0);
        is("arg2@ret", Base::ArgumentAtReturn(2), false, 0);
        is("*ret", Base::Return, true, 0);
        for wrong in [
            "",
            "arg0",
            "arg7",
            "arg",
            "arg12",
            "rax",
            "*",
            "arg1+",
            "arg1+-3",
            "arg1+9999999999",
            "*ret@ret",
        ] {
            assert!(task(wrong).expect_err(wrong).contains("it is argN"), "{wrong}");
        }
    }

    #[test]
    fn places_of_sites() {
        assert_eq!(fact("caller"), Ok(FactAt::Caller));
        assert_eq!(fact("arg3"), Ok(FactAt::Argument(3)));
        assert_eq!(fact("*task+16"), Ok(FactAt::TaskWord(16)));
        assert!(fact("*arg1").is_err() && fact("ret").is_err() && fact("").is_err());
    }

    #[test]
    fn bounds_of_versions() {
        let found = versions(">=3.8, <3.13").expect("two bounds");
        assert_eq!(found.hold_for("3.12.1"), Some(true));
        assert!(
            versions("3.8").is_err()
                && versions("").is_err()
                && versions(">=x").is_err()
                && versions("<1,").is_err()
        );
    }

    #[test]
    fn values_that_are_none() {
        let mut found = Invalid::default();
        for text in ["0", "-1", "negative"] {
            invalid(text, &mut found).expect("known");
        }
        assert_eq!(found, Invalid { zero: true, minus_one: true, negative: true });
        assert!(invalid("7", &mut found).is_err());
    }
}
