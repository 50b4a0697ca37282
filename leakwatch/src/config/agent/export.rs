//! `[export]` and its sections: what is sent to others. It must never connect.

use super::key::{Default, Key, Section};
use crate::{
    config::values::{count, duration, flag, path, string, web_address},
    export::remote_write::Version,
    relay::Protocol,
};

/// `[export]`.
pub(super) const EXPORT: Section = Section {
    name: "export",
    about: "What is sent to others, besides being there for who asks.",
    keys: &[Key {
        name: "interval",
        default: Default::Is("\"15s\""),
        doc: "Least time between two rounds; an alert that changes is sent at once.",
        set: |options, value| {
            options.export.interval = duration(value)?;
            Ok(())
        },
    }],
};

/// `[export.remote_write]`.
pub(super) const REMOTE_WRITE: Section = Section {
    name: "export.remote_write",
    about: "To a Prometheus, or whatever takes its remote write, through a queue on disk.",
    keys: &[
        Key {
            name: "url",
            default: Default::Unset("\"http://localhost:9090/api/v1/write\""),
            doc: "Where to send to; without it, nothing is.",
            set: |options, value| {
                options.export.remote_write = Some(web_address(value)?);
                Ok(())
            },
        },
        Key {
            name: "queue_dir",
            default: Default::Is("\"/var/lib/leakwatch/queue\""),
            doc: "Where what waits is kept, for this agent alone.",
            set: |options, value| {
                options.export.queue_dir = path(value)?;
                Ok(())
            },
        },
        Key {
            name: "queue_megabytes",
            default: Default::Is("512"),
            doc: "Most of it; beyond that the oldest is dropped, and counted.",
            set: |options, value| {
                options.export.queue_bytes = (count(value, 16, 1 << 20)? as u64) << 20;
                Ok(())
            },
        },
        Key {
            name: "protocol",
            default: Default::Is("\"1.0\""),
            doc: "\"1.0\", which every receiver takes, or \"2.0\", which is shorter and tells since when counters count. Who knows no 2.0 gets 1.0.",
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
            name: "native_histograms",
            default: Default::Is("false"),
            doc: "Lifetimes as native histograms, too, for receivers that know them.",
            set: |options, value| {
                options.export.native_histograms = flag(value)?;
                Ok(())
            },
        },
        Key {
            name: "bearer_token_file",
            default: Default::Unset("\"/etc/leakwatch/remote-write.token\""),
            doc: "A file with the token that the receiver wants.",
            set: |options, value| {
                options.export.remote_write_token = Some(path(value)?);
                Ok(())
            },
        },
    ],
};

/// `[export.otlp]`.
pub(super) const OTLP: Section = Section {
    name: "export.otlp",
    about: "To a receiver of the OpenTelemetry protocol: metrics, and a log record for each alert.",
    keys: &[
        Key {
            name: "endpoint",
            default: Default::Unset("\"http://localhost:4318\""),
            doc: "Where to send to, for HTTP without /v1/metrics and /v1/logs; without it, nothing is.",
            set: |options, value| {
                options.export.otlp = Some(web_address(value)?);
                Ok(())
            },
        },
        Key {
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
            name: "bearer_token_file",
            default: Default::Unset("\"/etc/leakwatch/otlp.token\""),
            doc: "A file with the token that the receiver wants.",
            set: |options, value| {
                options.export.otlp_token = Some(path(value)?);
                Ok(())
            },
        },
    ],
};
