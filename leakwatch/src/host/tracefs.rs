//! tracefs: where this kernel's tracepoints lay their fields, and a private mount where nobody mounted it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use leakwatch_common::TracepointLayout;
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::statfs::{TRACEFS_MAGIC, statfs},
};

use super::HostError;

/// Where tracefs belongs, and where debugfs mounts it by itself. aya looks at the same two places.
const PLACES: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// A tracefs that can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracefs {
    /// Where it is mounted.
    pub path: PathBuf,
    /// Only the calling thread and what it starts from now on see it.
    pub private: bool,
}

/// A tracefs that is mounted for everybody; `None` when there is none.
pub fn mounted() -> Option<Tracefs> {
    // Looking into /sys/kernel/debug/tracing also makes debugfs mount it there.
    let path = PLACES.into_iter().find(|place| {
        statfs(*place).is_ok_and(|found| found.filesystem_type() == TRACEFS_MAGIC)
            && fs::read_dir(Path::new(place).join("events")).is_ok()
    })?;
    Some(Tracefs { path: PathBuf::from(path), private: false })
}

/// A tracefs: the machine's, or one in a mount namespace that the calling thread gets for itself, with whatever it
/// starts from then on.
fn ensure() -> Result<Tracefs, HostError> {
    if let Some(found) = mounted() {
        return Ok(found);
    }
    let place = PLACES[0];
    mount_private(Path::new(place)).map_err(|errno| {
        let fix = match errno {
            nix::Error::EPERM => "run leakwatch with CAP_SYS_ADMIN, or once `mount -t tracefs nodev /sys/kernel/tracing` as root",
            nix::Error::ENODEV => "this kernel was built without CONFIG_TRACING: use one that has it",
            nix::Error::ENOENT => "mount sysfs on /sys and run `mount -t tracefs nodev /sys/kernel/tracing` as root",
            _ => "run `mount -t tracefs nodev /sys/kernel/tracing` as root",
        };
        HostError::Tracefs { error: io::Error::from(errno), fix }
    })?;
    Ok(Tracefs { path: PathBuf::from(place), private: true })
}

fn mount_private(place: &Path) -> nix::Result<()> {
    const NONE: Option<&str> = None;
    // Ask first: a namespace is not undone.
    place.metadata().map_err(|_missing| nix::Error::ENOENT)?;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_SLAVE, NONE)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("tracefs"), place, Some("tracefs"), flags, NONE)
}

/// Runs `work` on a thread of its own that sees a tracefs: the machine's, or a private mount.
///
/// The private mount is in a mount namespace of that thread and ends with it, so kill -9 leaves nothing behind, and the
/// rest of this process, with the programs it starts, stays in the machine's mount namespace. What was opened or
/// attached in `work` stays so afterwards.
///
/// # Errors
/// [`HostError::Tracefs`] with the command that mends it.
pub fn with_tracefs<R: Send>(work: impl FnOnce(&Tracefs) -> R + Send) -> Result<R, HostError> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| ensure().map(|tracefs| work(&tracefs)));
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

impl Tracefs {
    /// Where this kernel puts the fields that the kernel side reads.
    ///
    /// # Errors
    /// [`HostError::NoTracepoint`], [`HostError::File`], or [`HostError::Malformed`] when a field has another size than
    /// the kernel side reads.
    pub fn layout(&self) -> Result<TracepointLayout, HostError> {
        let newtask = self.format("task", "task_newtask")?;
        let exec = self.format("sched", "sched_process_exec")?;
        let exit = self.format("sched", "sched_process_exit")?;
        Ok(TracepointLayout {
            newtask_pid: newtask.offset("pid", 4)?,
            newtask_clone_flags: newtask.offset("clone_flags", 8)?,
            exec_old_pid: exec.offset("old_pid", 4)?,
            exit_pid: exit.offset("pid", 4)?,
            exit_group_dead: exit.offset("group_dead", 1)?,
        })
    }

    fn format(&self, category: &'static str, name: &'static str) -> Result<Format, HostError> {
        let path = self.path.join("events").join(category).join(name).join("format");
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Format::parse(path, &text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(HostError::NoTracepoint { category, name })
            }
            Err(error) => Err(HostError::File { action: "read", path, error }),
        }
    }
}

/// A tracepoint's `format` file.
#[derive(Debug)]
struct Format {
    path: PathBuf,
    fields: Vec<Field>,
}

#[derive(Debug, PartialEq, Eq)]
struct Field {
    name: String,
    offset: u32,
    size: u32,
}

impl Format {
    fn parse(path: PathBuf, text: &str) -> Self {
        Self { path, fields: text.lines().filter_map(Field::parse).collect() }
    }

    /// Offset of a field that must have this size; `u32::MAX` when the kernel has no such field.
    fn offset(&self, name: &str, size: u32) -> Result<u32, HostError> {
        let Some(field) = self.fields.iter().find(|field| field.name == name) else {
            if self.fields.is_empty() {
                return Err(self.malformed("it has no field".to_owned()));
            }
            return Ok(u32::MAX);
        };
        if field.size != size {
            return Err(self.malformed(format!("{name} has {} bytes, not {size}", field.size)));
        }
        Ok(field.offset)
    }

    fn malformed(&self, what: String) -> HostError {
        HostError::Malformed { path: self.path.clone(), what }
    }
}

impl Field {
    /// `field:__data_loc char[] comm; offset:8; size:4; signed:0;`, with tabs between.
    fn parse(line: &str) -> Option<Self> {
        let mut parts = line.trim().split(';').map(str::trim);
        let declaration = parts.next()?.strip_prefix("field:")?;
        let (mut offset, mut size) = (None, None);
        for part in parts {
            match part.split_once(':') {
                Some(("offset", number)) => offset = number.trim().parse().ok(),
                Some(("size", number)) => size = number.trim().parse().ok(),
                _ => {}
            }
        }
        // The name is the last word, before the bounds of an array.
        let declaration =
            declaration.split('[').next().filter(|_| !declaration.contains("[]")).unwrap_or(declaration);
        let name = declaration.split_ascii_whitespace().next_back()?.trim_start_matches('*');
        Some(Self { name: name.to_owned(), offset: offset?, size: size? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMON: &str = "format:\n\
        \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\
        \tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;\n\
        \tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\n";

    fn format(fields: &str) -> Format {
        Format::parse(
            PathBuf::from("format"),
            &format!("name: x\nID: 1\n{COMMON}{fields}\nprint fmt: \"pid=%d\", REC->pid"),
        )
    }

    /// From Linux 4.18, 5.15, 6.1: comm is an array, `clone_flags` an unsigned long.
    #[test]
    fn newtask_up_to_6_17() {
        let format = format(
            "\tfield:pid_t pid;\toffset:8;\tsize:4;\tsigned:1;\n\
             \tfield:char comm[16];\toffset:12;\tsize:16;\tsigned:1;\n\
             \tfield:unsigned long clone_flags;\toffset:32;\tsize:8;\tsigned:0;\n\
             \tfield:short oom_score_adj;\toffset:40;\tsize:2;\tsigned:1;\n",
        );
        assert_eq!(format.offset("pid", 4).expect("pid"), 8);
        assert_eq!(format.offset("clone_flags", 8).expect("flags"), 32);
        assert_eq!(format.offset("comm", 16).expect("comm"), 12);
        assert!(format.offset("clone_flags", 4).is_err());
    }

    /// From Linux 6.18: data locations, u64 flags, and more fields at the end.
    #[test]
    fn formats_of_6_18() {
        let newtask = format(
            "\tfield:pid_t pid;\toffset:8;\tsize:4;\tsigned:1;\n\
             \tfield:u64 clone_flags;\toffset:32;\tsize:8;\tsigned:0;\n",
        );
        assert_eq!(newtask.offset("clone_flags", 8).expect("flags"), 32);
        let exec = format(
            "\tfield:__data_loc char[] filename;\toffset:8;\tsize:4;\tsigned:0;\n\
             \tfield:pid_t pid;\toffset:12;\tsize:4;\tsigned:1;\n\
             \tfield:pid_t old_pid;\toffset:16;\tsize:4;\tsigned:1;\n",
        );
        assert_eq!(exec.offset("old_pid", 4).expect("old pid"), 16);
        assert_eq!(exec.offset("filename", 4).expect("filename"), 8);
        let exit = format(
            "\tfield:char comm[16];\toffset:8;\tsize:16;\tsigned:0;\n\
             \tfield:pid_t pid;\toffset:24;\tsize:4;\tsigned:1;\n\
             \tfield:bool group_dead;\toffset:32;\tsize:1;\tsigned:0;\n",
        );
        assert_eq!(exit.offset("pid", 4).expect("pid"), 24);
    }

    #[test]
    fn missing_fields_and_nonsense() {
        assert_eq!(format("").offset("old_pid", 4).expect("absent"), u32::MAX);
        assert!(Format::parse(PathBuf::new(), "not a format").offset("pid", 4).is_err());
        for line in
            ["field:", "field:int x;", "field:int x; offset:a; size:4;", "field:; offset:1; size:4;", ";;;"]
        {
            assert_eq!(Field::parse(line), None, "{line}");
        }
        assert_eq!(
            Field::parse("\tfield:const char * name;\toffset:16;\tsize:8;\tsigned:0;"),
            Some(Field { name: "name".to_owned(), offset: 16, size: 8 })
        );
    }

    #[test]
    fn this_kernels_own() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let before = mounted();
        let layout = with_tracefs(Tracefs::layout).expect("tracefs").expect("a layout");
        assert!(layout.newtask_pid < 64 && layout.newtask_clone_flags < 64 && layout.exit_pid < 64);
        assert_eq!(mounted(), before, "the mount must not be seen outside");
    }
}
