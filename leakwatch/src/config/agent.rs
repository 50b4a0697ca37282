//! The configuration of `leakwatch agent`: TOML to [`Options`]. `docs/agent.md` is for its users.
//!
//! One table holds every key with what it means, its default and how it is read: what is printed, what is allowed and what
//! errors say all come from it. The file is walked by hand, so that each error names its line.

use std::{net::SocketAddr, ops::Range, path::PathBuf};

use toml::de::{DeTable, DeValue};

use super::{
    error::{ConfigError, unknown},
    reader::Reader,
    rules::{self, Reads, RuleFile},
    values::{access, array, count, duration, flag, number, path, patterns, percent, runtime, string},
};
use crate::{
    agent::daemon::options::{Access, Options},
    alert::Kind,
    export::remote_write::Version,
    relay::Protocol,
};

/// Sections, in the order in which they are printed, and what they are about.
const SECTIONS: [(&str, &str); 9] = [
    (
        "http",
        "The server: the page at /, /metrics, /healthz, /readyz, /api/v1/{processes,report,events,alerts,hold}. Read at the start \
         only.",
    ),
    (
        "budget",
        "What watching may cost. Over it, probes are thinned, then taken off, and the figures say so.",
    ),
    ("discover", "Which processes are watched."),
    ("sampling", "How often processes are looked at."),
    ("promote", "Which processes get probes for a while: those that look as if they leaked."),
    (
        "redact",
        "What no answer, alert, metric or export may tell of the programs. Dumps, which are nothing else, are not made then. Read \
         at the start only.",
    ),
    ("export", "What is sent to others, besides being there for who asks. Read at the start only."),
    ("export.remote_write", "To a Prometheus, or whatever takes its remote write, through a queue on disk."),
    ("export.otlp", "To a receiver of the OpenTelemetry protocol: metrics, and a log record for each alert."),
];

/// What a key reads.
type Set = fn(&mut Options, &DeValue<'_>) -> Result<(), String>;

/// One key.
struct Key {
    section: &'static str,
    name: &'static str,
    /// As it is written.
    default: Default,
    /// What it means.
    doc: &'static str,
    set: Set,
}

/// What a key is when it is not written.
enum Default {
    /// As if this were written.
    Is(&'static str),
    /// Nothing; this is how it may look.
    Unset(&'static str),
}

const KEYS: &[Key] = &[
    Key {
        section: "http",
        name: "listen",
        default: Default::Is("\"127.0.0.1:9464\""),
        doc: "Where the server listens; \"off\": there is none.",
        set: |options, value| {
            let text = string(value)?;
            let address = text.parse::<SocketAddr>();
            options.http.listen = match (text, address) {
                ("off", _) => None,
                (_, Ok(address)) => Some(address),
                (_, Err(_)) => {
                    return Err(format!(
                        "an address and port such as \"127.0.0.1:9464\", or \"off\", not {text:?}"
                    ));
                }
            };
            Ok(())
        },
    },
    Key {
        section: "http",
        name: "tls_cert",
        default: Default::Unset("\"/etc/leakwatch/tls.crt\""),
        doc: "Certificate chain, PEM. With tls_key, the server speaks TLS and nothing else.",
        set: |options, value| set_tls(options, |tls, path| tls.0 = path, value),
    },
    Key {
        section: "http",
        name: "tls_key",
        default: Default::Unset("\"/etc/leakwatch/tls.key\""),
        doc: "Private key, PEM.",
        set: |options, value| set_tls(options, |tls, path| tls.1 = path, value),
    },
    Key {
        section: "http",
        name: "bearer_token_file",
        default: Default::Unset("\"/etc/leakwatch/token\""),
        doc: "A file with a token, or with `sha256:` and the token's hash in hexadecimal.",
        set: |options, value| {
            options.http.bearer_token_file = Some(path(value)?);
            Ok(())
        },
    },
    Key {
        section: "http",
        name: "basic_users_file",
        default: Default::Unset("\"/etc/leakwatch/users\""),
        doc: "A file with a line `name:sha256:HASH` for each user: the SHA-256 of the password in hexadecimal.",
        set: |options, value| {
            options.http.basic_users_file = Some(path(value)?);
            Ok(())
        },
    },
    Key {
        section: "http",
        name: "page",
        default: Default::Is("\"open\""),
        doc: "Who may have the page at /, by the same words as metrics. It says nothing of the machine by itself: what it \
              shows it asks for at /api/v1/.",
        set: |options, value| {
            options.http.page = access(value)?;
            Ok(())
        },
    },
    Key {
        section: "http",
        name: "metrics",
        default: Default::Is("\"open\""),
        doc: "Who may read /metrics: \"open\" everybody, \"local\" who asks from this machine or gives a token or password, \
              \"auth\" who gives one, \"off\" nobody.",
        set: |options, value| {
            options.http.metrics = access(value)?;
            Ok(())
        },
    },
    Key {
        section: "http",
        name: "api",
        default: Default::Is("\"local\""),
        doc: "Who may read /api/v1/processes, /api/v1/report and /api/v1/alerts, which have names of functions, files and \
              stacks; the same words.",
        set: |options, value| {
            options.http.api = access(value)?;
            Ok(())
        },
    },
    Key {
        section: "http",
        name: "hold",
        default: Default::Is("\"local\""),
        doc: "Who may ask /api/v1/hold, which names the alerts that hold; the same words.",
        set: |options, value| {
            options.http.hold = access(value)?;
            Ok(())
        },
    },
    Key {
        section: "http",
        name: "dump",
        default: Default::Is("\"auth\""),
        doc: "Who may have a dump of a watched process made by POST /api/v1/dump: \"auth\" who gives a token or password, from the \
              machine itself as well, \"off\" nobody.",
        set: |options, value| {
            options.http.dump = match access(value)? {
                access @ (Access::Auth | Access::Off) => access,
                _ => return Err("\"auth\" or \"off\": a dump has every stack of a process".to_owned()),
            };
            Ok(())
        },
    },
    Key {
        section: "http",
        name: "connections",
        default: Default::Is("64"),
        doc: "Connections at once; further ones wait.",
        set: |options, value| {
            options.http.connections = count(value, 1, 10_000)?;
            Ok(())
        },
    },
    Key {
        section: "http",
        name: "timeout",
        default: Default::Is("\"10s\""),
        doc: "How long a request may take from its first byte to the last of its answer.",
        set: |options, value| {
            options.http.timeout = duration(value)?;
            Ok(())
        },
    },
    Key {
        section: "budget",
        name: "host_percent",
        default: Default::Is("1.0"),
        doc: "Percent of the machine: the probes of all processes, and the agent itself.",
        set: |options, value| {
            options.budget.host_percent = percent(value)?;
            Ok(())
        },
    },
    Key {
        section: "budget",
        name: "process_percent",
        default: Default::Is("2.0"),
        doc: "Percent of one core that probes may add to a process.",
        set: |options, value| {
            options.budget.process_percent = percent(value)?;
            Ok(())
        },
    },
    Key {
        section: "budget",
        name: "period",
        default: Default::Is("\"1m\""),
        doc: "Over this time. Probes that cost more are on for a part of each such time, so that it is no more over all of it; where\n\
              that would be less than a tenth of the time, they are taken off.",
        set: |options, value| {
            options.budget.period = duration(value)?;
            Ok(())
        },
    },
    Key {
        section: "discover",
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
        section: "discover",
        name: "include",
        default: Default::Is("[]"),
        doc: "Only these; empty: all. A list of tables with one or more of comm, exe, cgroup, container (id), pod, namespace \
              (patterns of the whole text) and user (name or number). One must match, with all that it gives:\n\
              include = [{ exe = \"/usr/local/bin/.*\" }, { user = \"www-data\", comm = \"api-.*\" }]",
        set: |options, value| {
            options.discover.filter.include = patterns(value)?;
            Ok(())
        },
    },
    Key {
        section: "discover",
        name: "exclude",
        default: Default::Is("[]"),
        doc: "None of these, written as include is.",
        set: |options, value| {
            options.discover.filter.exclude = patterns(value)?;
            Ok(())
        },
    },
    Key {
        section: "discover",
        name: "rescan",
        default: Default::Is("\"10s\""),
        doc: "New programs are told of by the kernel. This often all processes are looked through for those it did not tell of.",
        set: |options, value| {
            options.discover.rescan = duration(value)?;
            Ok(())
        },
    },
    Key {
        section: "discover",
        name: "max_processes",
        default: Default::Is("1000"),
        doc: "Processes watched at once.",
        set: |options, value| {
            options.discover.most_processes = count(value, 1, 1023)?;
            Ok(())
        },
    },
    Key {
        section: "discover",
        name: "max_binaries",
        default: Default::Is("512"),
        doc: "Binaries of which it is remembered what is in them.",
        set: |options, value| {
            options.discover.most_binaries = count(value, 0, 100_000)?;
            Ok(())
        },
    },
    Key {
        section: "discover",
        name: "cache",
        default: Default::Is("\"/var/lib/leakwatch/binaries.cache\""),
        doc: "Where that is kept from one run to the next; \"off\": nowhere. Read at the start only.",
        set: |options, value| {
            let path = path(value)?;
            options.discover.cache = (path.as_os_str() != "off").then_some(path);
            Ok(())
        },
    },
    Key {
        section: "sampling",
        name: "interval",
        default: Default::Is("\"10s\""),
        doc: "Least time between two looks at a process.",
        set: |options, value| {
            options.sampling.interval = duration(value)?;
            Ok(())
        },
    },
    Key {
        section: "sampling",
        name: "stacks",
        default: Default::Is("true"),
        doc: "Read where tasks wait, too.",
        set: |options, value| {
            options.sampling.stacks = flag(value)?;
            Ok(())
        },
    },
    Key {
        section: "sampling",
        name: "cpu_percent",
        default: Default::Is("1.0"),
        doc: "Percent of one core that all looks together may take; where it would be more, they become rarer.",
        set: |options, value| {
            options.sampling.cpu_percent = percent(value)?;
            Ok(())
        },
    },
    Key {
        section: "promote",
        name: "enabled",
        default: Default::Is("true"),
        doc: "Place probes at all.",
        set: |options, value| {
            options.promote.enabled = flag(value)?;
            Ok(())
        },
    },
    Key {
        section: "promote",
        name: "at_once",
        default: Default::Is("4"),
        doc: "Processes with probes at once.",
        set: |options, value| {
            options.promote.at_once = count(value, 0, 1000)?;
            Ok(())
        },
    },
    Key {
        section: "promote",
        name: "growth_per_min",
        default: Default::Is("60.0"),
        doc: "A process whose live tasks grow by this many a minute gets probes, as one with a site that is suspect does.",
        set: |options, value| {
            options.promote.growth_per_min = number(value)?;
            Ok(())
        },
    },
    Key {
        section: "promote",
        name: "hold",
        default: Default::Is("\"5m\""),
        doc: "Probes stay for this long after nothing is suspicious any more.",
        set: |options, value| {
            options.promote.hold = duration(value)?;
            Ok(())
        },
    },
    Key {
        section: "promote",
        name: "longest",
        default: Default::Is("\"15m\""),
        doc: "And never longer than this.",
        set: |options, value| {
            options.promote.longest = duration(value)?;
            Ok(())
        },
    },
    Key {
        section: "promote",
        name: "rest",
        default: Default::Is("\"30m\""),
        doc: "A process gets none for this long after they were taken off.",
        set: |options, value| {
            options.promote.rest = duration(value)?;
            Ok(())
        },
    },
    Key {
        section: "redact",
        name: "symbols",
        default: Default::Is("false"),
        doc: "Names of functions, types and source files: hashes stand for the first two, the same name has the same one; \
              files and lines are left out. Rules that ask for a name have to ask for its hash.",
        set: |options, value| {
            options.redact.symbols = flag(value)?;
            Ok(())
        },
    },
    Key {
        section: "redact",
        name: "stacks",
        default: Default::Is("false"),
        doc: "Stacks, of waiting tasks and of those that made them, are left out; rules about stacks never fire then.",
        set: |options, value| {
            options.redact.stacks = flag(value)?;
            Ok(())
        },
    },
    Key {
        section: "redact",
        name: "key_file",
        default: Default::Unset("\"/etc/leakwatch/redact.key\""),
        doc: "A file with a secret that goes into the hashes, the same on all hosts. Without it, who has the program can try \
              its names.",
        set: |options, value| {
            options.redact.key_file = Some(path(value)?);
            Ok(())
        },
    },
    Key {
        section: "export",
        name: "interval",
        default: Default::Is("\"15s\""),
        doc: "Least time between two rounds; an alert that changes is sent at once.",
        set: |options, value| {
            options.export.interval = duration(value)?;
            Ok(())
        },
    },
    Key {
        section: "export.remote_write",
        name: "url",
        default: Default::Unset("\"http://localhost:9090/api/v1/write\""),
        doc: "Where to send to; without it, nothing is.",
        set: |options, value| {
            options.export.remote_write = Some(string(value)?.to_owned());
            Ok(())
        },
    },
    Key {
        section: "export.remote_write",
        name: "queue_dir",
        default: Default::Is("\"/var/lib/leakwatch/queue\""),
        doc: "Where what waits is kept, for this agent alone.",
        set: |options, value| {
            options.export.queue_dir = path(value)?;
            Ok(())
        },
    },
    Key {
        section: "export.remote_write",
        name: "queue_megabytes",
        default: Default::Is("512"),
        doc: "Most of it; beyond that the oldest is dropped, and counted.",
        set: |options, value| {
            options.export.queue_bytes = (count(value, 16, 1 << 20)? as u64) << 20;
            Ok(())
        },
    },
    Key {
        section: "export.remote_write",
        name: "protocol",
        default: Default::Is("\"1.0\""),
        doc: "\"1.0\", which every receiver takes, or \"2.0\", which is shorter.",
        set: |options, value| {
            options.export.version = match string(value)? {
                "1.0" => Version::V1,
                "2.0" => Version::V2,
                other => return Err(format!("\"1.0\" or \"2.0\", not {other:?}")),
            };
            Ok(())
        },
    },
    Key {
        section: "export.remote_write",
        name: "native_histograms",
        default: Default::Is("false"),
        doc: "Lifetimes as native histograms, too, for receivers that know them.",
        set: |options, value| {
            options.export.native_histograms = flag(value)?;
            Ok(())
        },
    },
    Key {
        section: "export.remote_write",
        name: "bearer_token_file",
        default: Default::Unset("\"/etc/leakwatch/remote-write.token\""),
        doc: "A file with the token that the receiver wants.",
        set: |options, value| {
            options.export.remote_write_token = Some(path(value)?);
            Ok(())
        },
    },
    Key {
        section: "export.otlp",
        name: "endpoint",
        default: Default::Unset("\"http://localhost:4318\""),
        doc: "Where to send to, for HTTP without /v1/metrics and /v1/logs; without it, nothing is.",
        set: |options, value| {
            options.export.otlp = Some(string(value)?.to_owned());
            Ok(())
        },
    },
    Key {
        section: "export.otlp",
        name: "protocol",
        default: Default::Is("\"http\""),
        doc: "\"http\" (port 4318 as a rule) or \"grpc\" (4317).",
        set: |options, value| {
            options.export.otlp_protocol = match string(value)? {
                "http" => Protocol::Http,
                "grpc" => Protocol::Grpc,
                other => return Err(format!("\"http\" or \"grpc\", not {other:?}")),
            };
            Ok(())
        },
    },
    Key {
        section: "export.otlp",
        name: "bearer_token_file",
        default: Default::Unset("\"/etc/leakwatch/otlp.token\""),
        doc: "A file with the token that the receiver wants.",
        set: |options, value| {
            options.export.otlp_token = Some(path(value)?);
            Ok(())
        },
    },
];

/// What a configuration says.
#[derive(Clone, Debug, std::default::Default)]
pub struct AgentFile {
    /// How the agent runs.
    pub options: Options,
    /// What to alert about, and what is done then.
    pub alarms: RuleFile,
}

/// Reads a configuration. `file` is what messages call it.
///
/// # Errors
/// Where it is wrong, and what is allowed there.
pub fn agent(file: &str, text: &str) -> Result<AgentFile, ConfigError> {
    let reader = Reader { file, text };
    let at = |span: &Range<usize>, what: &str| reader.error(span, what);
    let table = reader.table()?.into_inner();
    let mut options = Options::default();
    let alarms = rules::read(&reader, &table, Reads::Agent)?;
    for (name, section) in table {
        let top = SECTIONS.into_iter().map(|(name, _)| name).filter(|name| !name.contains('.'));
        if matches!(&**name.get_ref(), "rule" | "action") {
            continue;
        }
        let names: Vec<&str> = top.chain(["rule", "action"]).collect();
        if !names.contains(&&**name.get_ref()) {
            return Err(at(&name.span(), &unknown("section", name.get_ref(), &names)));
        }
        let DeValue::Table(keys) = section.get_ref() else {
            return Err(at(&section.span(), &format!("`{}` is a section: [{0}]", name.get_ref())));
        };
        read_section(&reader, name.get_ref(), keys, &mut options)?;
    }
    let whole = |what: &str| ConfigError::new(file, what);
    check(&options, &alarms).map_err(|what| whole(&what))?;
    Ok(AgentFile { options, alarms })
}

/// The keys of a section, and of the sections in it.
fn read_section(
    reader: &Reader<'_>,
    name: &str,
    keys: &DeTable<'_>,
    options: &mut Options,
) -> Result<(), ConfigError> {
    for (key, value) in keys {
        let inner = format!("{name}.{}", key.get_ref());
        if let DeValue::Table(keys) = value.get_ref()
            && SECTIONS.iter().any(|(section, _)| *section == inner)
        {
            read_section(reader, &inner, keys, options)?;
            continue;
        }
        let known = KEYS.iter().filter(|known| known.section == name);
        let Some(known) = known.clone().find(|known| *known.name == **key.get_ref()) else {
            let names: Vec<&str> = known.map(|known| known.name).collect();
            let kind = format!("key of [{name}]");
            return Err(reader.error(&key.span(), &unknown(&kind, key.get_ref(), &names)));
        };
        (known.set)(options, value.get_ref())
            .map_err(|allowed| reader.error(&value.span(), &format!("`{}` is {allowed}", known.name)))?;
    }
    Ok(())
}

/// What no key says alone.
fn check(options: &Options, alarms: &RuleFile) -> Result<(), String> {
    let http = &options.http;
    if let Some((cert, key)) = &http.tls
        && (cert.as_os_str().is_empty() || key.as_os_str().is_empty())
    {
        return Err("[http] tls_cert and tls_key go together: give both".to_owned());
    }
    let secret = http.bearer_token_file.is_some() || http.basic_users_file.is_some();
    let wants = [("page", http.page), ("metrics", http.metrics), ("api", http.api), ("hold", http.hold)];
    if let Some((name, _)) = wants.into_iter().find(|(_, access)| *access == Access::Auth && !secret) {
        return Err(format!(
            "[http] {name} = \"auth\" lets nobody in: give bearer_token_file or basic_users_file"
        ));
    }
    if options.promote.longest < options.promote.hold {
        return Err("[promote] longest is shorter than hold".to_owned());
    }
    if options.redact.any() && alarms.actions.iter().any(|action| matches!(action.kind, Kind::Dump(_))) {
        return Err(
            "an action makes dumps, which have what [redact] leaves out: remove one of them".to_owned()
        );
    }
    let unheard = alarms.actions.iter().find(
        |action| matches!(&action.kind, Kind::Hold(hold) if hold.file.is_none() && hold.listen.is_none()),
    );
    if let Some(action) = unheard
        && (http.listen.is_none() || http.hold == Access::Off)
    {
        return Err(format!(
            "nobody can ask the action `{}`: [http] does not answer /api/v1/hold; give it `file` or `listen`",
            action.name
        ));
    }
    Ok(())
}

/// All keys with what they mean, their defaults commented out.
pub fn agent_defaults() -> String {
    let mut lines = vec![
        "# Configuration of `leakwatch agent`. Every key is here, with its default behind a `#`.".to_owned(),
        "# SIGHUP has it read again; `leakwatch agent --check-config` says what is wrong with it.".to_owned(),
    ];
    for (section, about) in SECTIONS {
        lines.extend([String::new(), format!("# {about}"), format!("[{section}]")]);
        for key in KEYS.iter().filter(|key| key.section == section) {
            lines.extend(key.doc.lines().map(|line| format!("# {}", line.trim())));
            let value = match key.default {
                Default::Is(value) => value,
                Default::Unset(value) => {
                    lines.push("# Without a default; for example:".to_owned());
                    value
                }
            };
            lines.push(format!("#{} = {value}", key.name));
        }
    }
    lines.extend([
        String::new(),
        "# What to alert about, one [[rule]] each, and what is done then, one [[action]] each; without any, alerts are"
            .to_owned(),
        "# logged. docs/rules.md has their keys; `leakwatch rules` lists what comes with leakwatch. [[action]] is read at"
            .to_owned(),
        "# the start only. For example:".to_owned(),
        "#[[rule]]".to_owned(),
        "#preset = \"leak\"".to_owned(),
        "#[[rule]]".to_owned(),
        "#name = \"many-tasks\"".to_owned(),
        "#when = \"tasks.live > 1000 until 900\"".to_owned(),
        "#[[action]]".to_owned(),
        "#kind = \"webhook\"".to_owned(),
        "#url = \"http://localhost:9093\"".to_owned(),
        String::new(),
    ]);
    lines.join("\n")
}

fn set_tls(
    options: &mut Options,
    set: impl Fn(&mut (PathBuf, PathBuf), PathBuf),
    value: &DeValue<'_>,
) -> Result<(), String> {
    set(options.http.tls.get_or_insert_default(), path(value)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use leakwatch_common::RuntimeKind;

    use super::*;

    fn debug(options: &Options) -> String {
        format!("{options:?}")
    }

    fn read(text: &str) -> Options {
        agent("f", text).expect(text).options
    }

    #[test]
    fn what_is_printed_is_the_default() {
        let printed = agent_defaults();
        assert_eq!(debug(&read(&printed)), debug(&Options::default()));
        let is_set = |line: &str| {
            KEYS.iter().any(|key| {
                matches!(key.default, Default::Is(_)) && line.starts_with(&format!("#{} = ", key.name))
            })
        };
        let uncommented: Vec<&str> = printed
            .lines()
            .map(|line| if is_set(line) { line.trim_start_matches('#') } else { line })
            .collect();
        let written =
            uncommented.iter().filter(|line| line.contains(" = ") && !line.starts_with('#')).count();
        assert_eq!(written, KEYS.iter().filter(|key| matches!(key.default, Default::Is(_))).count());
        assert_eq!(debug(&read(&uncommented.join("\n"))), debug(&Options::default()));
    }

    #[test]
    fn dumps_and_redaction_exclude_each_other() {
        let dump =
            "[[rule]]\npreset = \"leak\"\n[[action]]\nkind = \"dump\"\ndir = \"/var/lib/leakwatch/dumps\"\n";
        assert!(agent("f", dump).is_ok());
        for key in ["symbols", "stacks"] {
            let error = agent("f", &format!("{dump}[redact]\n{key} = true\n")).expect_err("refused");
            assert!(error.to_string().contains("[redact]"), "{error}");
        }
    }

    #[test]
    fn examples_of_keys_without_a_default_are_right() {
        for key in KEYS {
            if let Default::Unset(example) = key.default {
                let text = match key.name {
                    "tls_cert" | "tls_key" => "[http]\ntls_cert = \"/c\"\ntls_key = \"/k\"".to_owned(),
                    name => format!("[{}]\n{name} = {example}", key.section),
                };
                assert_ne!(debug(&read(&text)), debug(&Options::default()), "{}", key.name);
            }
        }
        for (section, _) in SECTIONS {
            assert!(KEYS.iter().any(|key| key.section == section), "{section}");
        }
    }

    #[test]
    fn examples_of_rules_and_actions_are_right() {
        let printed = agent_defaults();
        let (_, examples) = printed.rsplit_once("For example:").expect("examples");
        let file = agent("f", &examples.replace("\n#", "\n")).expect(examples);
        assert_eq!((file.alarms.rules.len(), file.alarms.actions.len()), (2, 1));
    }

    #[test]
    fn a_whole_one() {
        let text = "
[http]
listen = \"[::1]:9000\"
bearer_token_file = \"/etc/token\"
metrics = \"auth\"
[budget]
host_percent = 3
[discover]
runtimes = [\"thread\"]
include = [{ comm = \"nats.*\", user = \"root\" }, { container = \"\" }]
exclude = [{ exe = \"/usr/bin/ssh\" }]
[sampling]
interval = \"1m 30s\"
";
        let options = read(text);
        assert_eq!(options.http.listen, Some("[::1]:9000".parse().expect("an address")));
        assert_eq!(options.http.metrics, Access::Auth);
        assert!((options.budget.host_percent - 3.0).abs() < 1e-9);
        assert_eq!(options.discover.runtimes, [RuntimeKind::Thread]);
        let [first, second] = &options.discover.filter.include[..] else { panic!("two") };
        assert_eq!(first.uid, Some(0));
        assert!(
            first.comm.as_ref().is_some_and(|comm| comm.is_match("nats-server") && !comm.is_match("a nats"))
        );
        assert!(second.container.as_ref().is_some_and(|container| container.is_match("")));
        assert_eq!(options.sampling.interval, Duration::from_secs(90));
    }

    #[track_caller]
    fn refused(text: &str, expect: &str) {
        let error = agent("agent.toml", text).expect_err("refused").to_string();
        assert_eq!(error, expect);
    }

    #[test]
    fn errors_name_the_line_and_what_is_allowed() {
        refused(
            "[http]\nlisten = 9464\n",
            "agent.toml:2: `listen` is a text in quotes, not of the type integer",
        );
        refused(
            "\n[http]\nlisten = \"localhost\"\n",
            "agent.toml:3: `listen` is an address and port such as \"127.0.0.1:9464\", or \"off\", not \"localhost\"",
        );
        refused(
            "[budget]\nhost_percnt = 1\n",
            "agent.toml:2: unknown key of [budget] `host_percnt` (did you mean `host_percent`?); there are host_percent, \
             process_percent, period",
        );
        refused(
            "[budgets]\n",
            "agent.toml:1: unknown section `budgets` (did you mean `budget`?); there are http, budget, discover, sampling, \
             promote, redact, export, rule, action",
        );
        refused(
            "[http]\nlisten = \"off\"\n[[action]]\nname = \"breaker\"\nkind = \"hold\"\n",
            "agent.toml: nobody can ask the action `breaker`: [http] does not answer /api/v1/hold; give it `file` or `listen`",
        );
        refused("budget = 1\n", "agent.toml:1: `budget` is a section: [budget]");
        refused(
            "[budget]\nhost_percent = 0\n",
            "agent.toml:2: `host_percent` is a percentage above 0 and up to 100, not 0",
        );
        refused(
            "[budget]\nhost_percent = nan\n",
            "agent.toml:2: `host_percent` is a number that is not negative, not nan",
        );
        refused(
            "[sampling]\ninterval = \"fast\"\n",
            "agent.toml:2: `interval` is a time such as \"10s\" or \"5m\", at least a tenth of a second, not \"fast\"",
        );
        refused(
            "[discover]\nruntimes = [\"java\"]\n",
            "agent.toml:2: `runtimes` is a list of \"go\", \"tokio\" and \"thread\", and there is \"java\" in it",
        );
        refused(
            "[discover]\ninclude = [{ com = \"x\" }]\n",
            "agent.toml:2: `include` is a list of tables; unknown key `com` (did you mean `comm`?); there are comm, exe, \
             cgroup, container, pod, namespace, user",
        );
        refused(
            "[discover]\nexclude = [{ user = \"nobody-at-all\" }]\n",
            "agent.toml:2: `exclude` is a list of tables, and there is no user \"nobody-at-all\" on this machine",
        );
        refused(
            "[http]\ntls_cert = \"/c\"\n",
            "agent.toml: [http] tls_cert and tls_key go together: give both",
        );
        refused(
            "[http]\napi = \"auth\"\n",
            "agent.toml: [http] api = \"auth\" lets nobody in: give bearer_token_file or basic_users_file",
        );
        refused("[promote]\nhold = \"1h\"\n", "agent.toml: [promote] longest is shorter than hold");
        refused(
            "[discover]\nmax_processes = 0\n",
            "agent.toml:2: `max_processes` is a whole number from 1 to 1023",
        );
        assert!(agent("f", "[http\n").expect_err("no TOML").to_string().starts_with("f:1: not TOML: "));
        assert!(
            agent("f", "[discover]\ninclude = [{ comm = \"(\" }]")
                .expect_err("no pattern")
                .to_string()
                .contains("comm")
        );
    }
}
