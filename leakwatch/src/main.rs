//! leakwatch, the program: parse, run, turn the end into an exit code.

use std::process::ExitCode;

use clap::Parser as _;
use leakwatch::{
    cli::Cli,
    cmd::{self, End, Usage},
};

/// That of musl is made to be small: an agent that sees programs come and go would spend a fifth of its time in it.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let verbose = cli.verbose > 0;
    match cmd::run(cli) {
        Ok(End::Done) => ExitCode::SUCCESS,
        Ok(End::Unfit) => ExitCode::FAILURE,
        Ok(End::Leak) => ExitCode::from(3),
        Ok(End::Alert) => ExitCode::from(4),
        Ok(End::Code(code)) => ExitCode::from(code),
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            report(&error, verbose);
            if error.is::<Usage>() { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}

/// Who reads our output has had enough: not an error.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe)
}

#[expect(clippy::print_stderr, reason = "errors go to standard error, by contract")]
fn report(error: &anyhow::Error, verbose: bool) {
    eprintln!("leakwatch: {error}");
    let mut causes = error.chain().skip(1).peekable();
    if verbose {
        for cause in causes {
            eprintln!("  because: {cause}");
        }
    } else if causes.peek().is_some() {
        eprintln!("leakwatch: -v shows the causes");
    }
}
