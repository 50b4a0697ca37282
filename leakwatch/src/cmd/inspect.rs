//! `leakwatch inspect`: what leakwatch sees in a binary.

use std::{
    io::{self, IsTerminal as _, Write},
    sync::Arc,
};

use super::{output::colour, progress::Progress, startup::named};
use crate::{
    cli::{InspectArgs, RuntimeArgs, TextOrJson},
    collect::{
        CollectError, Place, Runtime,
        custom::{self, Named},
    },
    export,
    host::{Process, ProcessMemory},
    images::{Image, Modules},
    report::binary::{Binary, BinaryRuntime, Probe},
    text,
};

/// Prints what is known of a binary, or of the binary that a process runs.
///
/// # Errors
/// When it cannot be opened or is no ELF file that leakwatch reads, or `out` fails. A binary without a runtime that
/// leakwatch knows is not an error.
pub fn run(args: &InspectArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let binary = match (args.pid, &args.binary) {
        (Some(pid), _) => of_process(pid, &args.runtime)?,
        (None, Some(_)) if !named(&args.runtime)?.is_empty() => {
            return Err(super::Usage(
                "a runtime that is named is looked for in a process and its libraries: give --pid PID"
                    .to_owned(),
            )
            .into());
        }
        (None, Some(path)) => {
            let _reading = Progress::begin(&format!("reading {}", path.display()));
            Binary::of(&Image::of_file(path)?, None)
        }
        (None, None) => return Err(super::Usage("give a BINARY or --pid PID".to_owned()).into()),
    };
    let printed = match args.format {
        TextOrJson::Text => text::binary(&binary, &page()),
        TextOrJson::Json => export::binary_to_json(&binary),
    };
    out.write_all(printed.as_bytes())?;
    Ok(out.flush()?)
}

fn of_process(pid: u32, runtime: &RuntimeArgs) -> anyhow::Result<Binary> {
    let runtimes = named(runtime)?;
    let process = Process::open(pid)?;
    let _reading = Progress::begin(&format!("reading {}", process.exe().path.display()));
    let image = Image::of_process(&process)?;
    let mut binary = Binary::of(&image, Some(pid));
    if process.exe().deleted {
        binary.problems.push(
            "the file was deleted or replaced since the process started; this is the one that runs"
                .to_owned(),
        );
    }
    // Its memory says whether probes would sit where the file says. Not being able to look is a finding, too.
    match ProcessMemory::open(&process) {
        Ok(memory) => binary.problems.extend(image.check_sites(&memory).into_iter().map(|problem| problem.0)),
        Err(error) => binary.problems.push(error.to_string()),
    }
    let plans = plans_of(&process, &image, &runtimes)?;
    binary.runtimes.extend(plans.iter().map(probes_of));
    Ok(binary)
}

/// The plans of runtimes that were named.
///
/// # Errors
/// When the process cannot be read, or one of them is not in it.
pub(super) fn plans_of(
    process: &Process,
    image: &Image,
    named: &[Arc<Named>],
) -> anyhow::Result<Vec<Runtime>> {
    if named.is_empty() {
        return Ok(Vec::new());
    }
    let memory = ProcessMemory::open(process)?;
    let modules = Modules::of_process(process)?;
    let plans = custom::plan_all(named, &modules, image.inspection(), image.path(), &memory);
    Ok(plans.map_err(|why| CollectError::Named { pid: process.pid(), why })?)
}

/// Where the probes of a runtime that was named would be.
fn probes_of(plan: &Runtime) -> BinaryRuntime {
    let probe = |place: &Place| Probe {
        action: place.means,
        function: format!("{} of {}", place.function, place.file),
        address: place.address,
        file_offset: place.file_offset,
        instruction: place.instruction.clone(),
        bytes: place.bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" "),
        register: place.task.clone(),
        emulated: place.emulated,
        reason: place.reason.clone(),
    };
    BinaryRuntime::named(
        plan.kind.name(),
        plan.version.clone(),
        plan.places.iter().map(probe).collect(),
        plan.problems.clone(),
    )
}

/// How plain answers are laid out: as wide as the terminal, or wide enough not to break a path where there is none.
pub(super) fn page() -> text::Options {
    const FILE_WIDTH: usize = 200;
    let columns = rustix::termios::tcgetwinsize(io::stdout()).map_or(0, |size| usize::from(size.ws_col));
    let width = match (io::stdout().is_terminal(), columns) {
        (true, 0) => text::Options::default().width,
        (true, columns) => columns,
        (false, _) => FILE_WIDTH,
    };
    text::Options { width, color: colour(), ..text::Options::default() }
}
