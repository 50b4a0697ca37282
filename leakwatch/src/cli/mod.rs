//! What was typed: clap types only. What it means is decided by the commands.

use std::{ffi::OsString, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};
use jiff::SignedDuration;

mod fleet;
mod forms;

pub use fleet::FleetArgs;
pub use forms::{DumpFormat, Format, PageFormat, ProveFormat, RunFormat, TextOrJson, WatchFormat};

/// Version and revision of the sources.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("LEAKWATCH_REVISION"), ")");

/// How many tasks of a running program are alive, what starts them, and which of them leak.
///
/// Watches an unmodified program from outside, through eBPF: no code change, no restart.
#[derive(Debug, Parser)]
#[command(
    name = "leakwatch",
    version = VERSION,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
#[command(after_help = "Examples:
  sudo leakwatch --pid 4242                      watch one process until Ctrl-C
  sudo leakwatch --pid 4242 --duration 30s       one report after 30 seconds
  sudo leakwatch watch --comm nats-server --stacks
  sudo leakwatch watch --pid 4242 --duration 1m --format json --output report.json
  leakwatch inspect /usr/bin/caddy               what leakwatch sees in a binary
  sudo leakwatch doctor                          can this machine run it")]
pub struct Cli {
    /// What to do; without a command: watch.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// `leakwatch --pid PID` is `leakwatch watch --pid PID`.
    #[command(flatten)]
    pub watch: WatchArgs,

    /// More on stderr: -v the causes of errors, -vv the kernel side's own messages too.
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub verbose: u8,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Watch running processes and report their tasks.
    #[command(
        after_help = "Examples:\n  sudo leakwatch watch --pid 4242\n  sudo leakwatch watch --comm nats-server --stacks --duration 1m\n  sudo leakwatch watch --pid 4242 --duration 1m --stacks --output report.html\n  sudo leakwatch watch --pid 4242 --prove=30s --duration 10m --format json --fail-on-leak"
    )]
    Watch(Box<WatchArgs>),
    /// Show every program of the host, live, on a terminal: Go and tokio programs by their tasks, others by their threads.
    #[command(after_help = "Examples:\n  sudo leakwatch top")]
    Top(TopArgs),
    /// Start a program, watch it from its first instruction to its end, and report what it left behind.
    #[command(
        after_help = "Examples:\n  sudo leakwatch run -- ./server --once\n  sudo leakwatch run --fail-on-leak --ignore 'main\\.cache' -- ./server --once\n  go test -exec 'sudo leakwatch run --fail-on-leak --' ./..."
    )]
    Run(Box<RunArgs>),
    /// Print every task of a process with its stack, now, without stopping it.
    #[command(
        after_help = "Examples:\n  sudo leakwatch dump --pid 4242\n  sudo leakwatch dump --pid 4242 --format summary\n  sudo leakwatch dump --pid 4242 --format pprof --output goroutines.pb.gz"
    )]
    Dump(DumpArgs),
    /// Compare two dumps, reports or profiles: what appeared, grew, stayed, went.
    #[command(after_help = "Examples:\n  leakwatch diff before.json after.json")]
    Diff(DiffArgs),
    /// Prove which goroutines leak: those that nothing alive can ever wake. Without a stop, for any version of Go.
    #[command(
        after_help = "Examples:\n  sudo leakwatch prove --pid 4242\n  sudo leakwatch prove --pid 4242 --why 4711\n  sudo leakwatch prove --pid 4242 --fail-on-leak"
    )]
    Prove(ProveArgs),
    /// Watch, and keep what is seen in a file for `replay`.
    #[command(
        after_help = "Examples:\n  sudo leakwatch record --pid 4242 --output watch.lkw --stacks\n  sudo leakwatch record --events --pid 4242 --output watch.lkw --duration 30s"
    )]
    Record(Box<RecordArgs>),
    /// Make the reports of a recorded watch.
    #[command(
        after_help = "Examples:\n  leakwatch replay watch.lkw\n  leakwatch replay watch.lkw --format jsonl"
    )]
    Replay(ReplayArgs),
    /// Make a page of a recording or of a report as JSON: one file to attach to a ticket, or markdown for an issue.
    #[command(
        after_help = "Examples:\n  leakwatch report watch.lkw --output report.html\n  leakwatch report report.json --format markdown\n  leakwatch report watch.lkw --rule leak --output report.html"
    )]
    Report(ReportArgs),
    /// Print each start and end of a task, thread and child process as a JSON line.
    #[command(
        after_help = "Examples:\n  sudo leakwatch events --pid 4242 --duration 10s\n  sudo leakwatch events --pid 4242 --duration 10s --trace trace.json"
    )]
    Events(EventsArgs),
    /// Show what leakwatch knows of a binary: runtime, version, probe sites and why, what is missing.
    #[command(
        after_help = "Examples:\n  leakwatch inspect /usr/bin/caddy\n  sudo leakwatch inspect --pid 4242"
    )]
    Inspect(InspectArgs),
    /// Watch every process of the machine, new ones as they come, and serve what is seen over HTTP (docs/agent.md).
    #[command(
        after_help = "Examples:\n  sudo leakwatch agent\n  sudo leakwatch agent --config /etc/leakwatch/agent.toml\n  leakwatch agent --check-config"
    )]
    Agent(AgentArgs),
    /// List the worst sites over all hosts whose agents a Prometheus scrapes (docs/fleet.md).
    #[command(
        after_help = "Examples:\n  leakwatch fleet --prometheus http://prometheus:9090\n  leakwatch fleet --prometheus http://prometheus:9090 --since 24h --format json"
    )]
    Fleet(FleetArgs),
    /// Check whether this kernel and this user can run leakwatch; each finding comes with its fix.
    #[command(after_help = "Examples:\n  sudo leakwatch doctor\n  leakwatch doctor --format json")]
    Doctor(DoctorArgs),
    /// Watch a built-in program that leaks in known ways; needs nothing else.
    #[command(after_help = "Examples:\n  leakwatch demo --list\n  sudo leakwatch demo slow-leak")]
    Demo(DemoArgs),
    /// List the profiles of runtimes that come with leakwatch, or print one, to copy and change.
    #[command(after_help = "Examples:\n  leakwatch profiles\n  leakwatch profiles asyncio")]
    Profiles {
        /// Which to print.
        #[arg(value_name = "NAME")]
        name: Option<String>,
    },
    /// List the rules that come with leakwatch, print one to copy and change, or check a file of rules.
    #[command(after_help = "Examples:\n  leakwatch rules\n  leakwatch rules --check rules.toml")]
    Rules(RulesArgs),
    /// Print a completion script for a shell.
    #[command(after_help = "Examples:\n  leakwatch completions bash")]
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page.
    #[command(after_help = "Examples:\n  leakwatch man")]
    Man,
    /// Put empty programs where the probes would be, until interrupted: the floor of the overhead bench.
    #[command(hide = true)]
    Floor {
        /// The process.
        #[arg(long)]
        pid: u32,
        /// Runtimes that the user names.
        #[command(flatten)]
        runtime: RuntimeArgs,
    },
    /// The program that `demo` watches.
    #[command(hide = true)]
    DemoTarget {
        /// Seconds to live.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
        /// What to do.
        #[arg(value_enum, default_value_t = Scenario::Shop)]
        scenario: Scenario,
    },
}

/// Which processes.
#[derive(Clone, Debug, Default, Args)]
pub struct Selection {
    /// Watch this process (repeatable).
    #[arg(short, long = "pid", value_name = "PID")]
    pub pids: Vec<u32>,
    /// Watch every process of this name, as `ps -o comm` shows it.
    #[arg(long, value_name = "NAME")]
    pub comm: Option<String>,
    /// Watch every process that runs this executable.
    #[arg(long, value_name = "PATH")]
    pub exe: Option<PathBuf>,
    /// Watch every process of this control group and those below it.
    #[arg(long, value_name = "PATH")]
    pub cgroup: Option<PathBuf>,
}

impl Selection {
    /// Nothing was asked for.
    pub fn is_empty(&self) -> bool {
        self.pids.is_empty() && self.comm.is_none() && self.exe.is_none() && self.cgroup.is_none()
    }
}

/// Of the host agent.
#[derive(Clone, Debug, Default, Args)]
pub struct AgentArgs {
    /// Its configuration; without it, /etc/leakwatch/agent.toml where that exists.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print every key of the configuration with what it means and its default.
    #[arg(long)]
    pub print_config: bool,
    /// Say whether the configuration is right, and where it is not; start nothing.
    #[arg(long, conflicts_with = "print_config")]
    pub check_config: bool,
    /// What this machine is called in figures and alerts; without it, its host name. A container's own would be the pod's.
    #[arg(long, value_name = "NAME")]
    pub host_name: Option<String>,
    /// Where the machine's files are, which say what containers are called and what they were made of; without it, the root of
    /// process 1, or the agent's own where that cannot be seen.
    #[arg(long, value_name = "FOLDER")]
    pub host_root: Option<PathBuf>,
    /// Sizes of the kernel's tables.
    #[command(flatten)]
    pub sizes: SizeArgs,
}

/// A runtime that leakwatch does not recognise, by the functions that start and end its tasks.
#[derive(Clone, Debug, Default, Args)]
pub struct RuntimeArgs {
    /// A function that starts a task (repeatable).
    #[arg(
        long,
        value_name = "SYMBOL[:task=ret|argN][:site=caller|argN][:library=FILE]",
        help_heading = "Runtimes of your own (docs/profiles.md)"
    )]
    pub start: Vec<String>,
    /// A function that ends a task (repeatable).
    #[arg(long, value_name = "SYMBOL[:task=argN]", help_heading = "Runtimes of your own (docs/profiles.md)")]
    pub end: Vec<String>,
    /// The same from a TOML file, or a profile that comes with leakwatch (`leakwatch profiles` lists them).
    #[arg(long, value_name = "FILE|NAME", help_heading = "Runtimes of your own (docs/profiles.md)")]
    pub profile: Vec<String>,
}

/// What the user wants to be told of.
#[derive(Clone, Debug, Default, Args)]
pub struct AlertArgs {
    /// Rules and actions in a TOML file (docs/rules.md).
    #[arg(long, value_name = "FILE", help_heading = "Rules (docs/rules.md)")]
    pub rules: Option<PathBuf>,
    /// A rule that comes with leakwatch (repeatable); `leakwatch rules` lists them.
    #[arg(long, value_name = "PRESET", help_heading = "Rules (docs/rules.md)")]
    pub rule: Vec<String>,
    /// Exit with 4 when a rule fired whose level is at least this (without one: any).
    #[arg(long, value_name = "LEVEL", num_args = 0..=1, require_equals = true, default_missing_value = "green", help_heading = "Rules (docs/rules.md)")]
    pub fail_on_alert: Option<String>,
}

/// `leakwatch rules`.
#[derive(Clone, Debug, Args)]
pub struct RulesArgs {
    /// Which to print.
    #[arg(value_name = "PRESET", conflicts_with_all = ["check", "figures"])]
    pub name: Option<String>,
    /// Check this file and list what is in it; nothing is watched and nothing done.
    #[arg(long, value_name = "FILE", conflicts_with = "figures")]
    pub check: Option<PathBuf>,
    /// List the figures that conditions can name.
    #[arg(long)]
    pub figures: bool,
}

/// Sizes of the kernel's tables.
#[derive(Clone, Debug, Default, Args)]
pub struct SizeArgs {
    /// Most tasks that the kernel's live table holds (default 524288, more when more are alive already); totals stay
    /// exact beyond it.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1 << 27), help_heading = "Sizes")]
    pub max_tasks: Option<u32>,
    /// Most creation sites over all processes (default 16384); totals stay exact beyond it.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1 << 24), help_heading = "Sizes")]
    pub max_sites: Option<u32>,
    /// Most processes watched at once (default 1023).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1 << 20), help_heading = "Sizes")]
    pub max_processes: Option<u32>,
    /// Bytes of the ring buffer of events, such as 64k or 8M (default 8M), rounded up to a power of two.
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes, help_heading = "Sizes")]
    pub ring_size: Option<u32>,
}

/// What the terminal can show.
#[derive(Clone, Debug, Default, Args)]
pub struct TerminalArgs {
    /// Signs to draw with on the terminal: auto is what the locale says.
    #[arg(long, value_enum, default_value_t = Charset::Auto, value_name = "CHARSET", help_heading = "Terminal (docs/terminal.md)")]
    pub charset: Charset,
    /// Colours of the terminal: auto is what `TERM`, `COLORTERM` and `NO_COLOR` say.
    #[arg(long, value_enum, default_value_t = ColorArg::Auto, value_name = "COLORS", help_heading = "Terminal (docs/terminal.md)")]
    pub colors: ColorArg,
}

/// Signs to draw with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Charset {
    /// As the locale says.
    #[default]
    Auto,
    /// Blocks and all names as they are.
    Utf8,
    /// ASCII alone.
    Ascii,
}

/// Colours to draw with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ColorArg {
    /// As the environment says.
    #[default]
    Auto,
    /// None: bold, faint and reversed.
    None,
    /// The terminal's own.
    #[value(name = "16")]
    Sixteen,
    /// The palette.
    #[value(name = "256")]
    Palette,
    /// Any.
    True,
}

/// `leakwatch watch`.
#[derive(Clone, Debug, Default, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub struct WatchArgs {
    /// Which processes.
    #[command(flatten)]
    pub selection: Selection,
    /// Stop after this time, such as 30s, 5m or 1h30m; without it, on Ctrl-C or when all processes ended.
    #[arg(short, long, value_name = "TIME", value_parser = parse_time)]
    pub duration: Option<SignedDuration>,
    /// Look this often.
    #[arg(short, long, value_name = "TIME", value_parser = parse_time, default_value = "1s")]
    pub interval: SignedDuration,
    /// How to print; without it a screen to move in where a terminal is, a table elsewhere.
    #[arg(short, long, value_enum)]
    pub format: Option<WatchFormat>,
    /// Write the report there instead of to standard output.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// How to count: probes (every start and end), memory (look now and then, no probe), auto (probes where possible).
    #[arg(long, value_enum, default_value_t = ModeArg::Auto)]
    pub mode: ModeArg,
    /// Most time that the probes may add to the process, in percent of one core; beyond it they are taken
    /// off and memory is read instead.
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent)]
    pub budget: Option<f64>,
    /// Show the stacks on which live tasks wait.
    #[arg(long)]
    pub stacks: bool,
    /// Also watch the children that a process forks, and theirs, each as a process of its own (512 at most).
    #[arg(long)]
    pub follow: bool,
    /// Prove every so often (without a time: 10s) which goroutines nothing alive can ever wake; Go programs only. Proofs
    /// take a tenth of one core at most, or what --budget says, and begin later where they would take more.
    #[arg(long, value_name = "EVERY", value_parser = parse_time, num_args = 0..=1, require_equals = true, default_missing_value = "10s")]
    pub prove: Option<SignedDuration>,
    /// Do not prove at all. Without this and --prove, a proof is made where goroutines are suspected to leak, once a minute at
    /// most and in a fiftieth of one core, in processes of up to 1 GiB.
    #[arg(long, conflicts_with = "prove")]
    pub no_prove: bool,
    /// Exit with 3 when a leak was found (the verdict "leak"; a "suspect" is none).
    #[arg(long)]
    pub fail_on_leak: bool,
    /// On a terminal, too: a table that is printed anew, and no screen to move in.
    #[arg(long, help_heading = "Terminal (docs/terminal.md)")]
    pub plain: bool,
    /// The terminal.
    #[command(flatten)]
    pub terminal: TerminalArgs,
    /// Send every start and end through the ring buffer although nothing reads them: for benches and tests.
    #[arg(long, hide = true)]
    pub stream: bool,
    /// Rules.
    #[command(flatten)]
    pub alerts: AlertArgs,
    /// Runtimes that the user names.
    #[command(flatten)]
    pub runtime: RuntimeArgs,
    /// Sizes.
    #[command(flatten)]
    pub sizes: SizeArgs,
}

impl WatchArgs {
    /// In which form to print; a screen ends with a table.
    pub fn report(&self) -> Format {
        match self.format {
            Some(WatchFormat::Report(format)) => format,
            Some(WatchFormat::Tui) | None => Format::Table,
        }
    }
}

/// `leakwatch top`.
#[derive(Clone, Debug, Args)]
pub struct TopArgs {
    /// Look this often at each process; less often where all looks would take more than one percent of a core.
    #[arg(short, long, value_name = "TIME", value_parser = parse_time, default_value = "1s")]
    pub interval: SignedDuration,
    /// Place probes for a while where tasks grow; without it memory is read, and threads are counted by the kernel.
    #[arg(long)]
    pub probes: bool,
    /// The terminal.
    #[command(flatten)]
    pub terminal: TerminalArgs,
    /// Sizes.
    #[command(flatten)]
    pub sizes: SizeArgs,
}

/// `leakwatch run`.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// Exit with 3 when the program succeeded but tasks of it leaked or were left behind.
    #[arg(long)]
    pub fail_on_leak: bool,
    /// Tasks younger than this are not called left behind when the program ends, and its children may run on for this
    /// long.
    #[arg(long, value_name = "TIME", value_parser = parse_grace, default_value = "100ms")]
    pub grace: SignedDuration,
    /// Do not report sites whose function, task or `file:line` matches this regular expression (repeatable).
    #[arg(long, value_name = "REGEX")]
    pub ignore: Vec<String>,
    /// Watch the program alone, not the children that it forks.
    #[arg(long)]
    pub no_follow: bool,
    /// How to print what was left behind.
    #[arg(short, long, value_enum, default_value_t = RunFormat::Text)]
    pub format: RunFormat,
    /// Write it there instead of to standard error; standard output is the program's own.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Look this often.
    #[arg(long, value_name = "TIME", value_parser = parse_time, default_value = "200ms")]
    pub interval: SignedDuration,
    /// Runtimes that the user names.
    #[command(flatten)]
    pub runtime: RuntimeArgs,
    /// Sizes.
    #[command(flatten)]
    pub sizes: SizeArgs,
    /// The program and its arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// `leakwatch events`.
#[derive(Clone, Debug, Args)]
pub struct EventsArgs {
    /// Which processes.
    #[command(flatten)]
    pub selection: Selection,
    /// Stop after this time.
    #[arg(short, long, value_name = "TIME", value_parser = parse_time)]
    pub duration: Option<SignedDuration>,
    /// Write there instead of to standard output.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Runtimes that the user names.
    #[command(flatten)]
    pub runtime: RuntimeArgs,
    /// Print no lines, but write a trace that Perfetto and Chrome open; of the first million events.
    #[arg(long, value_name = "FILE", conflicts_with = "output")]
    pub trace: Option<PathBuf>,
    /// Sizes.
    #[command(flatten)]
    pub sizes: SizeArgs,
}

/// `leakwatch prove`.
#[derive(Clone, Debug, Args)]
pub struct ProveArgs {
    /// The process.
    #[arg(short, long, value_name = "PID")]
    pub pid: u32,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = ProveFormat::Text)]
    pub format: ProveFormat,
    /// Write there instead of to standard output; the file appears when it is whole.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Exit with 3 when a goroutine is proven to leak.
    #[arg(long)]
    pub fail_on_leak: bool,
    /// Tell of this goroutine why it is not proven: which words lead from what is alive to what it waits on (repeatable).
    #[arg(long, value_name = "GOID")]
    pub why: Vec<u64>,
}

/// `leakwatch dump`.
#[derive(Clone, Debug, Args)]
pub struct DumpArgs {
    /// The process.
    #[arg(short, long, value_name = "PID")]
    pub pid: u32,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = DumpFormat::Text)]
    pub format: DumpFormat,
    /// Write there instead of to standard output; the file appears when it is whole.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// The runtime's own tasks too.
    #[arg(long)]
    pub system: bool,
    /// The threads too; of a program without a runtime that leakwatch knows they are there anyway.
    #[arg(long)]
    pub threads: bool,
    /// Prove which goroutines nothing alive can ever wake, and have their state end with "(leaked)". It takes a second or more.
    #[arg(long)]
    pub prove: bool,
}

/// `leakwatch diff`.
#[derive(Clone, Debug, Args)]
pub struct DiffArgs {
    /// The earlier one: a dump (text or JSON), a report (JSON), or a profile of goroutines.
    #[arg(value_name = "A")]
    pub before: PathBuf,
    /// The later one.
    #[arg(value_name = "B")]
    pub after: PathBuf,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = TextOrJson::Text)]
    pub format: TextOrJson,
    /// Write there instead of to standard output.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// `leakwatch record`.
#[derive(Clone, Debug, Args)]
pub struct RecordArgs {
    /// Which processes.
    #[command(flatten)]
    pub selection: Selection,
    /// The recording. What is there is replaced; it can be replayed whatever ends the watch.
    #[arg(short, long = "output", value_name = "FILE")]
    pub recording: PathBuf,
    /// Stop after this time, such as 30s, 5m or 1h30m; without it, on Ctrl-C or when all processes ended.
    #[arg(short, long, value_name = "TIME", value_parser = parse_time)]
    pub duration: Option<SignedDuration>,
    /// Look this often.
    #[arg(short, long, value_name = "TIME", value_parser = parse_time, default_value = "1s")]
    pub interval: SignedDuration,
    /// How to count, as for `watch`.
    #[arg(long, value_enum, default_value_t = ModeArg::Auto)]
    pub mode: ModeArg,
    /// Most time that the probes may add to the process, as for `watch`.
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent)]
    pub budget: Option<f64>,
    /// Record the stacks on which live tasks wait.
    #[arg(long)]
    pub stacks: bool,
    /// Prove every so often which goroutines nothing alive can ever wake, as for `watch`.
    #[arg(long, value_name = "EVERY", value_parser = parse_time, num_args = 0..=1, require_equals = true, default_missing_value = "10s")]
    pub prove: Option<SignedDuration>,
    /// Do not prove at all, as for `watch`: without this and --prove, suspicions are settled by a proof.
    #[arg(long, conflicts_with = "prove")]
    pub no_prove: bool,
    /// Record each start and end, too; what is lost of them is counted.
    #[arg(long)]
    pub events: bool,
    /// How to print the report at the end.
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
    /// Write the report there instead of to standard output.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Runtimes that the user names.
    #[command(flatten)]
    pub runtime: RuntimeArgs,
    /// Sizes.
    #[command(flatten)]
    pub sizes: SizeArgs,
}

/// `leakwatch replay`.
#[derive(Clone, Debug, Args)]
pub struct ReplayArgs {
    /// What `leakwatch record` wrote.
    #[arg(value_name = "FILE")]
    pub recording: PathBuf,
    /// How to print: table or json (the last report), jsonl (all of them, one a line).
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
    /// Write the report there instead of to standard output.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Print the recorded events instead, as `leakwatch events` does.
    #[arg(long, conflicts_with_all = ["format", "stacks"])]
    pub events: bool,
    /// Rules: what would have fired. Their actions are not done.
    #[command(flatten)]
    pub alerts: AlertArgs,
    /// Show the stacks on which live tasks wait.
    #[arg(long)]
    pub stacks: bool,
}

/// `leakwatch report`.
#[derive(Clone, Debug, Args)]
pub struct ReportArgs {
    /// What `leakwatch record` wrote, or `leakwatch watch` with --format json or jsonl.
    #[arg(value_name = "FILE")]
    pub input: PathBuf,
    /// Write the page there instead of to standard output; it appears when it is whole.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// How to print; by the name of --output (.md is markdown), else html.
    #[arg(short, long, value_enum)]
    pub format: Option<PageFormat>,
    /// Rules: what would have fired, instead of what the file says of rules. Their actions are not done.
    #[command(flatten)]
    pub alerts: AlertArgs,
}

/// `leakwatch inspect`.
#[derive(Clone, Debug, Args)]
pub struct InspectArgs {
    /// The binary.
    #[arg(value_name = "BINARY", required_unless_present = "pid", conflicts_with = "pid")]
    pub binary: Option<PathBuf>,
    /// The binary that this process runs.
    #[arg(short, long)]
    pub pid: Option<u32>,
    /// Runtimes that the user names: where their probes would be. They take a process, whose libraries are searched.
    #[command(flatten)]
    pub runtime: RuntimeArgs,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = TextOrJson::Text)]
    pub format: TextOrJson,
}

/// `leakwatch doctor`.
#[derive(Clone, Debug, Args)]
pub struct DoctorArgs {
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = TextOrJson::Text)]
    pub format: TextOrJson,
}

/// `leakwatch demo`.
#[derive(Clone, Debug, Args)]
pub struct DemoArgs {
    /// What the built-in program does; --list tells of each what is to be seen.
    #[arg(value_enum, value_name = "SCENARIO", default_value_t = Scenario::Shop)]
    pub scenario: Scenario,
    /// List the scenarios.
    #[arg(long)]
    pub list: bool,
    /// How long; without it, as long as it takes until all can be said.
    #[arg(short, long, value_name = "TIME", value_parser = parse_time)]
    pub duration: Option<SignedDuration>,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
}

/// What the demo's program does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// A service with a leak among what is healthy.
    #[default]
    Shop,
    /// One in 250 requests never ends.
    SlowLeak,
    /// Tasks come in bursts, and some of them stay.
    Burst,
    /// Threads that all wait on one channel.
    OneChannel,
    /// A pool, tickers, and load that rises: no leak.
    Healthy,
}

/// How to count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ModeArg {
    /// Probes where possible, else memory.
    #[default]
    Auto,
    /// Probes or an error.
    Probes,
    /// Memory alone.
    Memory,
}

/// A time that may be none at all.
fn parse_grace(text: &str) -> Result<SignedDuration, String> {
    let time = text.parse::<SignedDuration>().ok().filter(|time| !time.is_negative());
    time.ok_or_else(|| "expected a time such as 0ms, 500ms, 30s, 5m or 1h30m".to_owned())
}

fn parse_time(text: &str) -> Result<SignedDuration, String> {
    let Ok(time) = text.parse::<SignedDuration>() else {
        return Err("expected a time such as 500ms, 30s, 5m or 1h30m".to_owned());
    };
    if time < SignedDuration::from_millis(10) {
        Err("the shortest time is 10ms".to_owned())
    } else {
        Ok(time)
    }
}

fn parse_percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text);
    match number.trim().parse::<f64>() {
        Ok(percent) if percent.is_finite() && percent > 0.0 => Ok(percent),
        _ => Err("expected a percentage above 0, such as 2%".to_owned()),
    }
}

fn parse_bytes(text: &str) -> Result<u32, String> {
    const EXPECTED: &str = "expected a size from 4k to 1G, such as 64k or 8M";
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text.get(digits.len()..).unwrap_or_default().to_ascii_lowercase().as_str() {
        "" | "b" => 1_u64,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        _ => return Err(EXPECTED.to_owned()),
    };
    let bytes = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    match bytes.and_then(|bytes| u32::try_from(bytes).ok()) {
        Some(bytes) if (4096..=1 << 30).contains(&bytes) => Ok(bytes.next_power_of_two()),
        _ => Err(EXPECTED.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn pid_alone_is_watch() {
        let cli = Cli::try_parse_from(["leakwatch", "--pid", "42", "--duration", "30s"]).unwrap();
        assert!(cli.command.is_none());
        assert_eq!(cli.watch.selection.pids, [42]);
        assert_eq!(cli.watch.duration, Some(SignedDuration::from_secs(30)));
    }

    #[test]
    fn sizes_and_percentages() {
        assert_eq!(parse_bytes("8M"), Ok(8 << 20));
        assert_eq!(parse_bytes("5000"), Ok(8192));
        assert!(parse_bytes("0").is_err() && parse_bytes("9T").is_err() && parse_bytes("-1").is_err());
        assert_eq!(parse_percent("2%"), Ok(2.0));
        assert!(parse_percent("nan").is_err() && parse_percent("0").is_err());
        assert!(parse_time("1h30m").is_ok() && parse_time("0s").is_err() && parse_time("x").is_err());
    }
}
