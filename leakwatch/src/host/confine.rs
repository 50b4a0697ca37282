//! Gives up what is not needed any more: capabilities, the way to more of them, and system calls.
//!
//! All of it is of the calling thread and of those that it starts from then on, so it is to be done before there are others.
//! What is given up never comes back. Must never leave a process with less than it was asked to keep.

use std::collections::BTreeMap;

use rustix::thread::{
    CapabilitySet as Set, CapabilitySets, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};

use super::capability::Capability;

/// Why something could not be given up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfineError {
    /// The kernel refused.
    #[error("cannot give up {what}: {error}")]
    Refused {
        /// What.
        what: &'static str,
        /// Its words.
        error: std::io::Error,
    },
    /// The filter of system calls could not be made or set.
    #[error("cannot set a filter of system calls: {0}")]
    Filter(String),
}

/// Numbers of the capabilities that the kernel may know (`CAP_LAST_CAP` is 40 today).
const MOST_CAPABILITIES: u32 = 63;

/// Gives up every capability but these, for good. One that is not there is not missed.
///
/// # Errors
/// When the kernel refuses.
pub fn keep_capabilities(keep: &[Capability]) -> Result<(), ConfineError> {
    let refused = |what| move |error: rustix::io::Errno| ConfineError::Refused { what, error: error.into() };
    let wanted = keep.iter().fold(Set::empty(), |set, &one| set | Set::from_bits_retain(1 << one as u8));
    let now = capabilities(None).map_err(refused("capabilities"))?;
    for number in 0..=MOST_CAPABILITIES {
        let one = Set::from_bits_retain(1 << number);
        if !wanted.contains(one) && now.effective.contains(Set::SETPCAP) {
            // A number that this kernel does not know is refused, and nobody has it.
            let _known = remove_capability_from_bounding_set(one).is_ok();
        }
    }
    clear_ambient_capability_set().map_err(refused("ambient capabilities"))?;
    let sets = CapabilitySets {
        effective: now.effective & wanted,
        permitted: now.permitted & wanted,
        inheritable: Set::empty(),
    };
    set_capabilities(None, sets).map_err(refused("capabilities"))
}

/// No program that is executed from now on gets more rights than we have.
///
/// # Errors
/// When the kernel refuses.
pub fn no_new_privileges() -> Result<(), ConfineError> {
    set_no_new_privs(true)
        .map_err(|error| ConfineError::Refused { what: "the way to new privileges", error: error.into() })
}

/// System calls that an observer has no use for once it runs: they write to others, change the machine, or lead somewhere
/// else.
const NEEDLESS: &[libc::c_long] = &[
    libc::SYS_ptrace,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_process_mrelease,
    libc::SYS_pidfd_getfd,
    libc::SYS_move_pages,
    libc::SYS_migrate_pages,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsmount,
    libc::SYS_fsconfig,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_open_by_handle_at,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_personality,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setgroups,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
];

/// Those that execute another program.
const EXECUTING: &[libc::c_long] = &[libc::SYS_execve, libc::SYS_execveat];

/// What is set in the numbers of the x32 calls that an x86-64 kernel may have beside its own (`__X32_SYSCALL_BIT`).
const X32: libc::c_long = 0x4000_0000;

/// Calls that x32 has another number for, and that one: `arch/x86/entry/syscalls/syscall_64.tbl` of Linux 6.18.
const X32_NUMBERS: &[(libc::c_long, libc::c_long)] = &[
    (libc::SYS_execve, 520),
    (libc::SYS_ptrace, 521),
    (libc::SYS_kexec_load, 528),
    (libc::SYS_process_vm_writev, 540),
    (libc::SYS_execveat, 545),
];

/// All numbers by which a call can be made on this machine.
fn numbers(call: libc::c_long) -> Vec<i64> {
    let mut numbers = vec![call];
    if cfg!(target_arch = "x86_64") {
        let other = X32_NUMBERS.iter().find(|(own, _)| *own == call);
        numbers.extend([Some(call | X32), other.map(|(_, other)| other | X32)].into_iter().flatten());
    }
    numbers
}

/// Has the kernel refuse (`EPERM`) what an observer has no use for; with `programs` it may still execute others.
/// [`no_new_privileges`] comes before it.
///
/// # Errors
/// When the kernel has no such filters, or this machine is none that we know.
pub fn refuse_needless_calls(programs: bool) -> Result<(), ConfineError> {
    let failed = |error: &dyn std::fmt::Display| ConfineError::Filter(error.to_string());
    let executing = if programs { &[] } else { EXECUTING };
    let calls = NEEDLESS.iter().chain(executing);
    let rules: BTreeMap<i64, Vec<_>> =
        calls.flat_map(|&call| numbers(call)).map(|number| (number, Vec::new())).collect();
    let refuse = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    let machine = std::env::consts::ARCH.try_into().map_err(|error| failed(&error))?;
    let filter =
        SeccompFilter::new(rules, SeccompAction::Allow, refuse, machine).map_err(|error| failed(&error))?;
    let program: BpfProgram = filter.try_into().map_err(|error| failed(&error))?;
    apply_filter(&program).map_err(|error| failed(&error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::capability::CapabilitySet;

    #[test]
    fn what_is_given_up_is_gone_for_this_thread_alone() {
        let before = CapabilitySet::effective().expect("read");
        let thread = std::thread::spawn(|| {
            keep_capabilities(&[Capability::Bpf, Capability::SysPtrace]).expect("given up");
            no_new_privileges().expect("given up");
            refuse_needless_calls(false).expect("refused from now on");
            let left = CapabilitySet::effective().expect("read");
            let refused = nix::sched::unshare(nix::sched::CloneFlags::empty()).expect_err("refused");
            let execution = std::process::Command::new("/bin/true").status();
            (left, refused, execution.map_err(|error| error.kind()))
        });
        let (left, refused, execution) = thread.join().expect("it ends");
        assert_eq!(left.0 & !before.0, 0, "nothing new");
        assert!(!left.has(Capability::SysAdmin) && !left.has(Capability::DacReadSearch));
        assert_eq!(left.has(Capability::Bpf), before.has(Capability::Bpf));
        assert_eq!(refused, nix::errno::Errno::EPERM);
        assert_eq!(execution.expect_err("refused"), std::io::ErrorKind::PermissionDenied);
        assert_eq!(CapabilitySet::effective().expect("read"), before, "this thread keeps what it had");
    }
}
