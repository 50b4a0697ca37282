use std::path::PathBuf;

use super::*;

/// A machine on which everything works.
fn good() -> Facts {
    let all = Capability::ALL.into_iter().fold(0, |set, one| set | 1 << one as u64);
    Facts {
        release: Ok((Release { major: 6, minor: 18 }, "6.18.0".to_owned())),
        capabilities: Ok(CapabilitySet(all)),
        uid: 0,
        lockdown: Ok(Some("none".to_owned())),
        perf_event_paranoid: Ok(Some(2)),
        unprivileged_bpf_disabled: Ok(Some(2)),
        yama: Ok(Some(1)),
        jit: Ok(Some(1)),
        btf: Ok(true),
        uprobe_pmu: Ok(true),
        tracefs: Some(PathBuf::from("/sys/kernel/tracing")),
        tracefs_place: Ok(true),
        first_pid_namespace: Ok(true),
        first_user_namespace: Ok(true),
        memlock: Some(8 << 20),
    }
}

fn without(capabilities: &[Capability]) -> Reading<CapabilitySet> {
    let set = good().capabilities?.0;
    Ok(CapabilitySet(capabilities.iter().fold(set, |set, one| set & !(1 << *one as u64))))
}

/// One of the findings that are not fine; none is worse.
fn check(facts: &Facts, status: Status, sentence: &str) {
    let odd: Vec<Finding> =
        assess(facts).into_iter().filter(|finding| finding.status != Status::Ok).collect();
    let matching: Vec<&Finding> = odd.iter().filter(|finding| finding.to_string() == sentence).collect();
    let [finding] = matching.as_slice() else { panic!("{odd:#?}") };
    assert_eq!(finding.status, status);
    assert!(odd.iter().all(|other| other.status <= status), "{odd:#?}");
}

#[test]
fn a_good_machine_has_no_fault() {
    let findings = assess(&good());
    assert!(
        findings.iter().all(|finding| finding.status == Status::Ok && finding.fix.is_none()),
        "{findings:#?}"
    );
}

#[expect(clippy::unnecessary_wraps, reason = "a fact as it is read")]
fn old() -> Reading<(Release, String)> {
    Ok((Release { major: 6, minor: 1 }, "6.1.0".to_owned()))
}

#[test]
fn each_capability_is_named() {
    use Capability::{Bpf, Perfmon, SysAdmin, SysPtrace};
    check(
        &Facts { release: old(), capabilities: without(&[Bpf, SysAdmin]), ..good() },
        Status::Fail,
        "CAP_BPF is missing: BPF programs cannot be loaded; run leakwatch with sudo, or give it CAP_BPF (setcap, \
         --cap-add)",
    );
    check(
        &Facts { release: old(), capabilities: without(&[Perfmon, SysAdmin]), ..good() },
        Status::Fail,
        "CAP_PERFMON is missing: probes cannot be attached; run leakwatch with sudo, or give it CAP_PERFMON (setcap, \
         --cap-add)",
    );
    check(
        &Facts { release: old(), capabilities: without(&[SysAdmin]), ..good() },
        Status::Warn,
        "CAP_SYS_ADMIN is missing: kernels with the fix of CVE-2025-38466 (July 2025) let nobody else place probes; run \
         leakwatch with sudo, or give it CAP_SYS_ADMIN (setcap, --cap-add)",
    );
    check(
        &Facts { capabilities: without(&[Bpf, Perfmon, SysAdmin]), ..good() },
        Status::Fail,
        "CAP_SYS_ADMIN is missing: the kernel lets nobody else place probes since the fix of CVE-2025-38466; run \
         leakwatch with sudo, or give it CAP_SYS_ADMIN (setcap, --cap-add)",
    );
    let facts = Facts { capabilities: without(&[SysPtrace]), yama: Ok(None), ..good() };
    check(
        &facts,
        Status::Warn,
        "CAP_SYS_PTRACE is missing: only processes of the same user, without privileges of their own, can be watched; \
         run leakwatch with sudo, or give it CAP_SYS_PTRACE (setcap, --cap-add)",
    );
    let enough = Facts { capabilities: without(&[Bpf, Perfmon]), ..good() };
    assert!(
        assess(&enough).iter().all(|finding| finding.status == Status::Ok),
        "CAP_SYS_ADMIN includes both"
    );
    let plain = Facts { release: old(), capabilities: Ok(CapabilitySet(0)), uid: 1000, ..good() };
    let fails = assess(&plain).into_iter().filter(|finding| finding.status == Status::Fail).count();
    assert_eq!(fails, 3, "BPF, PERFMON, DAC_READ_SEARCH");
}

#[test]
fn kernels_and_namespaces() {
    check(
        &Facts {
            release: Ok((Release { major: 5, minor: 14 }, "5.14.0-427.el9.x86_64".to_owned())),
            ..good()
        },
        Status::Warn,
        "Linux 5.14.0-427.el9.x86_64 is older than 5.15, but with newer parts; use RHEL 9.2 or newer, if loading is refused",
    );
    check(
        &Facts { release: Ok((Release { major: 5, minor: 14 }, "5.14.21".to_owned())), ..good() },
        Status::Fail,
        "Linux 5.14.21 is too old for probes; use Linux 5.15 or newer: attach cookies for uprobes came with it",
    );
    check(
        &Facts { first_pid_namespace: Ok(false), ..good() },
        Status::Fail,
        "leakwatch runs in a pid namespace of its own, so the pids it sees are not those the kernel reports; run it on \
         the host, or its container with --pid=host (Kubernetes: hostPID: true)",
    );
    check(
        &Facts { first_user_namespace: Ok(false), ..good() },
        Status::Fail,
        "leakwatch runs in a user namespace of its own, where its capabilities do not count for BPF; run it outside of \
         the rootless container, as the machine's root",
    );
}

#[test]
fn what_the_kernel_forbids() {
    let facts = Facts { lockdown: Ok(Some("confidentiality".to_owned())), ..good() };
    check(
        &facts,
        Status::Fail,
        "the kernel is locked down (confidentiality): nobody may read tracepoints; boot with lockdown=integrity, or \
         with Secure Boot off",
    );
    let facts = Facts { lockdown: Ok(Some("integrity".to_owned())), ..good() };
    assert!(assess(&facts).iter().all(|finding| finding.status == Status::Ok));
    check(
        &Facts { yama: Ok(Some(3)), ..good() },
        Status::Fail,
        "3: nobody may read another process's memory until the next boot; set kernel.yama.ptrace_scope to 1 in \
         sysctl.conf and reboot",
    );
    check(
        &Facts { uprobe_pmu: Ok(false), ..good() },
        Status::Fail,
        "this kernel has no uprobes (/sys/bus/event_source/devices/uprobe is missing); use a kernel with \
         CONFIG_UPROBE_EVENTS and mount sysfs on /sys",
    );
    check(
        &Facts { jit: Ok(Some(0)), ..good() },
        Status::Warn,
        "off: BPF programs are interpreted, and each probe costs the watched program several times more; run `sysctl \
         net.core.bpf_jit_enable=1` as root",
    );
    let facts = Facts {
        release: old(),
        perf_event_paranoid: Ok(Some(4)),
        capabilities: without(&[Capability::SysAdmin]),
        ..good()
    };
    check(
        &facts,
        Status::Warn,
        "4: some distributions then want CAP_SYS_ADMIN in place of CAP_PERFMON; run `sysctl \
         kernel.perf_event_paranoid=2` as root if attaching is refused",
    );
}

#[test]
fn tracefs_can_be_mounted_or_not() {
    let facts = Facts { tracefs: None, ..good() };
    assert!(assess(&facts).iter().all(|finding| finding.status == Status::Ok));
    check(
        &Facts { tracefs: None, capabilities: without(&[Capability::SysAdmin]), ..good() },
        Status::Fail,
        "not mounted (or not for us to see), and without CAP_SYS_ADMIN leakwatch cannot mount it; run `mount -t tracefs \
         nodev /sys/kernel/tracing` as root, or give leakwatch CAP_SYS_ADMIN",
    );
    check(
        &Facts { tracefs: None, tracefs_place: Ok(false), ..good() },
        Status::Fail,
        "/sys/kernel/tracing does not exist; use a kernel with CONFIG_FTRACE and mount sysfs on /sys",
    );
}

#[test]
fn without_btf_nobody_knows_where_threads_are_made() {
    check(
        &Facts { btf: Ok(false), ..good() },
        Status::Warn,
        "the kernel has none, and so nobody tells where threads and child processes are made; use a kernel with \
         CONFIG_DEBUG_INFO_BTF",
    );
}

#[test]
fn what_is_not_known_is_not_a_no() {
    let why = || "a file cannot be read".to_owned();
    for facts in [
        Facts { release: Err(why()), ..good() },
        Facts { lockdown: Err(why()), ..good() },
        Facts { uprobe_pmu: Err(why()), ..good() },
        Facts { first_pid_namespace: Err(why()), ..good() },
        Facts { btf: Err(why()), ..good() },
        Facts { jit: Err(why()), ..good() },
    ] {
        check(&facts, Status::Warn, "not known: a file cannot be read");
    }
}

#[test]
fn memlock_mattered_once() {
    let old = Ok((Release { major: 5, minor: 10 }, "5.10".to_owned()));
    let facts = Facts { release: old, capabilities: without(&[Capability::SysResource]), ..good() };
    assert!(assess(&facts).iter().any(|finding| finding.name == "memlock" && finding.status == Status::Fail));
}

#[test]
fn this_machine_can_be_read() {
    assert!(assess(&Facts::read()).len() >= 12);
}
