//! Every build, check, test and bench step of leakwatch: `cargo xtask TASK`, `cargo xtask` lists them.
//!
//! What CI runs is a task here, so that a person's run and CI's are the same. Nothing of this is part of
//! the product.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a task's result and its progress are its output"
)]

mod accuracy;
mod churn;
mod ci;
mod demo;
mod deny;
mod digest;
mod dumps;
mod ebpf;
mod layouts;
mod manifests;
mod overhead;
mod package;
mod page;
mod pictures;
mod proofs;
mod shell;
mod soak;
mod targets;
mod tidy;
mod tools;

use std::process::ExitCode;

use anyhow::Result;

/// One step that a person can ask for.
struct Task {
    name: &'static str,
    /// What it takes besides its name.
    usage: &'static str,
    help: &'static str,
    run: fn(&[String]) -> Result<()>,
}

const TASKS: &[Task] = &[
    Task {
        name: "demo",
        usage: "[ARGUMENT…]",
        help: "from a fresh clone to `leakwatch demo` running; arguments go to it",
        run: demo::run,
    },
    Task {
        name: "test",
        usage: "",
        help: "from a fresh clone to all tests passed, live ones included; LEAKWATCH_LIVE=require allows no skip",
        run: ci::run,
    },
    Task { name: "ci", usage: "", help: "the same as `test`: CI runs nothing else", run: ci::run },
    Task {
        name: "ebpf",
        usage: "[--check | --fresh-to PATH]",
        help: "rebuild the kept eBPF object from source; check that it is from these sources; build beside it",
        run: ebpf::run,
    },
    Task {
        name: "layouts",
        usage: "[--check]",
        help: "write the table of Go's runtime layouts from the targets' DWARF; check that it is up to date",
        run: layouts::run,
    },
    Task {
        name: "manifests",
        usage: "",
        help: "write deploy/kubernetes from the Helm chart",
        run: manifests::run,
    },
    Task {
        name: "targets",
        usage: "[WORD…]",
        help: "build the test targets, all or those whose name has every word, such as `1.27.3 pie`",
        run: targets::run,
    },
    Task {
        name: "tools",
        usage: "[go] [third-party] [monitoring] [ebpf] [bpftrace] [java] [tmux] [deploy] [network] [browser]",
        help: "install what builds and tests need, all or these parts",
        run: tools::run,
    },
    Task {
        name: "page",
        usage: "[--write]",
        help: "check the agent's page: types of its modules, and that what others made is what their packages have",
        run: page::run,
    },
    Task {
        name: "churn",
        usage: "[SECONDS]",
        help: "300 processes of 20 binaries come and go under `leakwatch agent` for a minute: what it has of the machine",
        run: churn::run,
    },
    Task {
        name: "soak",
        usage: "[MINUTES]",
        help: "five servers under mixed load while leakwatch proves, 15 minutes: nobody who was proven may run again",
        run: soak::run,
    },
    Task {
        name: "proofs",
        usage: "[MB…]",
        help: "measure what a proof costs on heaps of 1 and 8 GB (or these), with a million goroutines, and what it does to a server",
        run: proofs::run,
    },
    Task {
        name: "overhead",
        usage: "",
        help: "measure what watching costs, beside its floor and bpftrace; writes docs/overhead.md",
        run: overhead::run,
    },
    Task {
        name: "package",
        usage: "[--debug] [--dynamic]",
        help: "build the static executable and the Debian package, and try both in a root of their own; --dynamic packages what `cargo build` made",
        run: package::run,
    },
    Task {
        name: "accuracy",
        usage: "[tuning | held-out] [--replay]",
        help: "score verdicts on the corpus with known truth, both halves or one, anew or from the last recordings; writes docs/accuracy.md",
        run: accuracy::run,
    },
    Task {
        name: "dumps",
        usage: "",
        help: "measure how long dumps take and what the program feels; writes docs/dump-speed.md",
        run: dumps::run,
    },
    Task {
        name: "pictures",
        usage: "",
        help: "make the README's pictures from real runs, of the terminal and of the agent's page; writes docs/pictures",
        run: pictures::run,
    },
    Task { name: "tidy", usage: "", help: "check the floors and what no compiler checks", run: tidy::run },
    Task {
        name: "deny",
        usage: "",
        help: "check licences, doubled crates and sources of dependencies",
        run: deny::run,
    },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((name, rest)) = arguments.split_first() else {
        print!("{}", help());
        return ExitCode::SUCCESS;
    };
    if matches!(name.as_str(), "help" | "--help" | "-h") {
        print!("{}", help());
        return ExitCode::SUCCESS;
    }
    let Some(task) = TASKS.iter().find(|task| task.name == name) else {
        eprint!("xtask: there is no task {name:?}\n\n{}", help());
        return ExitCode::from(2);
    };
    match (task.run)(rest) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask {name}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn help() -> String {
    let task = |Task { name, usage, help, .. }: &Task| {
        format!("  {}\n      {help}\n", format!("{name} {usage}").trim_end())
    };
    let tasks: String = TASKS.iter().map(task).collect();
    format!("cargo xtask TASK\n\n{tasks}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_is_listed_once() {
        let help = help();
        for task in TASKS {
            let calls = help.lines().filter(|line| line.split_whitespace().next() == Some(task.name));
            assert_eq!(calls.filter(|line| !line.starts_with("   ")).count(), 1);
        }
    }
}
