//! `leakwatch fleet`: the worst sites over all hosts, from the Prometheus that has the agents' metrics.

use std::time::Duration;

use anyhow::Context as _;

use super::{End, inspect::page, output::write_whole, startup::block_on};
use crate::{
    cli::{FleetArgs, TextOrJson},
    export,
    fleet::{self, Options},
    http::Authorization,
    text,
};

/// Asks, and prints.
///
/// # Errors
/// When Prometheus does not answer, or the result cannot be written.
pub(super) fn run(args: &FleetArgs) -> anyhow::Result<End> {
    let options = Options {
        prometheus: args.prometheus.clone(),
        authorization: Authorization::bearer_of(args.bearer_token_file.as_deref()),
        matching: args.matching.clone(),
        since: Duration::try_from(args.since).context("--since is a time")?,
        sites: args.sites,
        timeout: Duration::try_from(args.timeout).context("--timeout is a time")?,
    };
    let fleet = block_on(async { Ok(fleet::ask(&options).await?) })?;
    let printed = match args.format {
        TextOrJson::Text => text::fleet(&fleet, &page()),
        TextOrJson::Json => export::fleet_to_json(&fleet),
    };
    write_whole(args.output.as_deref(), &printed)
        .with_context(|| "cannot write the figures; choose another --output".to_owned())?;
    Ok(End::Done)
}
