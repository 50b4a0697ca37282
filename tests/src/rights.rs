//! Runs leakwatch with the rights that `deploy/` gives it, and with fewer: capabilities, what it sees of the files, what is
//! mounted.
//!
//! There is no service manager on a test machine: `unshare` and `setpriv` make of the same parts of the kernel what it would, and
//! what an engine would (`pod` has a real one). What is only systemd's own is not tried by this.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{agent, matrix};

/// A file below `deploy/`.
#[track_caller]
pub fn deployed(file: &str) -> String {
    let path = matrix::repository().join("deploy").join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The capabilities of the systemd unit, as Kubernetes names them.
#[track_caller]
pub fn of_the_unit() -> BTreeSet<String> {
    let unit = deployed("systemd/leakwatch-agent.service");
    let line = unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet="));
    let names = line.expect("the unit bounds the capabilities").split_whitespace();
    names.map(|name| name.strip_prefix("CAP_").expect("a capability").to_owned()).collect()
}

/// What a leakwatch may do and see.
#[derive(Clone, Debug)]
pub struct Rights {
    capabilities: BTreeSet<String>,
    tracefs: bool,
    own_root: bool,
}

impl Rights {
    /// As the systemd unit and the container have it: the unit's capabilities; of the machine's files nothing but `/proc`, `/sys`
    /// and its own, all of them read-only but `/var/lib/leakwatch`.
    #[track_caller]
    pub fn deployed() -> Self {
        Self { capabilities: of_the_unit(), tracefs: true, own_root: true }
    }

    /// Root with these capabilities, on the machine as it is.
    pub fn only(capabilities: &[&str]) -> Self {
        let capabilities = capabilities.iter().map(|&name| name.to_owned()).collect();
        Self { capabilities, tracefs: true, own_root: false }
    }

    /// The same without this capability.
    #[must_use]
    pub fn without(mut self, capability: &str) -> Self {
        assert!(self.capabilities.remove(capability), "it has no {capability}");
        self
    }

    /// The same where nobody mounted tracefs, and where nothing can be mounted.
    #[must_use]
    pub fn without_tracefs(mut self) -> Self {
        self.tracefs = false;
        self
    }

    /// A command that becomes `leakwatch agent` with this configuration, as the process that is started.
    #[track_caller]
    pub fn agent(&self, config: &Path) -> Command {
        let binary: PathBuf = agent::binary().unwrap_or_else(|reason| panic!("{reason}"));
        let bounding: Vec<String> =
            self.capabilities.iter().map(|name| format!("+{}", name.to_lowercase())).collect();
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--propagation", "private", "sh", "-e", "-c", PREPARE, "prepare"])
            .arg(binary)
            .arg(config)
            .arg(format!("-all,{}", bounding.join(",")).trim_end_matches(','))
            .env("TRACEFS", if self.tracefs { "yes" } else { "" })
            .env("OWN_ROOT", if self.own_root { "yes" } else { "" });
        command
    }
}

/// In a mount namespace of its own: what it may see, then leakwatch in place of the shell.
const PREPARE: &str = r#"
if [ -z "$TRACEFS" ]; then
  mount -t tmpfs nodev /sys/kernel/tracing
  mount -t tmpfs nodev /sys/kernel/debug
elif [ ! -d /sys/kernel/tracing/events ]; then
  mount -t tracefs nodev /sys/kernel/tracing
fi
if [ -z "$OWN_ROOT" ]; then
  exec setpriv --bounding-set "$3" --inh-caps=-all --no-new-privs "$1" agent --config "$2"
fi
root=$(mktemp -d)
mount -t tmpfs nodev "$root"
cd "$root"
mkdir -p usr proc sys dev etc/leakwatch var/lib/leakwatch
for name in bin sbin lib lib64; do ln -s "usr/$name" "$name"; done
touch leakwatch etc/leakwatch/agent.toml
mount --bind /usr usr
mount --bind "$1" leakwatch
mount --bind "$2" etc/leakwatch/agent.toml
mount --rbind /proc proc
mount --bind /sys sys
mount --bind /sys/kernel/tracing sys/kernel/tracing
mount -t tmpfs nodev var/lib/leakwatch
for place in usr leakwatch etc/leakwatch/agent.toml sys sys/kernel/tracing .; do mount -o remount,bind,ro "$place"; done
exec chroot . setpriv --bounding-set "$3" --inh-caps=-all --no-new-privs /leakwatch agent --config /etc/leakwatch/agent.toml
"#;
