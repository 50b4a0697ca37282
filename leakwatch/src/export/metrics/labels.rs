//! Labels of processes and sites: foreign names made harmless, short, and shared.

use std::sync::Arc;

use super::Labels;
use crate::export::safe::unsafe_to_show;
use crate::report::{ProcessReport, SiteReport};

/// The name under which whatever has no series of its own is summed up.
pub const OTHER: &str = "(other)";

/// A foreign text as the value of a label: on one line, without what a terminal takes for a command, of at most `most`
/// characters; longer ones lose their middle, because names begin with the package and end with the line.
pub(super) fn value(text: &str, most: usize) -> Arc<str> {
    // Bounded before it is looked at: a name may be of any length.
    let mut safe = String::new();
    for character in middle_out(text, most).chars() {
        match character {
            '\n' => safe.push_str("\\n"),
            '\t' => safe.push_str("\\t"),
            _ if character.is_control() || unsafe_to_show(character) => {
                safe.extend(character.escape_unicode());
            }
            _ => safe.push(character),
        }
    }
    middle_out(&safe, most).into()
}

fn middle_out(text: &str, most: usize) -> String {
    if text.len() <= most || text.chars().nth(most).is_none() {
        return text.to_owned();
    }
    let room = most.saturating_sub(1);
    let head: String = text.chars().take(room / 2).collect();
    let mut tail: Vec<char> = text.chars().rev().take(room - room / 2).collect();
    tail.reverse();
    head + "…" + &String::from_iter(tail)
}

/// Labels of a process, without a runtime.
pub(super) fn process(process: &ProcessReport, most: usize) -> Labels {
    let pod = process.pod.as_ref();
    let mut labels = Labels::new();
    push(&mut labels, "pid", Some(&process.pid.to_string()), most);
    push(&mut labels, "comm", Some(&process.comm), most);
    push(&mut labels, "exe", process.exe.as_deref(), most);
    push(&mut labels, "container", process.container.as_ref().map(|container| container.id.as_str()), most);
    push(&mut labels, "namespace", pod.and_then(|pod| pod.namespace.as_deref()), most);
    push(&mut labels, "pod", pod.and_then(|pod| pod.name.as_deref()), most);
    labels
}

/// The labels of a process with a runtime, which stands after the executable.
pub(super) fn with_runtime(process: &Labels, runtime: &str, most: usize) -> Labels {
    let mut labels = process.clone();
    let place = labels.iter().position(|(name, _)| matches!(&**name, "container" | "namespace" | "pod"));
    let place = place.unwrap_or(labels.len());
    if !runtime.is_empty() {
        labels.insert(place, ("runtime".into(), value(runtime, most)));
    }
    labels
}

/// What a site adds to the labels of its process and runtime.
pub(super) fn site(site: &SiteReport, most: usize) -> Labels {
    let mut labels = Labels::new();
    push(&mut labels, "function", site.function.as_deref(), most);
    push(&mut labels, "file", site.file.as_deref(), most);
    push(&mut labels, "line", site.line.map(|line| line.to_string()).as_deref(), most);
    push(&mut labels, "task", site.task.as_deref(), most);
    labels
}

/// Adds a label that has a value: an empty one and none are the same to a scraper.
pub(super) fn push(labels: &mut Labels, name: &'static str, text: Option<&str>, most: usize) {
    if let Some(text) = text.filter(|text| !text.is_empty()) {
        labels.push((name.into(), value(text, most)));
    }
}

/// The label that a pod's label with this key is, in the form of kube-state-metrics: `label_app_kubernetes_io_name`.
pub fn of_pod(key: &str) -> String {
    let sign = |sign: char| if sign.is_ascii_alphanumeric() { sign } else { '_' };
    "label_".chars().chain(key.chars().map(sign)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn long_names_keep_both_ends() {
        assert_eq!(&*value("github.com/a/b.(*Server).accept", 11), "githu…ccept");
        assert_eq!(&*value("short", 11), "short");
    }

    proptest! {
        #[test]
        fn values_are_short_and_harmless(text in any::<String>(), most in 4usize..300) {
            let value = value(&text, most);
            prop_assert!(value.chars().count() <= most);
            prop_assert!(!value.chars().any(char::is_control));
        }
    }
}
