//! `leakwatch agent`: the host agent, from its configuration to its end.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::bail;
use tokio::sync::watch;

use super::{
    alarms, kernel_options,
    startup::{Usage, block_on, calibrate, load, no_probes},
    watch::say,
};
use crate::{
    agent::{
        Alarms,
        daemon::{
            self, Feature, Options, Owner, Parts, Reading, Stage,
            exports::Exports,
            http::{Server, Serving, Terms},
        },
    },
    alert::{Action, Kind},
    cli::AgentArgs,
    config::{self, AgentFile, rules::RuleFile},
    export::metrics::ExportFigures,
    host::{self, Process, ProcessMemory, Root, capability::Capability, confine, own},
    kernel::Kernel,
    report::Report,
};

/// Files that may be open at once: a process takes five or so.
const OPEN_FILES: u64 = 65_536;

/// What the system reads as its default, where none is named.
const USUAL: &str = "/etc/leakwatch/agent.toml";

/// Runs the agent, or prints or checks its configuration.
///
/// # Errors
/// When the configuration is wrong, the address cannot be had, or the agent cannot go on.
pub(super) fn run(args: &AgentArgs, verbose: u8) -> anyhow::Result<()> {
    if args.print_config {
        return Ok(std::io::stdout().lock().write_all(config::agent_defaults().as_bytes())?);
    }
    let file = Configuration::of(args.config.as_deref());
    let AgentFile { options, alarms } = file.read()?;
    let terms = Terms::read(&options.http, &options.redact)?;
    if args.check_config {
        return say(&format!("{} is right", file.name())).map_err(Into::into);
    }
    let root = Arc::new(args.host_root.as_deref().map_or_else(Root::of_machine, Root::at)?);
    let files = own::raise_open_files(OPEN_FILES);
    let (snapshots, published) = watch::channel(None::<Arc<daemon::Snapshot>>);
    // What is asked for and cannot be had is an error before anything is touched.
    let server = Server::bind(&options.http, terms, published)?;
    let mut features = Vec::new();
    let mut sizes = kernel_options(&args.sizes, verbose);
    // Row 0 of the counters is nobody's.
    sizes.processes =
        sizes.processes.max(u32::try_from(options.discover.most_processes).unwrap_or(u32::MAX - 1) + 1);
    let room = sizes.processes as usize - 1;
    let mut kernel = match load(sizes) {
        Ok(kernel) => Some(kernel),
        Err(error) => {
            tracing::warn!("no kernel side: {error:#}");
            features.push(off("kernel", &format!("{error:#}; `leakwatch doctor` says what is missing")));
            None
        }
    };
    let hit_ns = kernel.as_mut().and_then(calibrate);
    features.extend(what_works(kernel.as_ref(), hit_ns, files, server.as_ref()));
    for feature in features.iter().filter(|feature| !feature.on) {
        tracing::warn!(feature = feature.name, "off: {}", feature.why);
    }
    match &server {
        Some(server) => {
            let scheme = if server.is_tls() { "https" } else { "http" };
            say(&format!("the agent answers on {scheme}://{}/", server.address()))?;
        }
        None => say("the agent runs, without a server")?,
    }
    let programs = alarms.actions.iter().any(is_program);
    features_given_up(&mut features, programs);
    // After the rights are given up: their threads have no more than this one.
    let host = args.host_name.clone().unwrap_or_else(host::name);
    let exports = Exports::start(&options.export, host.clone())?;
    let reading = Reading::default();
    let dumper = reading.in_turns(alarms::dumper());
    let alarms = alarms::start(alarms, host.clone(), Arc::clone(&dumper))?;
    let serving = server.map(|server| server.serve(alarms.dispatcher().holds(), dumper)).transpose()?;
    let running = options.clone();
    let parts = Parts { kernel, hit_ns, features, options, host, root, reading };
    let mut owner = Host { file, running, room, programs, serving, alarms, exports };
    let ended = block_on(daemon::run(parts, snapshots, &mut owner));
    owner.exports.finish();
    alarms::finish(Some(owner.alarms))?;
    drop(owner.serving);
    ended
}

/// What is kept of our rights: to look into processes, to place and take off probes, to read files.
const KEPT: [Capability; 5] = [
    Capability::Bpf,
    Capability::Perfmon,
    Capability::SysPtrace,
    // From Linux 6.16 on uprobes want it, and so do the files of other processes' mappings.
    Capability::SysAdmin,
    Capability::DacReadSearch,
];

/// It executes programs.
fn is_program(action: &Action) -> bool {
    matches!(action.kind, Kind::Command(_))
}

/// Gives up what is not needed any more, before there is any other thread; with `programs` it may execute others.
fn features_given_up(features: &mut Vec<Feature>, programs: bool) {
    let given_up = confine::keep_capabilities(&KEPT)
        .and_then(|()| confine::no_new_privileges())
        .and_then(|()| confine::refuse_needless_calls(programs));
    features.push(match given_up {
        Ok(()) => on("confined", "capabilities, the way to new ones, and needless system calls are given up"),
        Err(error) => {
            tracing::warn!(feature = "confined", "off: {error}");
            off("confined", &error.to_string())
        }
    });
}

fn on(name: &'static str, why: impl Into<String>) -> Feature {
    Feature { name, on: true, why: why.into() }
}

fn off(name: &'static str, why: &str) -> Feature {
    Feature { name, on: false, why: why.to_owned() }
}

/// What the machine lets us do, feature by feature.
fn what_works(
    kernel: Option<&Kernel>,
    hit_ns: Option<f64>,
    files: u64,
    server: Option<&Server>,
) -> Vec<Feature> {
    let mut features = Vec::new();
    if let Some(kernel) = kernel {
        features.push(on("exec_news", "the kernel tells of each new program"));
        features.push(on("threads", "threads and forks are counted by tracepoints"));
        features.push(match kernel.no_thread_sites() {
            None => on("thread_sites", "where they are made is found in their makers' stacks"),
            Some(why) => {
                off("thread_sites", &format!("they are counted, but not by where they are made: {why}"))
            }
        });
    } else {
        features.push(off(
            "exec_news",
            "without the kernel side new programs are found by looking through /proc",
        ));
        features.push(off("threads", "without the kernel side nobody counts threads and forks"));
        features.push(off("thread_sites", "without the kernel side nobody counts threads and forks"));
    }
    features.push(match (hit_ns, kernel) {
        (Some(price), _) => on("probes", format!("a hit costs {price:.0} ns here")),
        (None, Some(kernel)) => match no_probes(kernel) {
            Some(error) => off("probes", &format!("{error:#}")),
            None => {
                off("probes", "the price of a probe hit could not be measured, so no budget could be kept")
            }
        },
        (None, None) => off("probes", "there is no kernel side to place them"),
    });
    // Pid 1 is somebody else's wherever an agent belongs.
    let of_others = Process::open(1).and_then(|process| ProcessMemory::open(&process));
    features.push(match of_others {
        Ok(_) => on("memory", "processes of all users can be looked at"),
        Err(error) => {
            off("memory", &format!("process 1 cannot be looked at, and others perhaps neither: {error}"))
        }
    });
    features.push(if files >= 8192 {
        on("open_files", format!("{files} may be open"))
    } else {
        off(
            "open_files",
            &format!(
                "only {files} may be open, which is enough for {} processes; raise LimitNOFILE",
                files / 6
            ),
        )
    });
    features.push(match server {
        Some(server) => on("http", format!("listens on {}", server.address())),
        None => off("http", "[http] listen = \"off\""),
    });
    features
}

/// Where the configuration is.
struct Configuration(Option<PathBuf>);

impl Configuration {
    /// The file that was named, else the usual one where it exists, else none: everything is as by default.
    fn of(named: Option<&Path>) -> Self {
        let usual = || Path::new(USUAL).exists().then(|| PathBuf::from(USUAL));
        Self(named.map(Path::to_owned).or_else(usual))
    }

    fn name(&self) -> String {
        self.0
            .as_ref()
            .map_or_else(|| "the built-in configuration".to_owned(), |path| path.display().to_string())
    }

    fn read(&self) -> anyhow::Result<AgentFile> {
        let AgentFile { mut options, alarms } = self.parse()?;
        options.sampling.stacks |= alarms::need_stacks(&alarms.rules);
        Ok(AgentFile { options, alarms: alarms.or_logged() })
    }

    fn parse(&self) -> anyhow::Result<AgentFile> {
        let Some(path) = &self.0 else { return Ok(AgentFile::default()) };
        let text = daemon::files::configuration(path)?;
        let mut file =
            config::agent(&path.display().to_string(), &text).map_err(|error| Usage(error.to_string()))?;
        file.options.redact.read_key()?;
        Ok(file)
    }
}

/// What the agent asks of us while it runs.
struct Host {
    file: Configuration,
    /// As it was read last.
    running: Options,
    /// Processes that the kernel's tables have room for.
    room: usize,
    /// Programs may be executed: this was not given up.
    programs: bool,
    serving: Option<Serving>,
    alarms: Alarms,
    exports: Exports,
}

impl Owner for Host {
    fn reload(&mut self) -> anyhow::Result<Options> {
        let AgentFile { options, alarms: RuleFile { rules, actions } } = self.file.read()?;
        if let Some(fixed) = self.running.fixed(&options) {
            bail!("{fixed} are read at the start only: restart the agent for their changes");
        }
        if options.discover.most_processes > self.room {
            bail!(
                "the kernel's tables have room for {} processes: restart the agent for more `max_processes`",
                self.room
            );
        }
        if !self.programs && actions.iter().any(is_program) {
            bail!(
                "the agent began without an [[action]] that is a command, and gave up executing programs: restart it"
            );
        }
        let terms = Terms::read(&options.http, &options.redact)?;
        let exports = self.exports.prepare(&options.export)?;
        let renamed = options.redact != self.running.redact;
        let over = self.alarms.replace(rules, actions, renamed)?;
        // From here on nothing fails.
        self.exports.change(exports);
        self.exports.changed(&over);
        if let Some(serving) = &self.serving {
            serving.change(terms);
        }
        self.running = options.clone();
        Ok(options)
    }

    fn round(&mut self, report: &mut Report) {
        self.alarms.ask(report);
        self.exports.changed(self.alarms.changes());
    }

    fn published(&mut self, snapshot: &Arc<daemon::Snapshot>) {
        self.alarms.tell(&snapshot.report);
        self.exports.offer(snapshot);
    }

    fn exports(&self) -> Vec<ExportFigures> {
        self.exports.figures()
    }

    fn stage(&mut self, stage: Stage) {
        use sd_notify::NotifyState;
        if stage == (Stage::Reloaded { taken: true })
            && let Err(error) = say("the configuration was read again")
        {
            tracing::debug!("nobody reads what we say: {error}");
        }
        let state = match stage {
            Stage::Ready | Stage::Reloaded { .. } => NotifyState::Ready,
            Stage::Turn => NotifyState::Watchdog,
            Stage::Reloading => NotifyState::Reloading,
            Stage::Stopping => NotifyState::Stopping,
        };
        // Nobody listens where systemd did not start us.
        if let Err(error) = sd_notify::notify(false, &[state]) {
            tracing::debug!("the service manager cannot be told: {error}");
        }
    }
}
