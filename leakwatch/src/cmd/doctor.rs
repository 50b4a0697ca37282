//! `leakwatch doctor`: can this kernel and this user run it.

use std::io::Write;

use super::{End, inspect::page};
use crate::{
    cli::{DoctorArgs, TextOrJson},
    export,
    host::features::{self, Finding, Status},
    report::machine::{Fitness, Machine, MachineFinding},
    text,
};

/// Prints each finding with its fix.
///
/// # Errors
/// When `out` fails.
pub fn run(args: &DoctorArgs, out: &mut dyn Write) -> anyhow::Result<End> {
    let machine = Machine { findings: features::check().into_iter().map(finding).collect() };
    let printed = match args.format {
        TextOrJson::Text => text::machine(&machine, &page()),
        TextOrJson::Json => export::machine_to_json(&machine),
    };
    out.write_all(printed.as_bytes())?;
    out.flush()?;
    Ok(if machine.count(Fitness::Fail) == 0 { End::Done } else { End::Unfit })
}

fn finding(finding: Finding) -> MachineFinding {
    MachineFinding {
        name: finding.name.to_owned(),
        fitness: match finding.status {
            Status::Ok => Fitness::Ok,
            Status::Warn => Fitness::Warn,
            Status::Fail => Fitness::Fail,
        },
        found: finding.found,
        fix: finding.fix,
    }
}
