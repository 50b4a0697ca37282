//! `[discover]`: which processes are watched. It must never look at one; only users are looked up by their names.

use super::key::{Default, Key, Section};
use crate::config::values::{array, count, duration, label_keys, path, patterns, runtime};

/// Each is a label in the figures of every process.
const MOST_LABELS: usize = 16;

/// `[discover]`.
pub(super) const DISCOVER: Section = Section {
    name: "discover",
    about: "Which processes are watched.",
    keys: &[
        Key {
            name: "runtimes",
            default: Default::Is("[\"go\", \"tokio\"]"),
            doc: "Programs with one of these: \"go\", \"tokio\"; \"thread\" stands for all programs that have neither.",
            set: |options, value| {
                options.discover.runtimes =
                    array(value)?.iter().map(|one| runtime(one.get_ref())).collect::<Result<_, _>>()?;
                Ok(())
            },
        },
        Key {
            name: "include",
            default: Default::Is("[]"),
            doc: "Only these; empty: all. A list of tables with one or more of comm, exe, cgroup, container (id), image, pod, namespace \
              (patterns of the whole text), user (name or number) and pod_labels (a selector as Kubernetes has them, over the labels \
              that the pod was made with). One must match, with all that it gives:\n\
              include = [{ exe = \"/usr/local/bin/.*\" }, { user = \"www-data\", comm = \"api-.*\" }, \
              { pod_labels = \"app=web,tier notin (cache, test)\" }]",
            set: |options, value| {
                options.discover.filter.include = patterns(value)?;
                Ok(())
            },
        },
        Key {
            name: "exclude",
            default: Default::Is("[]"),
            doc: "None of these, written as include is.",
            set: |options, value| {
                options.discover.filter.exclude = patterns(value)?;
                Ok(())
            },
        },
        Key {
            name: "report_labels",
            default: Default::Is("[]"),
            doc: "Labels of pods that reports and metrics tell, by their keys, 16 at most: [\"app.kubernetes.io/name\", \"team\"]. \
              No others leave the agent. Of programs that are found from then on.",
            set: |options, value| {
                options.discover.labels = label_keys(value, MOST_LABELS)?;
                Ok(())
            },
        },
        Key {
            name: "rescan",
            default: Default::Is("\"10s\""),
            doc: "New programs are told of by the kernel. This often all processes are looked through for those it did not tell of.",
            set: |options, value| {
                options.discover.rescan = duration(value)?;
                Ok(())
            },
        },
        Key {
            name: "max_processes",
            default: Default::Is("1000"),
            doc: "Processes watched at once; the others wait until one of them ends. Each beyond 1023 takes half a kilobyte of the kernel's \
                  memory for each processor, also while there are fewer: more than 1023 are read at the start only.",
            set: |options, value| {
                options.discover.most_processes = count(value, 1, 16383)?;
                Ok(())
            },
        },
        Key {
            name: "max_binaries",
            default: Default::Is("512"),
            doc: "Binaries of which it is remembered what is in them.",
            set: |options, value| {
                options.discover.most_binaries = count(value, 0, 100_000)?;
                Ok(())
            },
        },
        Key {
            name: "cache",
            default: Default::Is("\"/var/lib/leakwatch/binaries.cache\""),
            doc: "Where that is kept from one run to the next; \"off\": nowhere.",
            set: |options, value| {
                let path = path(value)?;
                options.discover.cache = (path.as_os_str() != "off").then_some(path);
                Ok(())
            },
        },
    ],
};
