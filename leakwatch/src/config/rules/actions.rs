//! `[[action]]`: what is to be done, read and checked. Nothing is opened here.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    super::{
        ConfigError,
        error::unknown,
        reader::{Reader, bytes},
    },
    Reads,
    rule::level,
};
use crate::{
    alert::{Action, Command, Dump, Hold, Kind, Webhook},
    http,
};

const KINDS: [&str; 5] = ["webhook", "command", "dump", "log", "hold"];
const COMMON: [&str; 5] = ["name", "kind", "level", "per_minute", "resolved"];
const TRIED: [&str; 2] = ["attempts", "timeout"];

/// Reads one.
pub(super) fn action(
    reader: &Reader<'_>,
    value: &Spanned<DeValue<'_>>,
    who: Reads,
) -> Result<Action, ConfigError> {
    let DeValue::Table(table) = value.get_ref() else {
        return Err(reader.wrong_type(&value.span(), "action", "a table: [[action]]", value.get_ref()));
    };
    let Some((kind, span)) = reader.string(table, "kind")? else {
        let what = format!("[[action]] needs a `kind`: {}", KINDS.join(", "));
        return Err(reader.error(&value.span(), &what));
    };
    let whole = value.span();
    let known = |own: &[&str], tried: &[&str]| {
        let keys = [&COMMON[..], tried, own].concat();
        let article = if kind == "webhook" { "a webhook action" } else { &format!("a {kind} action") };
        reader.known(table, &format!("key of {article}"), &keys)
    };
    let mut action = Action::of(match kind.as_str() {
        "webhook" => {
            known(&["url", "resend", "bearer_token_file", "generator_url"], &TRIED)?;
            Kind::Webhook(webhook(reader, table, &whole)?)
        }
        "command" => {
            known(&["command"], &TRIED)?;
            let words = reader.strings(table, "command")?.unwrap_or_default();
            if words.is_empty() {
                let what = "a command action needs `command`: such as [\"/usr/local/bin/page\", \"--now\"]";
                return Err(reader.error(&whole, what));
            }
            Kind::Command(Command { command: words.into_iter().map(|(word, _)| word).collect() })
        }
        "dump" => {
            known(&["dir", "most_files", "most_bytes"], &TRIED)?;
            Kind::Dump(dump(reader, table, &whole)?)
        }
        "log" => {
            known(&[], &[])?;
            Kind::Log
        }
        "hold" => {
            known(&["file", "listen"], &[])?;
            Kind::Hold(hold(reader, table, &whole, who)?)
        }
        _ => return Err(reader.error(&span, &unknown("kind of action", &kind, &KINDS))),
    });
    if let Some((name, _)) = reader.string(table, "name")? {
        action.name = name;
    }
    if let Some((word, span)) = reader.string(table, "level")? {
        action.least = level(&word).map_err(|what| reader.error(&span, &what))?;
    }
    if let Some(number) = reader.within(table, "per_minute", (1, 10_000))? {
        action.per_minute = number;
    }
    if let Some(number) = reader.within(table, "attempts", (1, 20))? {
        action.attempts = number;
    }
    if let Some(seconds) = reader.seconds(table, "timeout", 0.01)? {
        action.timeout = Duration::from_secs_f64(seconds);
    }
    if let Some(on) = reader.boolean(table, "resolved")? {
        action.resolved = on;
    }
    Ok(action)
}

type Whole = std::ops::Range<usize>;

fn web_address(reader: &Reader<'_>, table: &DeTable<'_>, key: &str) -> Result<Option<String>, ConfigError> {
    let Some((text, span)) = reader.string(table, key)? else { return Ok(None) };
    if http::url(&text).is_err() {
        let what = format!("`{text}` is no address: it begins with http:// or https:// and a host");
        return Err(reader.error(&span, &what));
    }
    Ok(Some(text))
}

fn webhook(reader: &Reader<'_>, table: &DeTable<'_>, whole: &Whole) -> Result<Webhook, ConfigError> {
    let url = web_address(reader, table, "url")?.ok_or_else(|| {
        reader.error(whole, "a webhook action needs `url`: Alertmanager's, such as \"http://127.0.0.1:9093\"")
    })?;
    let resend = reader.seconds(table, "resend", 1.0)?;
    Ok(Webhook {
        url,
        resend: resend.map_or(Webhook::RESEND, Duration::from_secs_f64),
        bearer_token_file: reader.string(table, "bearer_token_file")?.map(|(path, _)| PathBuf::from(path)),
        generator_url: web_address(reader, table, "generator_url")?,
    })
}

fn dump(reader: &Reader<'_>, table: &DeTable<'_>, whole: &Whole) -> Result<Dump, ConfigError> {
    let Some((dir, _)) = reader.string(table, "dir")? else {
        return Err(reader.error(
            whole,
            "a dump action needs `dir`: a folder of its own, such as \"/var/lib/leakwatch/dumps\"",
        ));
    };
    let mut dump = Dump { dir: PathBuf::from(dir), ..Dump::default() };
    if let Some(number) = reader.within(table, "most_files", (2, 100_000))? {
        dump.most_files = number;
    }
    if let Some((text, span)) = reader.string(table, "most_bytes")? {
        dump.most_bytes = bytes(&text).ok_or_else(|| {
            reader.error(
                &span,
                &format!("`most_bytes = \"{text}\"`: write a size such as \"256MiB\" or \"2GiB\""),
            )
        })?;
    }
    Ok(dump)
}

fn hold(reader: &Reader<'_>, table: &DeTable<'_>, whole: &Whole, who: Reads) -> Result<Hold, ConfigError> {
    let file = reader.string(table, "file")?.map(|(path, _)| PathBuf::from(path));
    let listen = match reader.string(table, "listen")? {
        None => None,
        Some((text, span)) => {
            let address = text.parse::<SocketAddr>().map_err(|_no_address| {
                reader.error(
                    &span,
                    &format!("`{text}` is no address to listen on: write such as \"127.0.0.1:9465\""),
                )
            })?;
            // Whoever can reach it learns what runs here and what is wrong with it.
            if !address.ip().is_loopback() {
                let what = format!("`{text}`: hold answers on loopback only, such as 127.0.0.1 or [::1]");
                return Err(reader.error(&span, &what));
            }
            Some(address)
        }
    };
    if file.is_none() && listen.is_none() && who == Reads::Command {
        let what = "a hold action needs `file`, `listen`, or both";
        return Err(reader.error(whole, what));
    }
    Ok(Hold { file, listen })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::alerting::Level;

    fn read(text: &str) -> Result<Action, String> {
        let text = format!("[[action]]\n{text}");
        super::super::parse("f", &text)
            .map(|mut file| file.actions.remove(0))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn every_kind() {
        let webhook = read(
            "kind = \"webhook\"\nurl = \"https://am:9093\"\nresend = \"30s\"\nattempts = 7\ntimeout = \"3s\"",
        )
        .expect("a webhook");
        assert_eq!(
            (webhook.name.as_str(), webhook.attempts, webhook.timeout),
            ("webhook", 7, Duration::from_secs(3))
        );
        assert!(matches!(&webhook.kind, Kind::Webhook(hook) if hook.resend == Duration::from_secs(30)));
        let command =
            read("kind = \"command\"\ncommand = [\"/bin/page\", \"-x\"]\nlevel = \"P0\"").expect("a command");
        assert!(matches!(&command.kind, Kind::Command(command) if command.command == ["/bin/page", "-x"]));
        assert_eq!(command.least, Level::P0);
        let dump =
            read("kind = \"dump\"\ndir = \"/d\"\nmost_files = 4\nmost_bytes = \"1MiB\"").expect("a dump");
        assert!(matches!(&dump.kind, Kind::Dump(dump) if (dump.most_files, dump.most_bytes) == (4, 1 << 20)));
        assert!(!dump.resolved, "nobody wants a dump of what is over");
        let hold = read("kind = \"hold\"\nfile = \"/run/hold\"\nlisten = \"127.0.0.1:0\"").expect("a hold");
        assert!(matches!(&hold.kind, Kind::Hold(hold) if hold.listen.is_some()));
        assert!(matches!(read("kind = \"log\"").expect("a log").kind, Kind::Log));
    }

    #[test]
    fn what_is_missing_or_wrong() {
        let fails = |text: &str, wanted: &str| {
            let error = read(text).expect_err(text);
            assert!(error.contains(wanted), "{error:?} has no {wanted:?}");
        };
        fails("name = \"x\"", "f:1: [[action]] needs a `kind`: webhook, command");
        fails("kind = \"webhook\"", "a webhook action needs `url`");
        fails("kind = \"webhook\"\nurl = \"http://\"", "f:3: `http://` is no address");
        fails("kind = \"command\"", "a command action needs `command`");
        fails("kind = \"dump\"", "a dump action needs `dir`");
        fails("kind = \"dump\"\ndir = \"d\"\nmost_bytes = \"9\"", "write a size such as");
        fails("kind = \"hold\"", "needs `file`, `listen`, or both");
        fails("kind = \"hold\"\nlisten = \"0.0.0.0:1\"", "hold answers on loopback only");
        fails("kind = \"hold\"\nlisten = \"9465\"", "no address to listen on");
        fails("kind = \"log\"\nper_minute = 0", "`per_minute` is a number from 1 to 10000");
        fails("kind = \"log\"\ntimeout = \"1s\"", "unknown key of a log action `timeout`");
    }
}
