//! `[http]`: the keys of the agent's server, and what none of them says alone. It must never read a file that a key names.

use std::{net::SocketAddr, path::PathBuf};

use toml::de::DeValue;

use super::key::{Default, Key, Section};
use crate::{
    agent::daemon::options::{Access, Http, Options},
    config::values::{access, count, duration, path, string},
};

/// `[http]`.
pub(super) const HTTP: Section = Section {
    name: "http",
    about: "The server: the page at /, /metrics, /healthz, /readyz, /api/v1/{processes,report,events,alerts,hold}. Of its keys \
         listen, connections and timeout are read at the start only.",
    keys: &[
        Key {
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
            name: "tls_cert",
            default: Default::Unset("\"/etc/leakwatch/tls.crt\""),
            doc: "Certificate chain, PEM. With tls_key, the server speaks TLS and nothing else.",
            set: |options, value| set_tls(options, |tls, path| tls.0 = path, value),
        },
        Key {
            name: "tls_key",
            default: Default::Unset("\"/etc/leakwatch/tls.key\""),
            doc: "Private key, PEM.",
            set: |options, value| set_tls(options, |tls, path| tls.1 = path, value),
        },
        Key {
            name: "bearer_token_file",
            default: Default::Unset("\"/etc/leakwatch/token\""),
            doc: "A file with a token, or with `sha256:` and the token's hash in hexadecimal.",
            set: |options, value| {
                options.http.bearer_token_file = Some(path(value)?);
                Ok(())
            },
        },
        Key {
            name: "basic_users_file",
            default: Default::Unset("\"/etc/leakwatch/users\""),
            doc: "A file with a line `name:sha256:HASH` for each user: the SHA-256 of the password in hexadecimal.",
            set: |options, value| {
                options.http.basic_users_file = Some(path(value)?);
                Ok(())
            },
        },
        Key {
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
            name: "hold",
            default: Default::Is("\"local\""),
            doc: "Who may ask /api/v1/hold, which names the alerts that hold; the same words.",
            set: |options, value| {
                options.http.hold = access(value)?;
                Ok(())
            },
        },
        Key {
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
            name: "connections",
            default: Default::Is("64"),
            doc: "Connections at once; further ones wait.",
            set: |options, value| {
                options.http.connections = count(value, 1, 10_000)?;
                Ok(())
            },
        },
        Key {
            name: "timeout",
            default: Default::Is("\"10s\""),
            doc: "How long a request may take from its first byte to the last of its answer.",
            set: |options, value| {
                options.http.timeout = duration(value)?;
                Ok(())
            },
        },
    ],
};

/// What no key says alone.
pub(super) fn check(http: &Http) -> Result<(), String> {
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
    Ok(())
}

fn set_tls(
    options: &mut Options,
    set: impl Fn(&mut (PathBuf, PathBuf), PathBuf),
    value: &DeValue<'_>,
) -> Result<(), String> {
    set(options.http.tls.get_or_insert_default(), path(value)?);
    Ok(())
}
