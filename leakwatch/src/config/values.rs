//! Values of the agent's configuration: what each kind may be, and what the error says where it is not.
//!
//! A reader answers with what is allowed; where that stands in the file is for whoever walks it. It must never look at a key.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

use jiff::SignedDuration;
use leakwatch_common::RuntimeKind;
use regex::Regex;
use toml::{Spanned, de::DeValue};

use super::{error::unknown, reader::bytes};
use crate::{
    agent::daemon::{filter::Pattern, options::Access, selector::Selector},
    export::metrics,
    host::{own, pods::is_label_key},
    http,
};

/// The largest program that a pattern may become.
const PATTERN_SIZE: usize = 1 << 20;

fn not(expected: &str, found: &DeValue<'_>) -> String {
    format!("{expected}, not of the type {}", found.type_str())
}

pub(super) fn string<'v>(value: &'v DeValue<'_>) -> Result<&'v str, String> {
    match value {
        DeValue::String(text) if !text.trim().is_empty() => Ok(text),
        DeValue::String(_) => Err("a text, and this one is empty".to_owned()),
        other => Err(not("a text in quotes", other)),
    }
}

pub(super) fn path(value: &DeValue<'_>) -> Result<PathBuf, String> {
    Ok(PathBuf::from(string(value)?))
}

/// An address that can be asked by HTTP.
pub(super) fn web_address(value: &DeValue<'_>) -> Result<String, String> {
    let text = string(value)?;
    http::url(text).map_err(|_why| {
        format!("an address such as \"http://host:9090/path\", or with https, not {text:?}")
    })?;
    Ok(text.to_owned())
}

pub(super) fn flag(value: &DeValue<'_>) -> Result<bool, String> {
    match value {
        DeValue::Boolean(flag) => Ok(*flag),
        other => Err(not("true or false", other)),
    }
}

pub(super) fn number(value: &DeValue<'_>) -> Result<f64, String> {
    let text = match value {
        DeValue::Integer(number) => number.as_str(),
        DeValue::Float(number) => number.as_str(),
        other => return Err(not("a number", other)),
    };
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite() && *number >= 0.0);
    number.ok_or_else(|| format!("a number that is not negative, not {text}"))
}

pub(super) fn percent(value: &DeValue<'_>) -> Result<f64, String> {
    let percent = number(value)?;
    if percent > 0.0 && percent <= 100.0 {
        return Ok(percent);
    }
    Err(format!("a percentage above 0 and up to 100, not {percent}"))
}

pub(super) fn count(value: &DeValue<'_>, least: usize, most: usize) -> Result<usize, String> {
    let allowed = format!("a whole number from {least} to {most}");
    match value {
        DeValue::Integer(number) => {
            let number = number.as_str().parse().ok();
            number.filter(|number| (least..=most).contains(number)).ok_or(allowed)
        }
        other => Err(not(&allowed, other)),
    }
}

pub(super) fn duration(value: &DeValue<'_>) -> Result<Duration, String> {
    const ALLOWED: &str = "a time such as \"10s\" or \"5m\"";
    let DeValue::String(text) = value else { return Err(not(ALLOWED, value)) };
    let parsed = text.parse::<SignedDuration>().ok().and_then(|time| Duration::try_from(time).ok());
    let parsed = parsed.filter(|time| *time >= Duration::from_millis(100));
    parsed.ok_or_else(|| format!("{ALLOWED}, at least a tenth of a second, not {text:?}"))
}

pub(super) fn size(value: &DeValue<'_>) -> Result<u64, String> {
    const ALLOWED: &str = "a size such as \"256MiB\" or \"2GiB\"";
    let DeValue::String(text) = value else { return Err(not(ALLOWED, value)) };
    bytes(text).ok_or_else(|| format!("{ALLOWED}, not {text:?}"))
}

pub(super) fn access(value: &DeValue<'_>) -> Result<Access, String> {
    match string(value)? {
        "open" => Ok(Access::Open),
        "local" => Ok(Access::Local),
        "auth" => Ok(Access::Auth),
        "off" => Ok(Access::Off),
        other => Err(format!("one of \"open\", \"local\", \"auth\", \"off\", not {other:?}")),
    }
}

pub(super) fn array<'v, 'i>(value: &'v DeValue<'i>) -> Result<&'v [Spanned<DeValue<'i>>], String> {
    match value {
        DeValue::Array(array) => Ok(array),
        other => Err(not("a list: [ … ]", other)),
    }
}

pub(super) fn runtime(value: &DeValue<'_>) -> Result<RuntimeKind, String> {
    let wanted = [RuntimeKind::Go, RuntimeKind::Tokio, RuntimeKind::Thread];
    let word = string(value).map_err(|what| format!("a list; in it is {what}"))?;
    wanted
        .into_iter()
        .find(|kind| kind.name() == word)
        .ok_or_else(|| format!("a list of \"go\", \"tokio\" and \"thread\", and there is {word:?} in it"))
}

pub(super) fn patterns(value: &DeValue<'_>) -> Result<Vec<Pattern>, String> {
    array(value)?.iter().map(|one| pattern(one.get_ref())).collect()
}

fn pattern(value: &DeValue<'_>) -> Result<Pattern, String> {
    const NAMES: [&str; 9] =
        ["comm", "exe", "cgroup", "container", "image", "pod", "namespace", "pod_labels", "user"];
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
        if name == "pod_labels" {
            pattern.labels = Some(selector(value)?);
            continue;
        }
        let place = match name {
            "comm" => &mut pattern.comm,
            "exe" => &mut pattern.exe,
            "cgroup" => &mut pattern.cgroup,
            "container" => &mut pattern.container,
            "image" => &mut pattern.image,
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

fn selector(value: &DeValue<'_>) -> Result<Selector, String> {
    let text = string(value).map_err(|what| format!("a list of tables; pod_labels is {what}"))?;
    Selector::parse(text).map_err(|what| format!("a list of tables; pod_labels is to have {what}"))
}

/// Keys of labels, `most` at most.
pub(super) fn label_keys(value: &DeValue<'_>, most: usize) -> Result<BTreeSet<String>, String> {
    let keys = array(value)?.iter().map(|one| {
        let key = string(one.get_ref()).map_err(|what| format!("a list; in it is {what}"))?;
        let known = is_label_key(key).then(|| key.to_owned());
        known.ok_or_else(|| {
            format!("a list of keys of labels such as \"app.kubernetes.io/name\", and there is {key:?} in it")
        })
    });
    let keys: BTreeSet<String> = keys.collect::<Result<_, _>>()?;
    if keys.len() > most {
        return Err(format!("a list of at most {most} keys, not {}", keys.len()));
    }
    let mut names = BTreeMap::new();
    for key in &keys {
        if let Some(other) = names.insert(metrics::of_pod(key), key) {
            return Err(format!(
                "a list of keys, and {other} and {key} would be one label in metrics: {}",
                metrics::of_pod(key)
            ));
        }
    }
    Ok(keys)
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
