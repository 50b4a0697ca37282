//! Capabilities: what the kernel lets this process do beyond its user's rights.

use std::{fmt, fs, path::Path};

use super::HostError;

/// A capability that some part of leakwatch asks for. The numbers are the kernel's
/// (`include/uapi/linux/capability.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Capability {
    /// Read any file and directory, whatever its permissions.
    DacReadSearch = 2,
    /// Read other processes' memory, mappings and executables.
    SysPtrace = 19,
    /// Mount, and everything that has no capability of its own.
    SysAdmin = 21,
    /// Exceed resource limits (locked memory on kernels before 5.11).
    SysResource = 24,
    /// Open perf events on other processes: attach probes.
    Perfmon = 38,
    /// Load BPF programs and maps.
    Bpf = 39,
}

impl Capability {
    /// All that leakwatch ever asks for.
    pub const ALL: [Self; 6] =
        [Self::Bpf, Self::Perfmon, Self::SysPtrace, Self::SysAdmin, Self::DacReadSearch, Self::SysResource];

    /// The name that manuals and container configurations use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::DacReadSearch => "CAP_DAC_READ_SEARCH",
            Self::SysPtrace => "CAP_SYS_PTRACE",
            Self::SysAdmin => "CAP_SYS_ADMIN",
            Self::SysResource => "CAP_SYS_RESOURCE",
            Self::Perfmon => "CAP_PERFMON",
            Self::Bpf => "CAP_BPF",
        }
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of capabilities, as `/proc/PID/status` prints them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CapabilitySet(pub u64);

impl CapabilitySet {
    /// Those that the calling thread has in effect.
    pub fn effective() -> Result<Self, HostError> {
        let path = Path::new("/proc/thread-self/status");
        let text = fs::read_to_string(path).map_err(|error| HostError::File {
            action: "read",
            path: path.to_owned(),
            error,
        })?;
        Self::parse_effective(&text)
            .ok_or_else(|| HostError::Malformed { path: path.to_owned(), what: "no CapEff line".to_owned() })
    }

    fn parse_effective(status: &str) -> Option<Self> {
        let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
        u64::from_str_radix(line.trim(), 16).ok().map(Self)
    }

    /// Whether it holds this one.
    pub const fn has(self, capability: Capability) -> bool {
        self.0 & (1 << capability as u8) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_effective_line() {
        let set = CapabilitySet::parse_effective("CapPrm:\t0000000000000000\nCapEff:\t000001fffeffffff\n");
        let set = set.expect("a CapEff line");
        assert!(set.has(Capability::Bpf) && set.has(Capability::SysPtrace));
        assert!(!set.has(Capability::SysResource));
        assert_eq!(CapabilitySet::parse_effective("Name:\tx\n"), None);
    }
}
