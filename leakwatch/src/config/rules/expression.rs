//! The little language of conditions: `growth(tasks.live, 1m) > 50% and tasks.live > 1000 until 800`.

use super::super::error::nearest;
use super::super::reader::seconds;
use crate::rules::{
    Base, Condition, Figure, MOST_SAMPLES, Op, Per, Statistic, Term, Unit, VERDICTS, Window, figures,
};

/// Most conditions of one rule.
pub(super) const MOST_CONDITIONS: usize = 8;
/// Samples of a window about which nothing was said.
const SAMPLES: f64 = 30.0;
/// Most looks of `share`.
const MOST_LOOKS: u32 = 128;

/// Conditions that are joined by `and`.
///
/// # Errors
/// What is wrong, and what is allowed there.
pub(super) fn conditions(text: &str) -> Result<Vec<Condition>, String> {
    let mut parser = Parser { whole: text, at: 0 };
    let mut found = Vec::new();
    loop {
        found.push(parser.condition()?);
        if parser.rest().is_empty() {
            return Ok(found);
        }
        if found.len() == MOST_CONDITIONS {
            return Err(format!("more than {MOST_CONDITIONS} conditions in one rule"));
        }
        match parser.word() {
            "and" => {}
            "or" => return Err("there is no `or`: write two rules".to_owned()),
            _ => return Err(parser.expected("`and`, `until`, or the end")),
        }
    }
}

struct Parser<'a> {
    whole: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    /// What is left, without blanks before it.
    fn rest(&mut self) -> &'a str {
        let rest = self.whole.get(self.at..).unwrap_or_default();
        let trimmed = rest.trim_start();
        self.at += rest.len() - trimmed.len();
        trimmed
    }

    /// Takes the longest beginning of such characters; it may be empty.
    fn take(&mut self, is: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|character| !is(character)).unwrap_or(rest.len());
        self.at += end;
        rest.get(..end).unwrap_or_default()
    }

    fn word(&mut self) -> &'a str {
        self.take(|character| character.is_ascii_alphanumeric() || matches!(character, '_' | '.'))
    }

    /// Takes this text, if it is next.
    fn takes(&mut self, text: &str) -> bool {
        let is = self.rest().starts_with(text);
        if is {
            self.at += text.len();
        }
        is
    }

    /// Takes this word, if it is next.
    fn takes_word(&mut self, word: &str) -> bool {
        let before = self.at;
        let is = self.word() == word;
        if !is {
            self.at = before;
        }
        is
    }

    fn expected(&mut self, what: &str) -> String {
        /// Of a text that may be long.
        const SHOWN: usize = 40;
        let rest: String = self.rest().chars().take(SHOWN).collect();
        if rest.is_empty() {
            format!("it ends where {what} should be")
        } else {
            format!("{what} should be at `{rest}`")
        }
    }

    fn condition(&mut self) -> Result<Condition, String> {
        self.rest();
        let begin = self.at;
        let term = self.term()?;
        let written = self.whole.get(begin..self.at).unwrap_or_default();
        let written = written.split_whitespace().collect::<Vec<_>>().join(" ");
        let op = self.op()?;
        let unit = term.unit();
        let threshold = self.value(unit)?;
        let until = if self.takes_word("until") { Some(self.value(unit)?) } else { None };
        if let Some(until) = until {
            let fits = match op {
                Op::Above | Op::AtLeast => until <= threshold,
                Op::Below | Op::AtMost => until >= threshold,
                Op::Equal | Op::Differs => return Err(format!("`until` goes with < <= > >=, not with {op}")),
            };
            if !fits {
                return Err(format!(
                    "`until` is where it is over again: with {op} it is {} the threshold",
                    if matches!(op, Op::Above | Op::AtLeast) { "not above" } else { "not below" }
                ));
            }
        }
        Ok(Condition { term, op, threshold, until, written })
    }

    fn op(&mut self) -> Result<Op, String> {
        if self.takes("==") {
            return Ok(Op::Equal);
        }
        let found = Op::ALL.into_iter().find(|(text, _)| self.takes(text));
        found.map(|(_, op)| op).ok_or_else(|| self.expected("one of > >= < <= = !="))
    }

    fn figure(&mut self) -> Result<Figure, String> {
        let name = self.word();
        if name.is_empty() {
            return Err(self.expected("a figure such as tasks.live"));
        }
        Figure::named(name).ok_or_else(|| {
            let names: Vec<&str> = figures().map(Figure::name).collect();
            let meant =
                nearest(name, &names).map_or_else(String::new, |near| format!(" (did you mean `{near}`?)"));
            format!("unknown figure `{name}`{meant}; `leakwatch rules --figures` lists them")
        })
    }

    fn term(&mut self) -> Result<Term, String> {
        let before = self.at;
        let name = self.word();
        if !self.takes("(") {
            self.at = before;
            return self.figure().map(Term::Now);
        }
        let statistic = Statistic::ALL.into_iter().find(|(text, _)| *text == name);
        let term = match (statistic, name) {
            (Some((_, statistic)), _) => {
                let figure = self.numeric()?;
                if !self.takes(",") {
                    return Err(self.expected(&format!(
                        "a comma and the window's time, as in {name}({}, 1m)",
                        figure.name()
                    )));
                }
                let window = self.window()?;
                Term::Over(statistic, figure, window)
            }
            (None, "jump") => Term::Jump(self.numeric()?),
            (None, "share") => self.share()?,
            _ => {
                let names: Vec<&str> =
                    Statistic::ALL.iter().map(|(text, _)| *text).chain(["jump", "share"]).collect();
                return Err(super::super::error::unknown("function", name, &names));
            }
        };
        if !self.takes(")") {
            return Err(self.expected("`)`"));
        }
        Ok(term)
    }

    /// A figure that one can calculate with.
    fn numeric(&mut self) -> Result<Figure, String> {
        let figure = self.figure()?;
        if figure.unit().base == Base::Verdict {
            return Err("a verdict is compared as it is, or within share(…)".to_owned());
        }
        Ok(figure)
    }

    fn time(&mut self) -> Result<f64, String> {
        let text = self.take(|character| character.is_ascii_alphanumeric() || character == '.');
        let found = seconds(text).filter(|seconds| *seconds > 0.0);
        found.ok_or_else(|| format!("`{text}` is no time: write such as 30s or 5m"))
    }

    fn window(&mut self) -> Result<Window, String> {
        let seconds = self.time()?;
        let every_s = if self.takes(",") { self.time()? } else { seconds / SAMPLES };
        if every_s * 2.0 > seconds {
            return Err("samples of a window are at most half of it apart".to_owned());
        }
        if seconds / every_s > f64::from(MOST_SAMPLES) {
            return Err(format!(
                "a window has at most {MOST_SAMPLES} samples: write a longer time between them"
            ));
        }
        Ok(Window { seconds, every_s })
    }

    /// `share(stack.tasks >= 50, 10)`: of the last ten looks, or of ten that are so far apart.
    fn share(&mut self) -> Result<Term, String> {
        let figure = self.figure()?;
        let op = self.op()?;
        let with = self.value(figure.unit())?;
        if !self.takes(",") {
            return Err(self.expected("a comma and the number of looks, as in share(live > 50, 10)"));
        }
        let text = self.take(|character| character.is_ascii_digit());
        let looks = text.parse::<u32>().ok().filter(|looks| (1..=MOST_LOOKS).contains(looks));
        let looks = looks.ok_or_else(|| format!("`{text}` is no number of looks: 1 to {MOST_LOOKS}"))?;
        let every_s = if self.takes(",") { self.time()? } else { 0.0 };
        Ok(Term::Share { figure, op, with, looks, every_s })
    }

    /// A number with its unit, in the term's unit.
    fn value(&mut self, unit: Unit) -> Result<f64, String> {
        if unit.base == Base::Verdict {
            let word = self.word();
            let found = VERDICTS.into_iter().find(|(text, _)| *text == word);
            return found.map(|(_, number)| number).ok_or_else(|| {
                let words: Vec<&str> = VERDICTS.iter().map(|(text, _)| *text).collect();
                super::super::error::unknown("verdict", word, &words)
            });
        }
        let negative = self.takes("-");
        let digits = self.take(|character| character.is_ascii_digit() || matches!(character, '_' | '.'));
        let number = digits.replace('_', "").parse::<f64>().ok().filter(|number| number.is_finite());
        let number = number.ok_or_else(|| {
            if digits.is_empty() { self.expected("a number") } else { format!("`{digits}` is no number") }
        })?;
        // A unit is written without a blank before it.
        let rest = self.whole.get(self.at..).unwrap_or_default();
        let end =
            rest.find(|c: char| !(c.is_ascii_alphabetic() || matches!(c, '%' | '/'))).unwrap_or(rest.len());
        let suffix = rest.get(..end).unwrap_or_default();
        self.at += end;
        let (times, parts) = scale(suffix, unit).ok_or_else(|| {
            format!("`{digits}{suffix}` does not fit a figure in {unit}; write {}", allowed(unit))
        })?;
        // Divided, not multiplied with a fraction: 70% is 0.7 and not a little more.
        let value = number * times / parts;
        Ok(if negative { -value } else { value })
    }
}

/// What a number with this suffix is multiplied with, and then divided by, to be of this unit.
fn scale(suffix: &str, unit: Unit) -> Option<(f64, f64)> {
    let (base, per) = suffix.split_once('/').map_or((suffix, None), |(base, per)| (base, Some(per)));
    let (per_times, per_parts) = match (per, unit.per) {
        (None, _) => (1.0, 1.0),
        (Some(text), Some(unit)) => {
            let all = [Per::Second, Per::Minute, Per::Hour];
            let per = all.into_iter().find(|per| per.name().trim_start_matches('/') == text)?;
            (unit.seconds(), per.seconds())
        }
        (Some(_), None) => return None,
    };
    let (times, parts) = match (base, unit.base) {
        ("", _) | ("%", Base::Percent) | ("s", Base::Seconds) | ("B", Base::Bytes) => (1.0, 1.0),
        ("%", Base::Share) => (1.0, 100.0),
        ("ms", Base::Seconds) => (1.0, 1_000.0),
        ("m", Base::Seconds) => (60.0, 1.0),
        ("h", Base::Seconds) => (3_600.0, 1.0),
        ("k" | "kB", Base::Bytes) => (1e3, 1.0),
        ("MB", Base::Bytes) => (1e6, 1.0),
        ("GB", Base::Bytes) => (1e9, 1.0),
        ("KiB", Base::Bytes) => (1_024.0, 1.0),
        ("MiB", Base::Bytes) => (1_048_576.0, 1.0),
        ("GiB", Base::Bytes) => (1_073_741_824.0, 1.0),
        _ => return None,
    };
    Some((times * per_times, parts * per_parts))
}

/// How numbers of a unit may be written.
fn allowed(unit: Unit) -> String {
    let base = match unit.base {
        Base::Number | Base::Verdict => "5",
        Base::Seconds => "5, 5s, 5m, 5h or 5ms",
        Base::Bytes => "5, 5KiB, 5MiB, 5GiB, 5MB or 5GB",
        Base::Share => "0.5 or 50%",
        Base::Percent => "50 or 50%",
    };
    match unit.per {
        None => base.to_owned(),
        Some(_) => format!("{base}, each with /s, /min or /h"),
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "the numbers that were written")]
mod tests {
    use super::*;

    fn one(text: &str) -> Condition {
        let mut all = conditions(text).expect(text);
        assert_eq!(all.len(), 1, "{text}");
        all.remove(0)
    }

    #[track_caller]
    fn fails(text: &str, wanted: &str) {
        let error = conditions(text).expect_err(text);
        assert!(error.contains(wanted), "{error:?} has no {wanted:?}");
    }

    #[test]
    fn figures_and_thresholds() {
        let live = one("tasks.live>1_000 until 800");
        assert_eq!((live.op, live.threshold, live.until), (Op::Above, 1_000.0, Some(800.0)));
        assert_eq!(one("verdict >= suspect").threshold, 1.0);
        assert_eq!(one("tasks.drift < -5").threshold, -5.0);
        assert_eq!(one("memory.rss_bytes >= 1.5GiB").threshold, 1.5 * 1_073_741_824.0);
        assert_eq!(one("age_s.max > 10m").threshold, 600.0);
        assert_eq!(one("never_ending_share > 5%").threshold, 0.05);
        assert_eq!(one("stack.seen >= 70%").threshold, 0.7);
        assert_eq!(one("tasks.live == 3").op, Op::Equal);
    }

    #[test]
    fn units_are_those_of_the_term() {
        assert_eq!(one("tasks.start_rate_per_s > 300/min").threshold, 5.0);
        assert_eq!(one("tasks.growth_per_min > 1/s").threshold, 60.0);
        assert_eq!(one("rate(tasks.started, 1m) > 300/min").threshold, 5.0);
        assert_eq!(one("slope(memory.rss_bytes, 5m) > 1MiB/min").threshold, 1_048_576.0 / 60.0);
        assert_eq!(one("growth(tasks.live, 1m) > 50%").threshold, 50.0);
        fails("tasks.live > 5/s", "does not fit a figure in number; write 5");
        fails("memory.rss_bytes > 5%", "5MiB");
        fails("age_s.max > 5KiB", "does not fit a figure in seconds");
    }

    #[test]
    fn windows() {
        let Term::Over(Statistic::Deviation, figure, window) =
            one("stddev( tasks.live , 120s, 5s ) > 30").term
        else {
            panic!("a deviation");
        };
        assert_eq!((figure.name(), window), ("tasks.live", Window { seconds: 120.0, every_s: 5.0 }));
        assert_eq!(one("stddev( tasks.live , 120s,  5s ) > 30").written, "stddev( tasks.live , 120s, 5s )");
        let Term::Share { looks, with, .. } = one("share(stack.tasks >= 50, 10) >= 70%").term else {
            panic!("a share");
        };
        assert_eq!((looks, with), (10, 50.0));
        fails("slope(tasks.live) > 5", "a comma and the window's time");
        fails("slope(tasks.live, 1m, 50s) > 5", "at most half of it apart");
        fails("slope(tasks.live, 10m, 1s) > 5", "at most 240 samples");
        fails("slope(tasks.live, soon) > 5", "`soon` is no time");
        fails("slope(verdict, 1m) > 5", "a verdict is compared as it is");
        fails("share(live > 3, 0) > 5%", "`0` is no number of looks");
    }

    #[test]
    fn several() {
        let all = conditions("growth(tasks.live, 1m) > 50 and tasks.live > 1000").expect("two");
        assert_eq!(all.len(), 2);
        fails(&["live > 1"; 9].join(" and "), "more than 8 conditions");
    }

    #[test]
    fn errors_say_what_is_allowed() {
        fails("task.live > 5", "unknown figure `task.live` (did you mean `tasks.live`?)");
        fails("slop(live, 1m) > 5", "unknown function `slop` (did you mean `slope`?); there are change");
        fails("", "it ends where a figure");
        fails("live", "it ends where one of > >=");
        fails("live > ", "it ends where a number");
        fails("live > 5 or live < 3", "there is no `or`");
        fails("live > 5 live < 3", "`and`, `until`, or the end");
        fails("live > 5 until 6", "not above the threshold");
        fails("live = 5 until 6", "goes with < <= > >=");
        fails("verdict = lek", "unknown verdict `lek` (did you mean `leak`?)");
        fails("live > 1.2.3", "`1.2.3` is no number");
    }
}
