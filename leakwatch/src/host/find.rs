//! Processes by name, by executable, by control group.

use std::{
    collections::BTreeSet,
    fmt, fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::{HostError, Process, process::read_proc, stat::Stat};

/// The longest comm: `TASK_COMM_LEN` less its end.
const COMM_LENGTH: usize = 15;

/// Where cgroup hierarchies are mounted.
const CGROUP_ROOT: &str = "/sys/fs/cgroup";

/// What processes are looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// Those of this name, as `ps -o comm` shows it (at most 15 bytes of it), or as the executable's file is called.
    Comm(String),
    /// Those that run this executable: the same file, or, once it was deleted or in another mount namespace, the
    /// same path.
    Exe(PathBuf),
    /// Those of this control group and of all below it: a path under `/sys/fs/cgroup`, or as `/proc/PID/cgroup` has it.
    Cgroup(PathBuf),
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Comm(name) => write!(f, "--comm {name}"),
            Self::Exe(path) => write!(f, "--exe {}", path.display()),
            Self::Cgroup(path) => write!(f, "--cgroup {}", path.display()),
        }
    }
}

/// All processes that match, by pid, without leakwatch itself. Kernel threads, zombies and processes that end
/// meanwhile are passed over.
///
/// # Errors
/// When /proc cannot be listed, when no such control group exists, or when processes match but we may look at none of
/// them.
pub fn find(selector: &Selector) -> Result<Vec<Process>, HostError> {
    let own = std::process::id();
    let matches = matcher(selector)?;
    let mut found = Vec::new();
    let mut refused = None;
    for pid in pids()? {
        if pid == own || !matches(pid) {
            continue;
        }
        match Process::open(pid) {
            Ok(process) => found.push(process),
            Err(error @ HostError::NotPermitted { .. }) => refused = refused.or(Some(error)),
            // Gone, going, or never a program.
            Err(_) => {}
        }
    }
    match refused {
        Some(error) if found.is_empty() => Err(error),
        _ => Ok(found),
    }
}

/// The pids of all processes, ascending.
///
/// # Errors
/// When /proc cannot be listed.
pub fn pids() -> Result<Vec<u32>, HostError> {
    let path = Path::new("/proc");
    let failed = |error| HostError::File { action: "list", path: path.to_owned(), error };
    let mut pids: Vec<u32> = fs::read_dir(path)
        .map_err(failed)?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    pids.sort_unstable();
    Ok(pids)
}

fn matcher(selector: &Selector) -> Result<Box<dyn Fn(u32) -> bool>, HostError> {
    Ok(match selector {
        Selector::Comm(name) => {
            let name = name.clone();
            Box::new(move |pid| is_called(pid, &name))
        }
        Selector::Exe(path) => {
            let file = fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
            let path = std::path::absolute(path).unwrap_or_else(|_empty| path.clone());
            Box::new(move |pid| runs(pid, &path, file))
        }
        Selector::Cgroup(path) => {
            let members = members_of(path)?;
            let path = path.clone();
            Box::new(move |pid| match &members {
                Some(members) => members.contains(&pid),
                None => is_in_cgroup(pid, &path),
            })
        }
    })
}

fn is_called(pid: u32, name: &str) -> bool {
    let bytes = read_proc(pid, "stat").unwrap_or_default();
    match Stat::parse(&bytes).map(|stat| stat.comm) {
        Some(comm) if comm == name => true,
        // The kernel cut the name off: the rest of it is in the executable's.
        Some(comm) if name.len() > COMM_LENGTH && name.starts_with(&*comm) => {
            let exe = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
            let file = exe.file_name().map(|file| file.to_string_lossy().into_owned()).unwrap_or_default();
            file.strip_suffix(" (deleted)").unwrap_or(&file) == name
        }
        _ => false,
    }
}

fn runs(pid: u32, path: &Path, file: Option<(u64, u64)>) -> bool {
    let link = format!("/proc/{pid}/exe");
    if let (Some(wanted), Ok(found)) = (file, fs::metadata(&link))
        && wanted == (found.dev(), found.ino())
    {
        return true;
    }
    let Ok(found) = fs::read_link(&link) else { return false };
    let text = found.to_string_lossy();
    found == path || text.strip_suffix(" (deleted)").is_some_and(|text| Path::new(text) == path)
}

/// The processes that a cgroup directory lists, with those below it; `None` when the path is not such a directory
/// but may be a path as `/proc/PID/cgroup` has it.
fn members_of(path: &Path) -> Result<Option<BTreeSet<u32>>, HostError> {
    let relative = path.strip_prefix("/").unwrap_or(path);
    let unified = Path::new(CGROUP_ROOT).join(relative);
    let Some(directory) = [path, &unified].into_iter().find(|place| place.join("cgroup.procs").exists())
    else {
        if path.starts_with(CGROUP_ROOT) {
            return Err(HostError::File {
                action: "list",
                path: path.to_owned(),
                error: std::io::Error::from_raw_os_error(libc::ENOENT),
            });
        }
        return Ok(None);
    };
    let mut members = BTreeSet::new();
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        let procs = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
        members.extend(procs.lines().filter_map(|line| line.parse::<u32>().ok()));
        let below = fs::read_dir(&directory).into_iter().flatten().flatten();
        open.extend(
            below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()),
        );
    }
    Ok(Some(members))
}

fn is_in_cgroup(pid: u32, path: &Path) -> bool {
    let cgroups = read_proc(pid, "cgroup").unwrap_or_default();
    let cgroups = String::from_utf8_lossy(&cgroups);
    cgroups.lines().filter_map(|line| line.splitn(3, ':').nth(2)).any(|own| Path::new(own).starts_with(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::target::{Target, copy};

    fn check(selector: &Selector, expect: &Target) {
        let found: Vec<u32> = find(selector).expect("a list").iter().map(Process::pid).collect();
        assert_eq!(found, [expect.pid()], "{selector}");
    }

    #[test]
    fn by_name_and_by_executable() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a-name-that-is-longer-than-comm");
        copy("/bin/sleep", &path);
        let target = Target::sleeping(&path);
        check(&Selector::Comm("a-name-that-is-longer-than-comm".to_owned()), &target);
        check(&Selector::Comm("a-name-that-is-".to_owned()), &target);
        check(&Selector::Exe(path.clone()), &target);
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).expect("link");
        check(&Selector::Exe(link), &target);
        fs::remove_file(&path).expect("delete");
        check(&Selector::Exe(path), &target);
        check(&Selector::Comm("a-name-that-is-longer-than-comm".to_owned()), &target);
    }

    #[test]
    fn nothing_matches() {
        for selector in [
            Selector::Comm(String::new()),
            Selector::Comm("no such name".to_owned()),
            Selector::Exe("/no/such/file".into()),
            Selector::Cgroup("/no/such/group".into()),
        ] {
            assert!(find(&selector).expect("a list").is_empty(), "{selector}");
        }
        assert!(find(&Selector::Cgroup("/sys/fs/cgroup/no/such/group".into())).is_err());
    }

    #[test]
    fn our_own_group_without_us() {
        let pids = pids().expect("pids");
        assert!(pids.contains(&std::process::id()));
        let target = Target::sleeping("sleep");
        let found = find(&Selector::Cgroup("/".into())).expect("a list");
        assert!(found.iter().any(|process| process.pid() == target.pid()));
        assert!(found.iter().all(|process| process.pid() != std::process::id()));
    }
}
