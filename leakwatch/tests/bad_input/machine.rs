//! What `doctor` says, and what is said where something is missing.

use std::process::Command;

use super::{as_nobody, as_root, leakwatch, texts};

#[test]
fn doctor_answers_in_json() {
    let output = leakwatch(&["doctor", "--format", "json"]).output().expect("leakwatch starts");
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(json["schema"], "leakwatch.doctor/1");
    let findings = json["findings"].as_array().expect("a list");
    for name in ["kernel", "capabilities", "uprobes", "tracefs", "pid namespace"] {
        assert!(findings.iter().any(|finding| finding["name"] == name), "{name}");
    }
    let fit = findings.iter().all(|finding| finding["status"] != "fail");
    assert_eq!(json["fit"], fit);
    assert_eq!(output.status.code(), Some(i32::from(!fit)));
}

#[test]
fn without_privileges_each_one_is_named() {
    if !as_root("machine::without_privileges_each_one_is_named") {
        return;
    }
    let (mut command, _program) = as_nobody(&["doctor"]);
    let output = command.output().expect("leakwatch starts");
    let (stdout, _) = texts(&output);
    for name in ["CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH", "leakwatch cannot run here"] {
        assert!(stdout.contains(name), "{name}: {stdout}");
    }
    assert!(stdout.contains("CAP_SYS_ADMIN is missing") || stdout.contains("CAP_BPF is missing"), "{stdout}");
    assert_eq!(output.status.code(), Some(1));
}

/// The pids that leakwatch sees in a pid namespace are not the kernel's: it would count nothing, and say 0.
#[test]
fn in_a_pid_namespace_of_its_own_it_refuses() {
    if !as_root("machine::in_a_pid_namespace_of_its_own_it_refuses") {
        return;
    }
    let inside = |arguments: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--mount-proc", env!("CARGO_BIN_EXE_leakwatch")]).args(arguments);
        command.output().expect("unshare starts")
    };
    let (stdout, _) = texts(&inside(&["doctor"]));
    assert!(stdout.contains("FAIL  pid namespace"), "{stdout}");
    // Pid 1 in there is leakwatch itself.
    let output = inside(&["--pid", "1"]);
    let (_, stderr) = texts(&output);
    assert_eq!(
        stderr,
        "leakwatch: leakwatch runs in a pid namespace of its own, so the pids it sees are not those the kernel reports; run \
         it on the host, or its container with --pid=host (Kubernetes: hostPID: true)\n"
    );
    assert_eq!(output.status.code(), Some(1));
}

/// Without tracefs and without the right to mount it: the command that mends it.
#[test]
fn tracefs_cannot_be_mounted() {
    if !as_root("machine::tracefs_cannot_be_mounted") {
        return;
    }
    // An empty file system over /sys hides the machine's tracefs, if there is one, and the place to mount another.
    let script = format!("mount -t tmpfs none /sys && exec {} --pid $$", env!("CARGO_BIN_EXE_leakwatch"));
    let output =
        Command::new("unshare").args(["--mount", "sh", "-c", &script]).output().expect("unshare starts");
    let (_, stderr) = texts(&output);
    assert_eq!(
        stderr,
        "leakwatch: tracefs is not mounted and mounting it failed (No such file or directory); mount sysfs on /sys and run \
         `mount -t tracefs nodev /sys/kernel/tracing` as root\n"
    );
    assert_eq!(output.status.code(), Some(1));
}
