//! How the host agent runs. `config::agent` fills this from TOML; `docs/agent.md` documents every key.

use std::{collections::BTreeSet, net::SocketAddr, path::PathBuf, time::Duration};

use leakwatch_common::RuntimeKind;

use super::{files, filter::Filter};

/// Everything that can be set.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The server.
    pub http: Http,
    /// What watching may cost.
    pub budget: Budget,
    /// Which processes.
    pub discover: Discover,
    /// How often to look.
    pub sampling: Sampling,
    /// When to place probes.
    pub promote: Promote,
    /// When to prove that goroutines wait for ever.
    pub prove: Prove,
    /// What is told of programs.
    pub redact: Redact,
    /// Where to send to.
    pub export: super::exports::Options,
}

impl Options {
    /// What of these an agent that runs with `self` would have to be restarted for: what it gave up its rights with.
    pub fn fixed(&self, other: &Self) -> Option<&'static str> {
        let of_server = |http: &Http| (http.listen, http.connections, http.timeout);
        (of_server(&self.http) != of_server(&other.http))
            .then_some("listen, connections and timeout of [http]")
    }
}

/// What is not told of programs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redact {
    /// Names of functions, types and source files.
    pub symbols: bool,
    /// Stacks.
    pub stacks: bool,
    /// File with the secret of the hashes that stand for names.
    pub key_file: Option<PathBuf>,
    /// What is in it.
    pub key: Key,
}

/// A secret that goes into hashes.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Key(pub(super) Vec<u8>);

/// Never shows what it holds.
impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").finish_non_exhaustive()
    }
}

impl Redact {
    /// Reads the secret, where there is one.
    ///
    /// # Errors
    /// When its file cannot be read, or others may read it.
    pub fn read_key(&mut self) -> anyhow::Result<()> {
        if let Some(path) = &self.key_file {
            self.key = Key(files::secret(path)?.trim().as_bytes().to_vec());
        }
        Ok(())
    }

    /// Something is not to be told.
    pub fn any(&self) -> bool {
        self.symbols || self.stacks
    }
}

/// The HTTP server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// Where it listens; `None`: there is none.
    pub listen: Option<SocketAddr>,
    /// Certificate chain and key, PEM; `None`: no TLS.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// File with a bearer token.
    pub bearer_token_file: Option<PathBuf>,
    /// File with users and hashes of their passwords.
    pub basic_users_file: Option<PathBuf>,
    /// Who may ask for `/`, the page: files that say nothing of the machine.
    pub page: Access,
    /// Who may ask for `/metrics`.
    pub metrics: Access,
    /// Who may ask for `/api/v1/…`: names of functions, stacks, paths.
    pub api: Access,
    /// Who may ask for `/api/v1/hold`.
    pub hold: Access,
    /// Who may have a dump made, by `/api/v1/dump`: [`Access::Auth`] or [`Access::Off`], nothing laxer.
    pub dump: Access,
    /// Connections at once.
    pub connections: usize,
    /// How long a request may take.
    pub timeout: Duration,
}

/// Who may ask for something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// Everybody.
    Open,
    /// Who asks from this machine, and who proves who he is.
    #[default]
    Local,
    /// Who proves who he is.
    Auth,
    /// Nobody: it is not there.
    Off,
}

/// What watching may cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    /// Percent of the machine: probes in all processes, and leakwatch itself.
    pub host_percent: f64,
    /// Percent of one core that probes may add to one process.
    pub process_percent: f64,
    /// Over which that is meant: thinned probes are on for a part of each.
    pub period: Duration,
}

/// Which processes.
#[derive(Clone, Debug)]
pub struct Discover {
    /// Those with these runtimes; [`RuntimeKind::Thread`] stands for all that have none of the others.
    pub runtimes: Vec<RuntimeKind>,
    /// Which of them.
    pub filter: Filter,
    /// Keys of the labels that are told of pods.
    pub labels: BTreeSet<String>,
    /// Time between looks through all processes, for those that nobody told of.
    pub rescan: Duration,
    /// Processes watched at once.
    pub most_processes: usize,
    /// Binaries that are remembered.
    pub most_binaries: usize,
    /// Where they are remembered from one run to the next; `None`: nowhere.
    pub cache: Option<PathBuf>,
}

/// How often to look.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Least time between two looks at a process.
    pub interval: Duration,
    /// Read stacks with each look.
    pub stacks: bool,
    /// Percent of one core that all looks together may take; they become rarer where it would be more.
    pub cpu_percent: f64,
}

/// When to place probes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Promote {
    /// Ever.
    pub enabled: bool,
    /// Processes with probes at once.
    pub at_once: usize,
    /// Growth of the live tasks, per minute, that is suspicious by itself.
    pub growth_per_min: f64,
    /// How long probes stay after the last moment in which the process was suspicious.
    pub hold: Duration,
    /// How long they stay at most.
    pub longest: Duration,
    /// How long a process is left alone after its probes were taken off.
    pub rest: Duration,
}

/// When to prove which goroutines nothing alive can wake: of processes that look as if they leaked, one at a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prove {
    /// Ever.
    pub enabled: bool,
    /// Least time between two proofs of one process.
    pub every: Duration,
    /// Processes with more resident memory, bytes, are not proven.
    pub largest: u64,
    /// Percent of one core that all proofs together may take.
    pub cpu_percent: f64,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: Some(SocketAddr::from(([127, 0, 0, 1], 9464))),
            tls: None,
            bearer_token_file: None,
            basic_users_file: None,
            page: Access::Open,
            metrics: Access::Open,
            api: Access::Local,
            hold: Access::Local,
            dump: Access::Auth,
            connections: 64,
            timeout: Duration::from_secs(10),
        }
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self { host_percent: 1.0, process_percent: 2.0, period: Duration::from_mins(1) }
    }
}

impl Discover {
    /// A program with these runtimes, or with none, is wanted by them.
    pub fn takes(&self, runtimes: &[RuntimeKind]) -> bool {
        if runtimes.is_empty() {
            return self.runtimes.contains(&RuntimeKind::Thread);
        }
        runtimes.iter().any(|runtime| self.runtimes.contains(runtime))
    }
}

impl Default for Discover {
    fn default() -> Self {
        Self {
            runtimes: vec![RuntimeKind::Go, RuntimeKind::Tokio],
            filter: Filter::default(),
            labels: BTreeSet::new(),
            rescan: Duration::from_secs(10),
            most_processes: 1000,
            most_binaries: 512,
            cache: Some(PathBuf::from("/var/lib/leakwatch/binaries.cache")),
        }
    }
}

impl Default for Sampling {
    fn default() -> Self {
        Self { interval: Duration::from_secs(10), stacks: true, cpu_percent: 1.0 }
    }
}

impl Default for Prove {
    fn default() -> Self {
        Self { enabled: true, every: Duration::from_mins(1), largest: 1 << 30, cpu_percent: 1.0 }
    }
}

impl Default for Promote {
    fn default() -> Self {
        Self {
            enabled: true,
            at_once: 4,
            growth_per_min: 60.0,
            hold: Duration::from_mins(5),
            longest: Duration::from_mins(15),
            rest: Duration::from_mins(30),
        }
    }
}
