//! Pids that are nobody's, or of something that cannot be watched.

use std::{
    fs,
    process::{Command, Stdio},
};

use super::{Target, as_nobody, as_root, eventually, leakwatch, refuses, texts};

/// Both commands that take a pid say the same.
#[track_caller]
fn refuses_pid(pid: u32, sentence: &str) {
    let pid = pid.to_string();
    refuses(leakwatch(&["--pid", &pid]), sentence);
    refuses(leakwatch(&["inspect", "--pid", &pid]), sentence);
}

fn state_of(pid: u32) -> Option<char> {
    fs::read_to_string(format!("/proc/{pid}/stat")).ok()?.rsplit_once(") ")?.1.chars().next()
}

#[test]
fn nobodys_pid() {
    // Above the kernel's PID_MAX_LIMIT.
    for pid in [0, 4_194_305, u32::MAX] {
        refuses_pid(pid, &format!("no process has pid {pid}; check it with `ps -p {pid}`"));
    }
}

#[test]
fn a_pid_of_the_past() {
    let pid = {
        let target = Target::start(Command::new("sleep").arg("1000"));
        target.pid()
    };
    refuses_pid(pid, &format!("no process has pid {pid}; check it with `ps -p {pid}`"));
}

#[test]
fn a_kernel_thread() {
    if fs::read_to_string("/proc/2/comm").is_ok_and(|comm| comm == "kthreadd\n") {
        refuses_pid(
            2,
            "2 (kthreadd) is a kernel thread, which has no program to watch; give the pid of a user process",
        );
    }
}

#[test]
fn a_zombie() {
    let target = Target::start(Command::new("sh").args(["-c", "exit 0"]));
    let pid = target.pid();
    eventually(|| state_of(pid) == Some('Z'));
    refuses_pid(
        pid,
        &format!(
            "process {pid} (sh) is a zombie: it has ended and its parent {} has not collected it; there is nothing left \
             to watch",
            std::process::id()
        ),
    );
}

#[test]
fn a_thread() {
    let (tell, told) = std::sync::mpsc::channel();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        let tid = nix::unistd::gettid().as_raw();
        tell.send(u32::try_from(tid).expect("a tid is not negative")).expect("the test waits");
        stopped.recv().expect_err("the sender is dropped");
    });
    let tid = told.recv().expect("the thread's id");
    let pid = std::process::id();
    refuses_pid(tid, &format!("{tid} is a thread of process {pid}; give --pid {pid}"));
    drop(stop);
    thread.join().expect("the thread ends");
}

#[test]
fn of_another_user_without_privileges() {
    if !as_root("processes::of_another_user_without_privileges") {
        return;
    }
    let target = Target::start(Command::new("sleep").arg("1000"));
    let pid = target.pid();
    let sentence = format!(
        "cannot see the executable of process {pid}: not permitted without CAP_SYS_PTRACE; run leakwatch with sudo or \
         give it CAP_SYS_PTRACE"
    );
    let pid = pid.to_string();
    for arguments in [["watch", "--pid", &pid], ["inspect", "--pid", &pid]] {
        let (command, _program) = as_nobody(&arguments);
        refuses(command, &sentence);
    }
}

/// Processes end at any moment of being looked at: leakwatch says so, or that there is no such process, or how they
/// are, and never anything else.
#[test]
fn a_pid_that_ends_meanwhile() {
    let endings = [
        "ended while leakwatch was looking at it; there is nothing left to watch",
        "check it with `ps -p",
        "is a zombie: it has ended",
    ];
    for delay in 0..40 {
        let mut target = Target::start(Command::new("sleep").arg("1000"));
        let pid = target.pid().to_string();
        let agent = leakwatch(&["inspect", "--pid", &pid])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("leakwatch starts");
        // Microseconds, because leakwatch looks for some milliseconds only.
        std::thread::sleep(std::time::Duration::from_micros(delay * 150));
        target.0.kill().expect("the target is killed");
        target.0.wait().expect("the target is reaped");
        let output = agent.wait_with_output().expect("leakwatch ends");
        let (_, stderr) = texts(&output);
        let fine = output.status.success() && stderr.is_empty();
        let said = endings.iter().any(|ending| stderr.contains(ending)) && stderr.lines().count() == 1;
        assert!(fine || said, "after {delay}: {stderr}");
    }
}

#[test]
fn nothing_matches_a_selection() {
    refuses(
        leakwatch(&["watch", "--comm", "no-such-name"]),
        "no process matches --comm no-such-name; `ps -eo pid,comm,args` lists what runs",
    );
    refuses(
        leakwatch(&["watch", "--exe", "/no/such/file"]),
        "no process matches --exe /no/such/file; `ps -eo pid,comm,args` lists what runs",
    );
    refuses(
        leakwatch(&["watch", "--cgroup", "/sys/fs/cgroup/no/such/group"]),
        "cannot list /sys/fs/cgroup/no/such/group: No such file or directory",
    );
}

/// Executables whose path means nothing to us: what runs is inspected all the same.
#[test]
fn an_executable_without_a_path_is_inspected() {
    let dir = tempfile::tempdir().expect("a directory");
    let copy = dir.path().join("sleeper");
    copy_of_sleep(&copy);
    let target = Target::start(Command::new(&copy).arg("1000"));
    eventually(|| fs::read_link(format!("/proc/{}/exe", target.pid())).is_ok_and(|exe| exe == copy));
    fs::remove_file(&copy).expect("it is deleted");
    let shown = inspected(target.pid());
    assert!(shown.starts_with(&format!("{} (pid {})\n", copy.display(), target.pid())), "{shown}");
    assert!(shown.contains("the file was deleted or replaced since the process started"), "{shown}");

    if !as_root("processes::an_executable_without_a_path_is_inspected (namespaces)") {
        return;
    }
    let mount = dir.path().join("mount");
    fs::create_dir(&mount).expect("a directory");
    let script = format!(
        "mount -t tmpfs none {0} && cp /bin/sleep {0}/hidden && echo ready && exec {0}/hidden 1000",
        mount.display()
    );
    let mut target = Target::start(Command::new("unshare").args(["--mount", "sh", "-c", &script]));
    let hidden = mount.join("hidden");
    eventually(|| fs::read_link(format!("/proc/{}/exe", target.pid())).is_ok_and(|exe| exe == hidden));
    assert!(!hidden.exists(), "it is in another mount namespace");
    let shown = inspected(target.pid());
    assert!(shown.starts_with(&format!("{} (pid {})\n", hidden.display(), target.pid())), "{shown}");
    assert!(!shown.contains("deleted"), "{shown}");
    target.0.kill().expect("the target is killed");
}

/// Copied by another process: a file that any thread of ours has open for writing at the moment of a fork cannot be
/// executed (ETXTBSY).
fn copy_of_sleep(to: &std::path::Path) {
    assert!(Command::new("cp").arg("/bin/sleep").arg(to).status().expect("cp starts").success());
}

/// What `inspect` prints of a process.
#[track_caller]
fn inspected(pid: u32) -> String {
    let output = leakwatch(&["inspect", "--pid", &pid.to_string()]).output().expect("leakwatch starts");
    let (stdout, stderr) = texts(&output);
    assert!(output.status.success() && stderr.is_empty(), "{stderr}");
    stdout
}
