//! What this kernel and this user can do for leakwatch: the long form of every "not permitted".
//!
//! Reading ([`Facts::read`]) and judging ([`assess`]) are apart. A fact that could not be read is never taken for a
//! "no": it becomes a finding that says what is not known.

mod facts;

use std::fmt;

pub use facts::{Facts, Reading, Release};

use super::capability::{Capability, CapabilitySet};

/// The oldest kernel that has all that we use (attach cookies for uprobes).
pub const OLDEST_KERNEL: Release = Release { major: 5, minor: 15 };

/// From here on `perf_event_open` wants `CAP_SYS_ADMIN` for uprobes, where `CAP_PERFMON` was enough from 5.8 on
/// (commit ba677dbe77af, "perf: Revert to requiring `CAP_SYS_ADMIN` for uprobes", CVE-2025-38466). Stable kernels have it
/// too, since July 2025.
const PROBES_NEED_ADMIN: Release = Release { major: 6, minor: 16 };

/// How a finding bears on leakwatch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// Fine.
    Ok,
    /// Some things will not work, or nobody knows.
    Warn,
    /// Nothing will work.
    Fail,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at, in a word or two.
    pub name: &'static str,
    /// Whether it is as it must be.
    pub status: Status,
    /// What was found, without a stop at the end.
    pub found: String,
    /// What to do about it; `None` where there is nothing to do.
    pub fix: Option<String>,
}

/// As one sentence.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.found)?;
        match &self.fix {
            Some(fix) => write!(f, "; {fix}"),
            None => Ok(()),
        }
    }
}

impl Finding {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, status: Status::Ok, found: found.into(), fix: None }
    }

    fn warn(name: &'static str, found: impl Into<String>, fix: &str) -> Self {
        Self { name, status: Status::Warn, found: found.into(), fix: Some(fix.to_owned()) }
    }

    fn fail(name: &'static str, found: impl Into<String>, fix: &str) -> Self {
        Self { name, status: Status::Fail, found: found.into(), fix: Some(fix.to_owned()) }
    }

    fn unknown(name: &'static str, why: &str) -> Self {
        Self { name, status: Status::Warn, found: format!("not known: {why}"), fix: None }
    }
}

/// Looks at this machine.
pub fn check() -> Vec<Finding> {
    assess(&Facts::read())
}

/// The first thing that keeps leakwatch from working; `None` when nothing was found that does.
pub fn why_not() -> Option<Finding> {
    check().into_iter().find(|finding| finding.status == Status::Fail)
}

/// That the pids which leakwatch sees are not those the kernel reports, if so. Probes would then count nothing, without
/// any error.
pub fn foreign_pids() -> Option<Finding> {
    Some(pid_namespace(&facts::first_pid_namespace())).filter(|finding| finding.status == Status::Fail)
}

/// Judges what was read. What matters most comes first.
pub fn assess(facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![kernel(facts), user_namespace(facts), pid_namespace(&facts.first_pid_namespace)];
    findings.extend(capabilities(facts));
    findings.extend([
        lockdown(facts),
        uprobes(facts),
        tracefs(facts),
        perf_event_paranoid(facts),
        yama(facts),
        unprivileged_bpf(facts),
        jit(facts),
        btf(facts),
        memlock(facts),
    ]);
    findings
}

fn kernel(facts: &Facts) -> Finding {
    const NAME: &str = "kernel";
    match &facts.release {
        Err(why) => Finding::unknown(NAME, why),
        // Red Hat's 5.14 has the BPF of much newer kernels.
        Ok((Release { major: 5, minor: 14 }, text)) if text.contains(".el9") => Finding::warn(
            NAME,
            format!("Linux {text} is older than 5.15, but with newer parts"),
            "use RHEL 9.2 or newer, if loading is refused",
        ),
        Ok((release, text)) if *release < OLDEST_KERNEL => Finding::fail(
            NAME,
            format!("Linux {text} is too old for probes"),
            "use Linux 5.15 or newer: attach cookies for uprobes came with it",
        ),
        Ok((_, text)) => Finding::ok(NAME, format!("Linux {text}")),
    }
}

fn user_namespace(facts: &Facts) -> Finding {
    const NAME: &str = "user namespace";
    match &facts.first_user_namespace {
        Err(why) => Finding::unknown(NAME, why),
        Ok(true) => Finding::ok(NAME, "the machine's first"),
        Ok(false) => Finding::fail(
            NAME,
            "leakwatch runs in a user namespace of its own, where its capabilities do not count for BPF",
            "run it outside of the rootless container, as the machine's root",
        ),
    }
}

fn pid_namespace(first: &Reading<bool>) -> Finding {
    const NAME: &str = "pid namespace";
    match first {
        Err(why) => Finding::unknown(NAME, why),
        Ok(true) => Finding::ok(NAME, "the machine's first"),
        Ok(false) => Finding::fail(
            NAME,
            "leakwatch runs in a pid namespace of its own, so the pids it sees are not those the kernel reports",
            "run it on the host, or its container with --pid=host (Kubernetes: hostPID: true)",
        ),
    }
}

fn capabilities(facts: &Facts) -> Vec<Finding> {
    const NAME: &str = "capabilities";
    let set = match &facts.capabilities {
        Err(why) => return vec![Finding::unknown(NAME, why)],
        Ok(set) => *set,
    };
    let missing = |capability, status, what: &str| {
        let found = format!("{capability} is missing: {what}");
        let fix = format!("run leakwatch with sudo, or give it {capability} (setcap, --cap-add)");
        Finding { name: NAME, status, found, fix: Some(fix) }
    };
    let admin = permits(set, Capability::SysAdmin);
    let admin_for_probes = facts.release.as_ref().is_ok_and(|(release, _)| *release >= PROBES_NEED_ADMIN);
    let both = permits(set, Capability::Bpf) && permits(set, Capability::Perfmon);
    let root = facts.uid == 0;
    // Where CAP_SYS_ADMIN is needed anyway, it includes the first two.
    let wanted = [
        (Capability::Bpf, Status::Fail, "BPF programs cannot be loaded", admin || !admin_for_probes),
        (Capability::Perfmon, Status::Fail, "probes cannot be attached", admin || !admin_for_probes),
        (
            Capability::SysAdmin,
            Status::Fail,
            "the kernel lets nobody else place probes since the fix of CVE-2025-38466",
            admin_for_probes,
        ),
        (
            Capability::SysAdmin,
            Status::Warn,
            "kernels with the fix of CVE-2025-38466 (July 2025) let nobody else place probes",
            !admin_for_probes && both,
        ),
        (
            Capability::SysPtrace,
            Status::Warn,
            "only processes of the same user, without privileges of their own, can be watched",
            true,
        ),
        (
            Capability::DacReadSearch,
            Status::Fail,
            "the tracepoints under /sys/kernel/tracing can be read by root only",
            !root,
        ),
    ];
    let mut findings: Vec<Finding> = wanted
        .into_iter()
        .filter(|&(capability, .., needed)| needed && !permits(set, capability))
        .map(|(capability, status, what, _)| missing(capability, status, what))
        .collect();
    if findings.is_empty() {
        let have: Vec<&str> =
            Capability::ALL.into_iter().filter(|one| set.has(*one)).map(Capability::name).collect();
        findings.push(Finding::ok(NAME, have.join(", ")));
    }
    findings
}

/// `CAP_SYS_ADMIN` includes what later became `CAP_BPF` and `CAP_PERFMON` (`bpf_capable`, `perfmon_capable` in
/// `include/linux/capability.h`).
fn permits(set: CapabilitySet, capability: Capability) -> bool {
    let split_off = matches!(capability, Capability::Bpf | Capability::Perfmon);
    set.has(capability) || (split_off && set.has(Capability::SysAdmin))
}

fn has(facts: &Facts, capability: Capability) -> bool {
    facts.capabilities.as_ref().is_ok_and(|set| permits(*set, capability))
}

fn lockdown(facts: &Facts) -> Finding {
    const NAME: &str = "lockdown";
    match &facts.lockdown {
        Err(why) => Finding::unknown(NAME, why),
        Ok(None) => Finding::ok(NAME, "not built into this kernel"),
        // Only this level forbids tracefs and bpf_probe_read_kernel (security/lockdown/lockdown.c).
        Ok(Some(level)) if level == "confidentiality" => Finding::fail(
            NAME,
            "the kernel is locked down (confidentiality): nobody may read tracepoints",
            "boot with lockdown=integrity, or with Secure Boot off",
        ),
        Ok(Some(level)) => Finding::ok(NAME, level.clone()),
    }
}

fn uprobes(facts: &Facts) -> Finding {
    const NAME: &str = "uprobes";
    match &facts.uprobe_pmu {
        Err(why) => Finding::unknown(NAME, why),
        Ok(true) => Finding::ok(NAME, "the kernel has them"),
        Ok(false) => Finding::fail(
            NAME,
            "this kernel has no uprobes (/sys/bus/event_source/devices/uprobe is missing)",
            "use a kernel with CONFIG_UPROBE_EVENTS and mount sysfs on /sys",
        ),
    }
}

fn tracefs(facts: &Facts) -> Finding {
    const NAME: &str = "tracefs";
    match (&facts.tracefs, &facts.tracefs_place) {
        (Some(path), _) => Finding::ok(NAME, format!("mounted on {}", path.display())),
        (None, Err(why)) => Finding::unknown(NAME, why),
        (None, Ok(false)) => Finding::fail(
            NAME,
            "/sys/kernel/tracing does not exist",
            "use a kernel with CONFIG_FTRACE and mount sysfs on /sys",
        ),
        (None, Ok(true)) if has(facts, Capability::SysAdmin) => {
            Finding::ok(NAME, "not mounted; leakwatch mounts it for itself alone")
        }
        (None, Ok(true)) => Finding::fail(
            NAME,
            "not mounted (or not for us to see), and without CAP_SYS_ADMIN leakwatch cannot mount it",
            "run `mount -t tracefs nodev /sys/kernel/tracing` as root, or give leakwatch CAP_SYS_ADMIN",
        ),
    }
}

fn perf_event_paranoid(facts: &Facts) -> Finding {
    const NAME: &str = "perf_event_paranoid";
    match &facts.perf_event_paranoid {
        Err(why) => Finding::unknown(NAME, why),
        Ok(None) => Finding::fail(
            NAME,
            "this kernel has no perf events",
            "use a kernel with CONFIG_PERF_EVENTS: probes are attached through them",
        ),
        // Debian, Ubuntu and Android add levels above 2 that ask for CAP_SYS_ADMIN.
        Ok(Some(level)) if *level > 2 && !has(facts, Capability::SysAdmin) => Finding::warn(
            NAME,
            format!("{level}: some distributions then want CAP_SYS_ADMIN in place of CAP_PERFMON"),
            "run `sysctl kernel.perf_event_paranoid=2` as root if attaching is refused",
        ),
        Ok(Some(level)) => Finding::ok(NAME, level.to_string()),
    }
}

fn yama(facts: &Facts) -> Finding {
    const NAME: &str = "yama ptrace_scope";
    match &facts.yama {
        Err(why) => Finding::unknown(NAME, why),
        Ok(None) => Finding::ok(NAME, "not built into this kernel"),
        Ok(Some(3)) => Finding::fail(
            NAME,
            "3: nobody may read another process's memory until the next boot",
            "set kernel.yama.ptrace_scope to 1 in sysctl.conf and reboot",
        ),
        Ok(Some(scope)) if *scope > 0 && !has(facts, Capability::SysPtrace) => Finding::warn(
            NAME,
            format!("{scope}: without CAP_SYS_PTRACE no other process's memory can be read"),
            "run leakwatch with sudo, or give it CAP_SYS_PTRACE",
        ),
        Ok(Some(scope)) => Finding::ok(NAME, scope.to_string()),
    }
}

fn unprivileged_bpf(facts: &Facts) -> Finding {
    const NAME: &str = "unprivileged_bpf_disabled";
    match &facts.unprivileged_bpf_disabled {
        Err(why) => Finding::unknown(NAME, why),
        Ok(None) => Finding::fail(
            NAME,
            "this kernel has no bpf()",
            "use a kernel with CONFIG_BPF_SYSCALL and CONFIG_BPF_EVENTS",
        ),
        Ok(Some(level)) => Finding::ok(NAME, format!("{level} (it does not matter to leakwatch)")),
    }
}

fn jit(facts: &Facts) -> Finding {
    const NAME: &str = "BPF JIT";
    match &facts.jit {
        Err(why) => Finding::unknown(NAME, why),
        Ok(Some(0)) => Finding::warn(
            NAME,
            "off: BPF programs are interpreted, and each probe costs the watched program several times more",
            "run `sysctl net.core.bpf_jit_enable=1` as root",
        ),
        Ok(Some(_)) => Finding::ok(NAME, "on"),
        Ok(None) => Finding::ok(NAME, "no switch in this network namespace"),
    }
}

fn btf(facts: &Facts) -> Finding {
    const NAME: &str = "BTF";
    match &facts.btf {
        Err(why) => Finding::unknown(NAME, why),
        Ok(true) => Finding::ok(NAME, "the kernel has it"),
        // Its verifier knows no type for what `bpf_get_current_task_btf` returns then (`check_helper_call` in kernel/bpf/verifier.c).
        Ok(false) => Finding::warn(
            NAME,
            "the kernel has none, and so nobody tells where threads and child processes are made",
            "use a kernel with CONFIG_DEBUG_INFO_BTF",
        ),
    }
}

fn memlock(facts: &Facts) -> Finding {
    const NAME: &str = "memlock";
    const ENOUGH: u64 = 512 << 20;
    // Since 5.11 BPF memory is charged to the memory cgroup.
    match &facts.release {
        Ok((release, _)) if *release < (Release { major: 5, minor: 11 }) => {}
        _ => return Finding::ok(NAME, "BPF maps are charged to the memory cgroup, not to this limit"),
    }
    match facts.memlock {
        Some(bytes) if bytes < ENOUGH && !has(facts, Capability::SysResource) => Finding::fail(
            NAME,
            format!("{bytes} bytes are too few for BPF maps"),
            "run `ulimit -l unlimited` before leakwatch",
        ),
        _ => Finding::ok(NAME, "enough"),
    }
}

#[cfg(test)]
mod tests;
