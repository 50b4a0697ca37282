//! Figures as people read them: counts, rates, durations, bytes. The only place that knows how.

/// A count with thousands separators and, unless it is empty, a noun that becomes plural with it.
///
/// `count(1, "task")` is `1 task`, `count(1234, "task")` is `1,234 tasks`, `count(1234, "")` is `1,234`.
pub fn count(number: u64, noun: &str) -> String {
    let digits = separated(&number.to_string());
    match (noun, number) {
        ("", _) => digits,
        (noun, 1) => format!("{digits} {noun}"),
        (noun, _) => format!("{digits} {}", plural(noun)),
    }
}

/// Plural of an English noun, as far as this program needs it.
fn plural(noun: &str) -> String {
    match noun.strip_suffix('s') {
        Some(_) => format!("{noun}es"),
        None => format!("{noun}s"),
    }
}

/// Puts a comma before every third digit of a whole number.
fn separated(digits: &str) -> String {
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A figure that need not be whole, with as many decimals as are worth reading: `0`, `0.04`, `3.2`, `312`, `1,234`.
pub fn figure(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() {
        return "?".to_owned();
    }
    let decimals = match size {
        0.005..0.95 => 2,
        0.95..99.95 => 1,
        _ => 0,
    };
    let text = format!("{size:.decimals$}");
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let fraction = fraction.trim_end_matches('0');
    let sign = if value < 0.0 && size >= 0.005 { "-" } else { "" };
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{sign}{}{point}{fraction}", separated(whole))
}

/// A change, with its sign: `+312`, `-3.2`, `0`.
pub fn signed_rate(value: f64) -> String {
    let text = figure(value);
    if value > 0.0 && text != "0" && text != "?" { format!("+{text}") } else { text }
}

/// A duration in its one or two largest units: `3us`, `12ms`, `4.2s`, `1m30s`, `12m`, `3h5m`, `2d4h`.
pub fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "?".to_owned();
    }
    if seconds < 59.95 {
        return short(seconds);
    }
    let whole = whole(seconds);
    let (big, big_unit, small, small_unit) = match whole {
        0..3_600 => (whole / 60, 'm', whole % 60, 's'),
        3_600..86_400 => (whole / 3_600, 'h', whole % 3_600 / 60, 'm'),
        _ => (whole / 86_400, 'd', whole % 86_400 / 3_600, 'h'),
    };
    // From ten of the larger unit on, the smaller one is not worth its place.
    if small == 0 || big >= 10 {
        return format!("{}{big_unit}", separated(&big.to_string()));
    }
    format!("{big}{big_unit}{small}{small_unit}")
}

/// A duration below a minute.
fn short(seconds: f64) -> String {
    let (value, unit) = if seconds >= 0.9995 {
        (seconds, "s")
    } else if seconds >= 0.000_999_5 {
        (seconds * 1e3, "ms")
    } else if seconds > 0.0 {
        (seconds * 1e6, "us")
    } else {
        return "0s".to_owned();
    };
    if value >= 9.95 {
        return format!("{value:.0}{unit}");
    }
    let text = format!("{value:.1}");
    format!("{}{unit}", text.strip_suffix(".0").unwrap_or(&text))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rounded, not negative; `as` saturates"
)]
const fn whole(value: f64) -> u64 {
    value.round() as u64
}

/// A number of bytes in binary units: `512 B`, `1.5 KiB`, `123 MiB`.
pub fn bytes(number: u64) -> String {
    bytes_signed(crate::model::float(number)).trim_start_matches('+').to_owned()
}

/// A change of bytes, with its sign.
pub fn bytes_signed(value: f64) -> String {
    if !value.is_finite() {
        return "?".to_owned();
    }
    let sign = match value {
        v if v <= -0.5 => "-",
        v if v >= 0.5 => "+",
        _ => "",
    };
    let mut size = value.abs();
    let mut unit = "B";
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        // 1023.5 would be printed as 1024.
        if size < 1_023.5 {
            break;
        }
        size /= 1_024.0;
        unit = next;
    }
    if unit == "B" || size >= 99.95 {
        return format!("{sign}{size:.0} {unit}");
    }
    let text = format!("{size:.1}");
    format!("{sign}{} {unit}", text.strip_suffix(".0").unwrap_or(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts() {
        let texts: Vec<String> = [0, 1, 12, 999, 1_000, 12_345, 1_234_567].map(|n| count(n, "task")).into();
        let expected =
            ["0 tasks", "1 task", "12 tasks", "999 tasks", "1,000 tasks", "12,345 tasks", "1,234,567 tasks"];
        assert_eq!(texts, expected);
        assert_eq!(count(2, "process"), "2 processes");
        assert_eq!(count(u64::MAX, ""), "18,446,744,073,709,551,615");
    }

    #[test]
    fn figures() {
        let cases = [
            (0.0, "0"),
            (0.004, "0"),
            (-0.004, "0"),
            (0.04, "0.04"),
            (0.5, "0.5"),
            (0.999, "1"),
            (3.21, "3.2"),
            (99.96, "100"),
            (312.4, "312"),
            (-1_234.5, "-1,234"),
            (f64::NAN, "?"),
        ];
        for (value, text) in cases {
            assert_eq!(figure(value), text, "{value}");
        }
        assert_eq!(signed_rate(3.0), "+3");
        assert_eq!(signed_rate(0.001), "0");
        assert_eq!(signed_rate(-2.5), "-2.5");
    }

    #[test]
    fn durations() {
        let cases = [
            (0.0, "0s"),
            (3e-6, "3us"),
            (0.012, "12ms"),
            (0.9999, "1s"),
            (4.25, "4.2s"),
            (9.96, "10s"),
            (42.0, "42s"),
            (59.99, "1m"),
            (90.0, "1m30s"),
            (754.0, "12m"),
            (11_100.0, "3h5m"),
            (187_200.0, "2d4h"),
            (1e9, "11,574d"),
            (-1.0, "?"),
            (f64::INFINITY, "?"),
        ];
        for (seconds, text) in cases {
            assert_eq!(duration(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn byte_sizes() {
        for (number, text) in
            [(0, "0 B"), (512, "512 B"), (1_536, "1.5 KiB"), (129_000_000, "123 MiB"), (1 << 30, "1 GiB")]
        {
            assert_eq!(bytes(number), text);
        }
        assert_eq!(bytes_signed(-2_097_152.0), "-2 MiB");
        assert_eq!(bytes_signed(1_048_570.0), "+1 MiB");
    }
}
