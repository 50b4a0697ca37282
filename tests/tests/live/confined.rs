//! What the agent gives up once it runs, in each set of its features, as the kernel says: capabilities, the way to new ones, and
//! system calls.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use leakwatch_tests::process::eventually;
use leakwatch_tests::prometheus::PATIENCE;
use leakwatch_tests::receivers::{Collector, Sink};
use leakwatch_tests::seccomp::{Filters, I386, Verdict, X32, X86_64};
use leakwatch_tests::{HostAgent, Target, gate, matrix, need};
use nix::libc;
use rustls::pki_types::CertificateDer;

use crate::{folder::Folder, sent};

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

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// Forms of `/metrics`.
const FORMS: [&str; 3] = [
    "text/plain",
    "application/openmetrics-text;version=1.0.0",
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
];

/// Every answer that there is.
#[track_caller]
fn ask_for_everything(host: &HostAgent, pid: u32) {
    for form in FORMS {
        let answer = host.get("/metrics", &[("Accept", form)]);
        assert!(answer.status == 200 && answer.headers.contains(form.split(';').next().expect("a kind")));
    }
    let report = format!("/api/v1/report?pid={pid}");
    for path in ["/", "/page/main.js", "/healthz", "/readyz", "/api/v1/processes", "/api/v1/alerts", &report]
    {
        assert_eq!(host.get(path, &[]).status, 200, "{path}");
    }
    assert_eq!(host.get("/api/v1/hold", &[]).status, 503);
    for format in ["text", "pprof", "folded", "json", "summary"] {
        let answer = host.raw(&format!(
            "POST /api/v1/dump?pid={pid}&format={format} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Authorization: Bearer {TOKEN}\r\n\r\n"
        ));
        assert_eq!(answer.status, 200, "{format}: {}", answer.body);
    }
    let mut events = TcpStream::connect(host.address()).expect("it listens");
    events.set_read_timeout(Some(Duration::from_secs(30))).expect("set");
    events.write_all(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("asked");
    let mut begin = Vec::new();
    while !begin.ends_with(b"event: turn") {
        let mut byte = [0];
        events.read_exact(&mut byte).expect("an event");
        begin.push(byte[0]);
    }
}

/// Files in a folder.
fn files(folder: &Path) -> usize {
    fs::read_dir(folder).map_or(0, Iterator::count)
}

#[test]
fn everything_works_with_what_is_left() {
    need!(gate::live(), gate::file(&matrix::any_go_target().path));
    let folder = Folder::new("confined-works");
    let mut target = Target::start(&folder.copy("served"));
    target.command("spawn chan 60");
    let (sink, collector) = (Sink::start(), Collector::start(TOKEN));
    let token = folder.secret("token", TOKEN);
    let here = folder.path().display();
    let config = format!(
        "bearer_token_file = \"{token}\"\n[sampling]\ninterval = \"1s\"\ncpu_percent = 50\n\
         [promote]\ngrowth_per_min = 30\n[budget]\nprocess_percent = 100\nhost_percent = 100\n\
         [discover]\ncache = \"{here}/cache/binaries\"\ninclude = [{{ exe = \"{here}/served\" }}]\n[export]\ninterval = \"1s\"\n\
         [export.remote_write]\nurl = \"http://{0}/write\"\nqueue_dir = \"{here}/queue\"\n\
         [export.otlp]\nendpoint = \"http://{1}\"\nprotocol = \"grpc\"\nbearer_token_file = \"{token}\"\n\
         [[rule]]\nname = \"many\"\nwhen = \"tasks.live > 50\"\n[[rule]]\npreset = \"leak\"\n\
         [[action]]\nkind = \"webhook\"\nurl = \"http://{0}\"\n[[action]]\nkind = \"dump\"\ndir = \"{here}/dumps\"\n\
         [[action]]\nkind = \"hold\"\nfile = \"{here}/hold\"\n[[action]]\nkind = \"log\"\n\
         [[action]]\nkind = \"command\"\ncommand = [\"/bin/sh\", \"-c\", \"echo x >> {here}/told\"]\n",
        sink.address(),
        collector.address()
    );
    let mut host = HostAgent::start("confined-works", &format!("[http]\n{config}"));
    // It finds, looks, gets probes, and counts by them; and proves.
    host.counts_exactly(target.pid(), &mut target, 3_000);
    host.wait_until("a proof", |host| host.about()["proofs"]["made"].as_u64() >= Some(1));
    let done = || {
        let path = folder.path();
        let made =
            path.join("hold").exists() && path.join("told").exists() && files(&path.join("dumps")) >= 2;
        let sent = !sink.posted("/write").is_empty() && !sink.posted("/api/v2/alerts").is_empty();
        made && sent && !collector.metrics().is_empty() && !collector.logs().is_empty()
    };
    assert!(eventually(PATIENCE, done), "something is not done: {}", host.get("/api/v1/alerts", &[]).body);
    ask_for_everything(&host, target.pid());
    let about = host.about();
    for kind in ["attach", "probes", "kernel", "reload"] {
        assert_eq!(about["errors"][kind], 0, "{about:#}");
    }
    // Another configuration, with certificates and another folder of dumps.
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    fs::write(folder.path().join("tls.crt"), made.cert.pem()).expect("written");
    folder.secret("tls.key", &made.signing_key.serialize_pem());
    let tls = format!("[http]\ntls_cert = \"{here}/tls.crt\"\ntls_key = \"{here}/tls.key\"\n{config}");
    host.reload(&tls.replace("/dumps\"", "/others\""));
    host.wait_said("the configuration was read again");
    let own = CertificateDer::from(made.cert.der().to_vec());
    let answer = sent::ask(host.address(), &own, "/api/v1/alerts", "").expect("it speaks TLS");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(folder.path().join("others").is_dir());

    assert_confined(&host, true, "after all of it");
    let outcome = host.terminate();
    assert_eq!(outcome.code(), Some(0), "{}", outcome.stderr);
    assert!(folder.path().join("cache/binaries").exists() && !folder.path().join("hold").exists());
    // Whatever the kernel refused would be said with its number.
    for refused in ["Operation not permitted", "os error 1)", "os error 13)", "panicked"] {
        assert!(!outcome.stderr.contains(refused), "{}", outcome.stderr);
    }
}
