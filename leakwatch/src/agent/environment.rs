//! Who makes a report, and where: for whoever reads it somewhere else and wants to make it again.
//!
//! Never what the watched program was given: the arguments of a program that `leakwatch run` starts may hold secrets.

use std::ffi::OsString;

use crate::report::Environment;

/// Version and revision of the sources, as `leakwatch --version` prints them.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("LEAKWATCH_REVISION"), ")");

/// Of this process and machine.
pub fn environment() -> Environment {
    let system = rustix::system::uname();
    Environment {
        leakwatch: VERSION.to_owned(),
        kernel: Some(system.release().to_string_lossy().into_owned()),
        machine: Some(system.machine().to_string_lossy().into_owned()),
        command: command(std::env::args_os().skip(1)),
    }
}

/// The command line with `leakwatch` for whatever path it was started by, and without what a program that it runs is given.
fn command(arguments: impl Iterator<Item = OsString>) -> Vec<String> {
    let mut command = vec!["leakwatch".to_owned()];
    let mut arguments = arguments.map(|argument| argument.to_string_lossy().into_owned()).peekable();
    let runs = arguments.peek().is_some_and(|first| first == "run");
    while let Some(argument) = arguments.next() {
        let last = argument == "--";
        command.push(argument);
        if last {
            command.extend(arguments.next());
            command.extend(arguments.next().map(|_| "…".to_owned()));
            return command;
        }
    }
    if runs {
        // Where the program's own arguments begin is not to be told without knowing the flags.
        command.truncate(2);
        command.push("…".to_owned());
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_of_a_program_that_is_run_stay_with_it() {
        let of = |line: &str| command(line.split_whitespace().map(OsString::from)).join(" ");
        assert_eq!(of("watch --pid 42 --stacks"), "leakwatch watch --pid 42 --stacks");
        assert_eq!(
            of("run --fail-on-leak -- ./server --password x"),
            "leakwatch run --fail-on-leak -- ./server …"
        );
        assert_eq!(of("run -- ./server"), "leakwatch run -- ./server");
        assert_eq!(of("run ./server --password x"), "leakwatch run …");
        assert_eq!(of(""), "leakwatch");
    }

    #[test]
    fn this_machine_is_told() {
        let environment = environment();
        assert!(environment.leakwatch.starts_with(env!("CARGO_PKG_VERSION")));
        assert!(environment.kernel.is_some_and(|kernel| kernel.contains('.')));
    }
}
