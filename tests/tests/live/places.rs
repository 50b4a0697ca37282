//! Programs whose executable has no path that leakwatch could open, or a path that leads to another file, and programs
//! whose own pid is another than the one they are watched by: counted exactly all the same.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use leakwatch_tests::process::eventually;
use leakwatch_tests::{Agent, Target, gate, matrix, need};

use crate::folder::Folder;

/// Watches `pid`, which is the target's, while goroutines of it start and end.
#[track_caller]
pub(crate) fn is_counted(target: &mut Target, pid: u32, about: &str) {
    target.command("spawn chan 50");
    let before = target.truth();
    let agent = Agent::watch(pid, &[]);
    target.command("storm 1000");
    target.command("spawn mutex 20");
    target.command("finish chan 10");
    let after = target.check();
    let report = agent.interrupt().report();
    report.process(pid).assert_is(&before, &after, about);
}

/// The process at the end of a chain of only children.
fn innermost_child(pid: u32) -> u32 {
    let mut innermost = pid;
    while let Some(child) = fs::read_to_string(format!("/proc/{innermost}/task/{innermost}/children"))
        .ok()
        .and_then(|children| children.split_ascii_whitespace().next()?.parse().ok())
    {
        innermost = child;
    }
    innermost
}

/// A shell script that makes a mount namespace of its own and executes what it made there.
fn unshared(script: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script]);
    command
}

#[track_caller]
fn runs(target: &Target, exe: &Path) {
    let link = format!("/proc/{}/exe", target.pid());
    assert_eq!(fs::read_link(link).ok().as_deref(), Some(exe));
}

#[test]
fn a_deleted_executable() {
    need!(gate::live(), gate::file(&matrix::any_go_target().path));
    let folder = Folder::new("deleted");
    let copy = folder.copy("truth");
    let mut target = Target::start(&copy);
    fs::remove_file(&copy).expect("it is deleted");
    let pid = target.pid();
    is_counted(&mut target, pid, "deleted executable");
}

#[test]
fn a_replaced_executable() {
    need!(gate::live(), gate::file(&matrix::any_go_target().path));
    let folder = Folder::new("replaced");
    let copy = folder.copy("truth");
    let mut target = Target::start(&copy);
    // As a package manager does it. Probes in the new file would see nothing.
    fs::rename(folder.copy("new"), &copy).expect("it is replaced");
    let pid = target.pid();
    is_counted(&mut target, pid, "replaced executable");
}

#[test]
fn an_executable_in_another_mount_namespace() {
    need!(gate::live(), gate::file(&matrix::any_go_target().path));
    let folder = Folder::new("mount");
    let (copy, mount) = (folder.copy("truth"), folder.below("mount"));
    let script = format!(
        "mount -t tmpfs none {0} && cp {1} {0}/truth && exec {0}/truth",
        mount.display(),
        copy.display()
    );
    let mut target = Target::start_command(&mut unshared(&script));
    runs(&target, &mount.join("truth"));
    assert!(!mount.join("truth").exists(), "it is not to be seen from here");
    let pid = target.pid();
    is_counted(&mut target, pid, "executable in another mount namespace");
}

#[test]
fn an_executable_on_an_overlay() {
    need!(gate::live(), gate::file(&matrix::any_go_target().path));
    let folder = Folder::new("overlay");
    let (lower, mount) = (folder.below("lower"), folder.below("mount"));
    fs::rename(folder.copy("truth"), lower.join("truth")).expect("it is moved");
    // As container engines do it: the program is in the lower layer, and nobody wrote to it.
    let script = format!(
        "mount -t tmpfs none {0} && mkdir {0}/upper {0}/work {0}/merged && mount -t overlay overlay -o \
         lowerdir={1},upperdir={0}/upper,workdir={0}/work {0}/merged && exec {0}/merged/truth",
        mount.display(),
        lower.display()
    );
    let mut target = Target::start_command(&mut unshared(&script));
    runs(&target, &mount.join("merged").join("truth"));
    let pid = target.pid();
    is_counted(&mut target, pid, "executable on an overlay");
}

#[test]
fn a_process_in_a_pid_namespace() {
    need!(gate::live(), gate::file(&matrix::any_go_target().path));
    let binary = matrix::any_go_target().path;
    for namespaces in [["--pid"].as_slice(), &["--user", "--map-root-user", "--pid"]] {
        let mut command = Command::new("unshare");
        command.args(namespaces).args(["--fork", "--kill-child"]).arg(&binary);
        let mut target = Target::start_command(&mut command);
        let outside = innermost_child(target.pid());
        assert_ne!(outside, target.pid(), "unshare forks");
        is_counted(&mut target, outside, "process in a pid namespace");
        target.close();
        assert!(
            eventually(Duration::from_secs(10), || !Path::new(&format!("/proc/{outside}")).exists()),
            "it ends with its input"
        );
    }
}
