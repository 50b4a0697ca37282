//! Families as text: Prometheus's format 0.0.4 and `OpenMetrics` 1.0.
//!
//! The formats: <https://prometheus.io/docs/instrumenting/exposition_formats/> and
//! <https://github.com/prometheus/OpenMetrics/blob/v1.0.0/specification/OpenMetrics.md>.

use super::{Definition, Family, Kind, Labels, Value};
use crate::report::float;

/// Which of the two.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Prometheus,
    OpenMetrics,
}

/// Prometheus's text.
pub(super) fn prometheus(families: &[Family]) -> String {
    families.iter().fold(String::new(), |mut out, one| {
        family(&mut out, one, Form::Prometheus);
        out
    })
}

/// `OpenMetrics`, with its last line.
pub(super) fn open_metrics(families: &[Family]) -> String {
    let mut out = families.iter().fold(String::new(), |mut out, one| {
        family(&mut out, one, Form::OpenMetrics);
        out
    });
    out.push_str("# EOF\n");
    out
}

fn family(out: &mut String, family: &Family, form: Form) {
    let Definition { name, kind, unit, help, .. } = *family.definition;
    let (title, word) = match (form, kind) {
        (Form::Prometheus, Kind::Info) => (name, "gauge"),
        (Form::OpenMetrics, Kind::Info) => (name.trim_end_matches("_info"), "info"),
        (Form::OpenMetrics, Kind::Counter) => (name.trim_end_matches("_total"), "counter"),
        _ => (name, kind.name()),
    };
    out.extend(["# HELP ", title, " "]);
    escape(out, help, form == Form::OpenMetrics);
    out.extend(["\n# TYPE ", title, " ", word, "\n"]);
    if let (Form::OpenMetrics, Some(unit)) = (form, unit) {
        out.extend(["# UNIT ", title, " ", unit, "\n"]);
    }
    for series in &family.series {
        match &series.value {
            Value::Number(value) => sample(out, name, "", &series.labels, None, *value),
            Value::Histogram(histogram) => {
                for (bound, count) in histogram.cumulative() {
                    let bound = number(bound);
                    sample(out, name, "_bucket", &series.labels, Some(&bound), float(count));
                }
                sample(out, name, "_sum", &series.labels, None, histogram.sum_s());
                let count = float(histogram.count());
                sample(out, name, "_count", &series.labels, None, count);
            }
        }
    }
}

fn sample(out: &mut String, name: &str, suffix: &str, labels: &Labels, bound: Option<&str>, value: f64) {
    out.extend([name, suffix]);
    let labels =
        labels.iter().map(|(name, value)| (&**name, &**value)).chain(bound.map(|bound| ("le", bound)));
    let mut opened = false;
    for (name, value) in labels {
        out.extend([if opened { "," } else { "{" }, name, "=\""]);
        escape(out, value, true);
        out.push('"');
        opened = true;
    }
    out.push_str(if opened { "} " } else { " " });
    out.push_str(&number(value));
    out.push('\n');
}

/// A number as both formats write it.
fn number(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf".to_owned() } else { "-Inf".to_owned() }
    } else {
        value.to_string()
    }
}

/// What may not stand in a help text or, with `quotes`, in a label's value.
fn escape(out: &mut String, text: &str, quotes: bool) {
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quotes => out.push_str("\\\""),
            other => out.push(other),
        }
    }
}
