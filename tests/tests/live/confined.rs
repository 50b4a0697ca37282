//! What the agent gives up once it runs, in each set of its features, as the kernel says: capabilities, the way to new ones, and
//! system calls.

use std::collections::BTreeSet;
use std::fs;

use leakwatch_tests::seccomp::{Filters, I386, Verdict, X32, X86_64};
use leakwatch_tests::{HostAgent, gate, need};
use nix::libc;

use crate::folder::Folder;

/// Of nobody: what runs on the machine is not read.
const NOBODY: &str = "[discover]\ninclude = [{ comm = \"nobody\" }]\n";

/// `CAP_DAC_READ_SEARCH`, `CAP_SYS_PTRACE`, `CAP_SYS_ADMIN`, `CAP_PERFMON`, `CAP_BPF`.
const KEPT: [u32; 5] = [2, 19, 21, 38, 39];

/// What it has no use for, whatever it is told to do.
const REFUSED: &[libc::c_long] = &[
    libc::SYS_ptrace,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_mount_setattr,
    libc::SYS_open_by_handle_at,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_adjtimex,
    libc::SYS_add_key,
    libc::SYS_keyctl,
    libc::SYS_io_uring_setup,
    libc::SYS_userfaultfd,
    libc::SYS_setuid,
    libc::SYS_setresuid,
    libc::SYS_setgroups,
];

/// What the x32 calls of an x86-64 kernel have other numbers for (`arch/x86/entry/syscalls/syscall_64.tbl`): `execve` and `execveat`.
const X32_EXECUTING: [u32; 2] = [520, 545];
/// And `ptrace`, `process_vm_writev`, `kexec_load`.
const X32_OTHERS: [u32; 3] = [521, 540, 528];

/// What it cannot do without.
const NEEDED: &[libc::c_long] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_openat,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_process_vm_readv,
    libc::SYS_pidfd_open,
    libc::SYS_sendto,
    libc::SYS_connect,
    libc::SYS_clone3,
    libc::SYS_renameat2,
    libc::SYS_exit_group,
];

fn number(call: libc::c_long) -> u32 {
    u32::try_from(call).expect("a number")
}

/// A line of a thread's status.
#[track_caller]
fn line(status: &str, key: &str) -> String {
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    line.unwrap_or_else(|| panic!("no {key} in {status}")).trim().to_owned()
}

#[track_caller]
fn set(status: &str, key: &str) -> BTreeSet<u32> {
    let bits = u64::from_str_radix(&line(status, key), 16).expect("a set");
    (0..64).filter(|number| bits >> number & 1 == 1).collect()
}

/// All that it is to have given up; with `programs` it may execute others.
#[track_caller]
fn assert_confined(host: &HostAgent, programs: bool, about: &str) {
    let own = fs::read_to_string("/proc/thread-self/status").expect("our status");
    let kept: BTreeSet<u32> = set(&own, "CapEff:").intersection(&KEPT.into()).copied().collect();
    let mut threads = 0;
    for thread in fs::read_dir(format!("/proc/{}/task", host.pid())).expect("its threads") {
        let status = fs::read_to_string(thread.expect("one").path().join("status")).expect("its status");
        for key in ["CapEff:", "CapPrm:"] {
            assert_eq!(set(&status, key), kept, "{about}: {key}");
        }
        assert!(set(&status, "CapBnd:").is_subset(&KEPT.into()), "{about}: {status}");
        for key in ["CapInh:", "CapAmb:"] {
            assert_eq!(set(&status, key), BTreeSet::new(), "{about}: {key}");
        }
        let modes = (line(&status, "NoNewPrivs:"), line(&status, "Seccomp:"));
        assert_eq!(modes, ("1".to_owned(), "2".to_owned()), "{about}: {status}");
        threads += 1;
    }
    assert!(threads >= 2, "{about}: the loop and the finder");

    let filters = Filters::of(host.pid()).expect("the kernel tells root");
    let own = Filters::of(std::process::id()).map_or(0, |filters| filters.count());
    assert_eq!(filters.count(), own + 1, "{about}: one of its own");
    let refused = Verdict::Refused(libc::EPERM.unsigned_abs());
    let executing = if programs { Verdict::Allowed } else { refused };
    for &call in REFUSED {
        assert_eq!(filters.verdict(X86_64, number(call)), refused, "{about}: call {call}");
        assert_eq!(filters.verdict(X86_64, number(call) | X32), refused, "{about}: x32 call {call}");
    }
    for call in X32_OTHERS {
        assert_eq!(filters.verdict(X86_64, call | X32), refused, "{about}: x32 call {call}");
    }
    for call in [libc::SYS_execve, libc::SYS_execveat] {
        assert_eq!(filters.verdict(X86_64, number(call)), executing, "{about}: call {call}");
    }
    for call in X32_EXECUTING {
        assert_eq!(filters.verdict(X86_64, call | X32), executing, "{about}: x32 call {call}");
    }
    for &call in NEEDED {
        assert_eq!(filters.verdict(X86_64, number(call)), Verdict::Allowed, "{about}: call {call}");
    }
    // Another machine's numbers mean other calls.
    assert_eq!(filters.verdict(I386, 11), Verdict::Killed, "{about}: execve of i386");
}

#[test]
fn what_it_does_not_need_is_given_up() {
    need!(gate::live());
    let folder = Folder::new("confined");
    let host = HostAgent::start("confined", NOBODY);
    assert_confined(&host, false, "as it comes");
    drop(host);

    // Whatever sends, writes and serves: queue, gRPC, webhook, dumps, holds.
    let all = format!(
        "{NOBODY}[export]\ninterval = \"1s\"\n[export.remote_write]\nurl = \"http://127.0.0.1:9/write\"\nqueue_dir = \"{0}/queue\"\n\
         [export.otlp]\nendpoint = \"https://localhost:9\"\nprotocol = \"grpc\"\n\
         [[rule]]\nname = \"many\"\nwhen = \"tasks.live > 300\"\n\
         [[action]]\nkind = \"webhook\"\nurl = \"http://127.0.0.1:9\"\n[[action]]\nkind = \"dump\"\ndir = \"{0}/dumps\"\n\
         [[action]]\nkind = \"hold\"\nfile = \"{0}/hold\"\n",
        folder.path().display()
    );
    let host = HostAgent::start("confined-all", &all);
    assert_confined(&host, false, "with all that sends and writes");
    drop(host);

    let programs = format!("{all}[[action]]\nkind = \"command\"\ncommand = [\"/bin/true\"]\n");
    let host = HostAgent::start("confined-programs", &programs);
    assert_confined(&host, true, "with a command");
}
