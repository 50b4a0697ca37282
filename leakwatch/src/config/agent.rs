//! The configuration of `leakwatch agent`: TOML to [`Options`]. `docs/agent.md` is for its users.
//!
//! One table holds every key with what it means, its default and how it is read: what is printed, what is allowed and what
//! errors say all come from it. The file is walked by hand, so that each error names its line.

use std::{net::SocketAddr, ops::Range, path::PathBuf, time::Duration};

use jiff::SignedDuration;
use leakwatch_common::RuntimeKind;
use regex::Regex;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    error::{ConfigError, unknown},
    reader::Reader,
    rules::{self, Reads, RuleFile},
};
use crate::{
    agent::daemon::{
        filter::Pattern,
        options::{Access, Options},
    },
    alert::Kind,
    export::remote_write::Version,
    host::own,
    relay::Protocol,
};

/// The largest program that a pattern may become.
const PATTERN_SIZE: usize = 1 << 20;

/// Sections, in the order in which they are printed, and what they are about.
const SECTIONS: [(&str, &str); 8] = [
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

fn not(expected: &str, found: &DeValue<'_>) -> String {
    format!("{expected}, not of the type {}", found.type_str())
}

fn string<'v>(value: &'v DeValue<'_>) -> Result<&'v str, String> {
    match value {
        DeValue::String(text) if !text.trim().is_empty() => Ok(text),
        DeValue::String(_) => Err("a text, and this one is empty".to_owned()),
        other => Err(not("a text in quotes", other)),
    }
}

fn path(value: &DeValue<'_>) -> Result<PathBuf, String> {
    Ok(PathBuf::from(string(value)?))
}

fn set_tls(
    options: &mut Options,
    set: impl Fn(&mut (PathBuf, PathBuf), PathBuf),
    value: &DeValue<'_>,
) -> Result<(), String> {
    set(options.http.tls.get_or_insert_default(), path(value)?);
    Ok(())
}

fn flag(value: &DeValue<'_>) -> Result<bool, String> {
    match value {
        DeValue::Boolean(flag) => Ok(*flag),
        other => Err(not("true or false", other)),
    }
}

fn number(value: &DeValue<'_>) -> Result<f64, String> {
    let text = match value {
        DeValue::Integer(number) => number.as_str(),
        DeValue::Float(number) => number.as_str(),
        other => return Err(not("a number", other)),
    };
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite() && *number >= 0.0);
    number.ok_or_else(|| format!("a number that is not negative, not {text}"))
}

fn percent(value: &DeValue<'_>) -> Result<f64, String> {
    let percent = number(value)?;
    if percent > 0.0 && percent <= 100.0 {
        return Ok(percent);
    }
    Err(format!("a percentage above 0 and up to 100, not {percent}"))
}

fn count(value: &DeValue<'_>, least: usize, most: usize) -> Result<usize, String> {
    let allowed = format!("a whole number from {least} to {most}");
    match value {
        DeValue::Integer(number) => {
            let number = number.as_str().parse().ok();
            number.filter(|number| (least..=most).contains(number)).ok_or(allowed)
        }
        other => Err(not(&allowed, other)),
    }
}

fn duration(value: &DeValue<'_>) -> Result<Duration, String> {
    const ALLOWED: &str = "a time such as \"10s\" or \"5m\"";
    let DeValue::String(text) = value else { return Err(not(ALLOWED, value)) };
    let parsed = text.parse::<SignedDuration>().ok().and_then(|time| Duration::try_from(time).ok());
    let parsed = parsed.filter(|time| *time >= Duration::from_millis(100));
    parsed.ok_or_else(|| format!("{ALLOWED}, at least a tenth of a second, not {text:?}"))
}

fn access(value: &DeValue<'_>) -> Result<Access, String> {
    match string(value)? {
        "open" => Ok(Access::Open),
        "local" => Ok(Access::Local),
        "auth" => Ok(Access::Auth),
        "off" => Ok(Access::Off),
        other => Err(format!("one of \"open\", \"local\", \"auth\", \"off\", not {other:?}")),
    }
}

fn array<'v, 'i>(value: &'v DeValue<'i>) -> Result<&'v [Spanned<DeValue<'i>>], String> {
    match value {
        DeValue::Array(array) => Ok(array),
        other => Err(not("a list: [ … ]", other)),
    }
}

fn runtime(value: &DeValue<'_>) -> Result<RuntimeKind, String> {
    let wanted = [RuntimeKind::Go, RuntimeKind::Tokio, RuntimeKind::Thread];
    let word = string(value).map_err(|what| format!("a list; in it is {what}"))?;
    wanted
        .into_iter()
        .find(|kind| kind.name() == word)
        .ok_or_else(|| format!("a list of \"go\", \"tokio\" and \"thread\", and there is {word:?} in it"))
}

fn patterns(value: &DeValue<'_>) -> Result<Vec<Pattern>, String> {
    array(value)?.iter().map(|one| pattern(one.get_ref())).collect()
}

fn pattern(value: &DeValue<'_>) -> Result<Pattern, String> {
    const NAMES: [&str; 7] = ["comm", "exe", "cgroup", "container", "pod", "namespace", "user"];
    let DeValue::Table(table) = value else {
        return Err(not("a list of tables such as { comm = \"caddy\" }", value));
    };
    let mut pattern = Pattern::default();
    if table.is_empty() {
        return Err(format!("a list of tables, and one of them is empty; there are {}", NAMES.join(", ")));
    }
    for (name, value) in table {
        let name = &**name.get_ref();
        let value = value.get_ref();
        if name == "user" {
            pattern.uid = Some(user(value)?);
            continue;
        }
        let place = match name {
            "comm" => &mut pattern.comm,
            "exe" => &mut pattern.exe,
            "cgroup" => &mut pattern.cgroup,
            "container" => &mut pattern.container,
            "pod" => &mut pattern.pod,
            "namespace" => &mut pattern.namespace,
            other => return Err(format!("a list of tables; {}", unknown("key", other, &NAMES))),
        };
        *place = Some(regex(name, value)?);
    }
    Ok(pattern)
}

fn user(value: &DeValue<'_>) -> Result<u32, String> {
    let name = match value {
        DeValue::Integer(number) => number.as_str(),
        other => string(other).map_err(|what| format!("a list of tables; user is {what}"))?,
    };
    own::user_id(name)
        .ok_or_else(|| format!("a list of tables, and there is no user {name:?} on this machine"))
}

fn regex(name: &str, value: &DeValue<'_>) -> Result<Regex, String> {
    // An empty one means something: no container, say.
    let DeValue::String(text) = value else {
        return Err(format!("a list of tables; {name} is {}", not("a pattern in quotes", value)));
    };
    regex::RegexBuilder::new(&format!("^(?:{text})$"))
        .size_limit(PATTERN_SIZE)
        .build()
        .map_err(|error| format!("a list of tables; {name}: {}", error.to_string().replace('\n', " ")))
}

#[cfg(test)]
mod tests {
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
             promote, export, rule, action",
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
