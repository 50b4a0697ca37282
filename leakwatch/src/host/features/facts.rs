//! Reading what [`super::assess`] judges.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::host::{capability::CapabilitySet, tracefs};

/// A fact, or why it is not known.
pub type Reading<T> = Result<T, String>;

/// Version of a kernel, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release {
    /// 6 in 6.18.
    pub major: u32,
    /// 18 in 6.18.
    pub minor: u32,
}

impl Release {
    /// `6.18.44-fc-v669`, `5.15.0-1051-aws`, `6.1-rc3`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.trim().split(|c: char| !c.is_ascii_digit());
        Some(Self { major: numbers.next()?.parse().ok()?, minor: numbers.next()?.parse().ok()? })
    }
}

/// What is known of the kernel and of ourselves. A field inside `Ok` is `None` when the kernel cleanly has no such
/// thing.
#[derive(Clone, Debug)]
pub struct Facts {
    /// `uname -r`, parsed and as it stands.
    pub release: Reading<(Release, String)>,
    /// Our capabilities in effect.
    pub capabilities: Reading<CapabilitySet>,
    /// Our effective user.
    pub uid: u32,
    /// Level in force: none, integrity, confidentiality.
    pub lockdown: Reading<Option<String>>,
    /// `kernel.perf_event_paranoid`.
    pub perf_event_paranoid: Reading<Option<i64>>,
    /// `kernel.unprivileged_bpf_disabled`.
    pub unprivileged_bpf_disabled: Reading<Option<i64>>,
    /// `kernel.yama.ptrace_scope`.
    pub yama: Reading<Option<i64>>,
    /// `net.core.bpf_jit_enable`.
    pub jit: Reading<Option<i64>>,
    /// `/sys/kernel/btf/vmlinux` is there.
    pub btf: Reading<bool>,
    /// The uprobe PMU is there.
    pub uprobe_pmu: Reading<bool>,
    /// Where tracefs is mounted.
    pub tracefs: Option<PathBuf>,
    /// There is a place to mount it.
    pub tracefs_place: Reading<bool>,
    /// We are in the machine's first pid namespace.
    pub first_pid_namespace: Reading<bool>,
    /// We are in the machine's first user namespace.
    pub first_user_namespace: Reading<bool>,
    /// `RLIMIT_MEMLOCK` in bytes; `None`: unlimited.
    pub memlock: Option<u64>,
}

/// Inodes of the first namespaces: `include/uapi/linux/nsfs.h` (`USER_NS_INIT_INO`, `PID_NS_INIT_INO`), before 6.18
/// `include/linux/proc_ns.h`; the numbers are the same since 3.8.
const FIRST_USER_NAMESPACE: u64 = 0xEFFF_FFFD;
const FIRST_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

impl Facts {
    /// Looks at this machine.
    pub fn read() -> Self {
        Self {
            release: release(),
            capabilities: CapabilitySet::effective().map_err(|error| error.to_string()),
            uid: nix::unistd::geteuid().as_raw(),
            lockdown: text("/sys/kernel/security/lockdown")
                .map(|levels| levels.map(|levels| level_in_force(&levels).to_owned())),
            perf_event_paranoid: number("/proc/sys/kernel/perf_event_paranoid"),
            unprivileged_bpf_disabled: number("/proc/sys/kernel/unprivileged_bpf_disabled"),
            yama: number("/proc/sys/kernel/yama/ptrace_scope"),
            jit: number("/proc/sys/net/core/bpf_jit_enable"),
            btf: exists("/sys/kernel/btf/vmlinux"),
            uprobe_pmu: exists("/sys/bus/event_source/devices/uprobe/type"),
            tracefs: tracefs::mounted().map(|found| found.path),
            tracefs_place: exists("/sys/kernel/tracing"),
            first_pid_namespace: first_pid_namespace(),
            first_user_namespace: namespace("/proc/self/ns/user", FIRST_USER_NAMESPACE),
            memlock: rustix::process::getrlimit(rustix::process::Resource::Memlock).current,
        }
    }
}

/// Whether we are in the machine's first pid namespace.
pub(super) fn first_pid_namespace() -> Reading<bool> {
    namespace("/proc/self/ns/pid", FIRST_PID_NAMESPACE)
}

fn release() -> Reading<(Release, String)> {
    const PATH: &str = "/proc/sys/kernel/osrelease";
    let text = text(PATH)?.ok_or_else(|| format!("{PATH} does not exist"))?;
    match Release::parse(&text) {
        Some(release) => Ok((release, text)),
        None => Err(format!("{PATH} says {text:?}")),
    }
}

/// `none [integrity] confidentiality`
fn level_in_force(levels: &str) -> &str {
    levels.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map_or(levels, |(level, _)| level)
}

/// The content of a file, trimmed; `None` when it cleanly is not there.
fn text(path: &str) -> Reading<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("{path} cannot be read ({error})")),
    }
}

fn number(path: &str) -> Reading<Option<i64>> {
    let Some(text) = text(path)? else { return Ok(None) };
    text.parse().map(Some).map_err(|_not_a_number| format!("{path} says {text:?}"))
}

fn exists(path: &str) -> Reading<bool> {
    Path::new(path).try_exists().map_err(|error| format!("{path} cannot be looked at ({error})"))
}

fn namespace(path: &str, first: u64) -> Reading<bool> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(metadata.ino() == first),
        Err(error) => Err(format!("{path} cannot be looked at ({error})")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases() {
        let check = |text, major, minor| {
            assert_eq!(Release::parse(text), Some(Release { major, minor }), "{text}");
        };
        check("6.18.44-fc-v669", 6, 18);
        check("5.15.0-1051-aws\n", 5, 15);
        check("4.18.0-513.el8.x86_64", 4, 18);
        check("6.1-rc3", 6, 1);
        assert_eq!(Release::parse("Linux"), None);
        assert_eq!(Release::parse("6"), None);
        assert!(Release { major: 5, minor: 9 } < Release { major: 5, minor: 15 });
    }

    #[test]
    fn lockdown_levels() {
        assert_eq!(level_in_force("none [integrity] confidentiality"), "integrity");
        assert_eq!(level_in_force("[none] integrity confidentiality"), "none");
        assert_eq!(level_in_force("odd"), "odd");
    }

    #[test]
    fn a_missing_file_is_a_clean_no_and_an_odd_one_is_not() {
        assert_eq!(number("/no/such/file"), Ok(None));
        assert_eq!(exists("/no/such/file"), Ok(false));
        assert!(number("/proc/self/comm").is_err());
        assert!(namespace("/no/such/file", 0).is_err());
    }
}
