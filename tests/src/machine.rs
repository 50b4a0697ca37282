//! A machine that boots: a kernel of Debian's and its systemd in QEMU, driven from here.
//!
//! Nothing of this machine is shared with it but the files that it is given. It is emulated: time passes in it as it does here, but
//! it is many times slower, so tests wait for what is to happen and never for how long that takes.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::host::Server;
use crate::process::{Guard, Lines, eventually};
use crate::{agent, matrix, prometheus};

/// How long the machine may take to boot, and a script of a test to end.
const PATIENCE: Duration = Duration::from_mins(3);

/// How long something may take to come true in it.
const EVENTUALLY: Duration = Duration::from_mins(2);

/// The machine's first process unpacks what the test brings along, which is on the disk behind so many bytes, and becomes systemd.
const INIT: &str = "mount -t devtmpfs devtmpfs /dev && dd if=/dev/nvme0n1 bs=1M iflag=skip_bytes status=none skip=BYTES | \
                    tar --extract --directory=/ && exec /sbin/init";

/// Runs scripts, each of which comes behind its length. Answers with the lines that it printed, indented, and its exit status.
const CONTROL: &str = r#"#!/bin/bash
ip address add 10.0.2.15/24 dev eth0
ip link set eth0 up
exec 3<>/dev/vport0p1
echo ready >&3
while read -r length <&3; do
  LC_ALL=C IFS= read -r -N "$length" script <&3
  bash -c "$script" </dev/null 2>&1 | awk '{ print " " $0 }' >&3
  echo "${PIPESTATUS[0]}" >&3
done
"#;

/// What runs that.
const CONTROL_UNIT: &str = "[Service]\nExecStart=/opt/test/control\n";

/// Who asks for the agent from outside asks as somebody inside: its server is on loopback.
const WAY_IN: &str = "[Unit]\nRequires=way-in.socket\n[Service]\nExecStart=/lib/systemd/systemd-socket-proxyd 127.0.0.1:9464\n";

/// Where that listens.
const WAY_IN_SOCKET: &str = "[Socket]\nListenStream=9465\n";

/// The kernel that runs the system: each is that of a release of Debian's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Linux {
    /// 5.10, of Debian 11: older than what probes need.
    Old,
    /// That of the system: 6.1, of Debian 12.
    Own,
    /// 6.12, of Debian 13.
    New,
}

impl Linux {
    /// What `uname --kernel-release` begins with.
    pub const fn release(self) -> &'static str {
        match self {
            Self::Old => "5.10.",
            Self::Own => "6.1.",
            Self::New => "6.12.",
        }
    }

    const fn image(self) -> &'static str {
        match self {
            Self::Old => "vmlinuz-bullseye",
            Self::Own => "vmlinuz",
            Self::New => "vmlinuz-trixie",
        }
    }
}

/// A machine; it is switched off when this is dropped.
#[derive(Debug)]
pub struct Machine {
    folder: PathBuf,
    agent: Server,
    scripts: File,
    answers: Lines,
    /// Ends after the pipes that it reads.
    _qemu: Guard,
}

/// Whether a machine can be booted here.
pub fn gate() -> Result<(), String> {
    if parts().is_dir() {
        return Ok(());
    }
    Err(format!("needs {}; `cargo xtask tools machine` fetches it", parts().display()))
}

/// The Debian package of the leakwatch that is tested.
pub fn package() -> Result<PathBuf, String> {
    let package = matrix::work_dir().join("package/leakwatch-dynamic.deb");
    let made = |path: &Path| path.metadata().and_then(|file| file.modified()).ok();
    if made(&package) > made(&agent::binary()?) {
        return Ok(package);
    }
    Err(format!("needs {} of this leakwatch; `cargo xtask package --dynamic` makes it", package.display()))
}

fn parts() -> PathBuf {
    matrix::work_dir().join("tools/machines")
}

impl Machine {
    /// Boots it. The folder is the test's own; what is in its `root` is put over the machine's root before systemd starts.
    /// Programs of known truth are services of their own, by these names.
    #[track_caller]
    pub fn boot(linux: Linux, folder: &Path, targets: &[(&str, &Path)]) -> Self {
        lay(&folder.join("root"), targets);
        let (disk, bytes) = disk(folder);
        let names = targets.iter().map(|(name, _)| *name);
        let pipes: Vec<PathBuf> =
            std::iter::once("scripts").chain(names).map(|name| pipe(folder, name)).collect();
        let mut qemu = Command::new(parts().join("qemu/usr/bin/qemu-system-x86_64"));
        qemu.env("LD_LIBRARY_PATH", folders(["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"]).join(":"));
        for place in folders(["usr/share/qemu", "usr/share/seabios"]) {
            qemu.args(["-L", &place]);
        }
        // One thread for both processors: with one for each, QEMU 7.2 may go on with what it translated while the other processor
        // patched it, and the kernel, which patches itself where perf events begin, stumbles over a breakpoint that is gone.
        qemu.args([
            "-accel",
            "tcg,thread=single",
            "-machine",
            "q35",
            "-cpu",
            "max",
            "-smp",
            "2",
            "-m",
            "1024",
        ]);
        qemu.args(["-nodefaults", "-no-reboot", "-display", "none"]);
        qemu.arg("-serial").arg(format!("file:{}", folder.join("console").display()));
        qemu.arg("-kernel").arg(parts().join(linux.image()));
        qemu.arg("-append").arg(format!(
            "root=/dev/nvme0n1 rw console=ttyS0 systemd.getty_auto=no systemd.wants=control.service systemd.wants=way-in.socket \
             init=/bin/sh -- -c \"{}\"",
            INIT.replace("BYTES", &bytes.to_string())
        ));
        qemu.arg("-drive").arg(format!("file={},format=raw,if=none,id=disk", disk.display()));
        qemu.args(["-device", "nvme,serial=leakwatch,drive=disk"]);
        qemu.args(["-device", "virtio-serial-pci"]);
        for (number, path) in pipes.iter().enumerate() {
            qemu.arg("-chardev").arg(format!("pipe,id=pipe{number},path={}", path.display()));
            qemu.args(["-device", &format!("virtserialport,chardev=pipe{number}")]);
        }
        let port = prometheus::free_port();
        qemu.arg("-netdev").arg(format!("user,id=net,hostfwd=tcp:127.0.0.1:{port}-10.0.2.15:9465"));
        qemu.args(["-device", "virtio-net-pci,netdev=net,romfile="]);
        let qemu = Guard::start(&mut qemu);
        let open = |name: &str, options: &mut OpenOptions| {
            options.open(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
        };
        let scripts = open("scripts.in", OpenOptions::new().write(true));
        let answers = Lines::of(open("scripts.out", OpenOptions::new().read(true)));
        let agent = Server::at(format!("127.0.0.1:{port}"));
        let machine = Self { folder: folder.to_owned(), agent, scripts, answers, _qemu: qemu };
        assert_eq!(machine.answer(), "ready");
        let release = machine.have("uname --kernel-release");
        assert!(release.starts_with(linux.release()), "{linux:?} is {release}");
        machine
    }

    /// Runs a script in it, by bash as root, to its end: its exit status, and all that it printed.
    #[track_caller]
    pub fn run(&self, script: &str) -> (i32, String) {
        writeln!(&self.scripts, "{}", script.len()).expect("the machine takes scripts");
        write!(&self.scripts, "{script}").expect("the machine takes scripts");
        let mut printed = Vec::new();
        loop {
            let line = self.answer();
            match line.strip_prefix(' ') {
                Some(text) => printed.push(text.to_owned()),
                None => return (line.parse().expect("an exit status"), printed.join("\n")),
            }
        }
    }

    /// The same of a script that has to end well: what it printed.
    #[track_caller]
    pub fn have(&self, script: &str) -> String {
        let (status, printed) = self.run(script);
        assert_eq!(status, 0, "{script}: {printed}\n{}", self.journal());
        printed
    }

    /// Runs a script until it ends well.
    #[track_caller]
    pub fn wait_until(&self, script: &str) {
        let mut last = String::new();
        let done = eventually(EVENTUALLY, || {
            let (status, printed) = self.run(script);
            last = printed;
            status == 0
        });
        assert!(done, "{script}: {last}\n{}", self.journal());
    }

    /// The server of the agent that runs in it, as somebody inside sees it.
    pub fn agent(&self) -> &Server {
        &self.agent
    }

    /// A command that speaks for one of the services, for [`crate::Target`] and its like. The service has to be started.
    pub fn target(&self, name: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", "cat \"$0.out\" & exec cat >\"$0.in\""]).arg(self.folder.join(name));
        command
    }

    /// The end of the journal.
    #[track_caller]
    pub fn journal(&self) -> String {
        self.run("journalctl --no-pager --lines 60 --output short-monotonic").1
    }

    #[track_caller]
    fn answer(&self) -> String {
        self.answers.next(PATIENCE).unwrap_or_else(|why| {
            let console = fs::read(self.folder.join("console")).unwrap_or_default();
            let console = String::from_utf8_lossy(&console);
            let from = console.len().saturating_sub(4000);
            panic!("the machine does not answer: {why:?}: {}", console.get(from..).unwrap_or(&console))
        })
    }
}

/// Puts what drives the machine into the files that it is given.
#[track_caller]
fn lay(root: &Path, targets: &[(&str, &Path)]) {
    let test = root.join("opt/test");
    let units = root.join("etc/systemd/system");
    let modules = root.join("etc/modules-load.d");
    for folder in [&test, &units, &modules] {
        fs::create_dir_all(folder).expect("made");
    }
    // Each is driven through a port of the machine; the first one is for scripts.
    for ((name, program), port) in targets.iter().zip(2..) {
        fs::copy(program, test.join(name)).expect("copied");
        let port = format!("file:/dev/vport0p{port}");
        let unit =
            format!("[Service]\nExecStart=/opt/test/{name}\nStandardInput={port}\nStandardOutput={port}\n");
        fs::write(units.join(format!("{name}.service")), unit).expect("written");
    }
    let control = test.join("control");
    fs::write(&control, CONTROL).expect("written");
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(control, executable).expect("set");
    for (name, text) in
        [("control.service", CONTROL_UNIT), ("way-in.service", WAY_IN), ("way-in.socket", WAY_IN_SOCKET)]
    {
        fs::write(units.join(name), text).expect("written");
    }
    // Nobody loads modules as devices are found: there is no udev.
    fs::write(modules.join("test.conf"), "virtio_pci\nvirtio_console\nvirtio_net\n").expect("written");
}

/// A disk of the test's own: the system, and behind it what is in the folder's `root`; how many bytes the first of these has.
/// A disk for each would be simpler, but newer kernels number them as they come.
#[track_caller]
fn disk(folder: &Path) -> (PathBuf, u64) {
    let disk = folder.join("disk");
    let mut copy = Command::new("cp");
    let copied =
        copy.arg("--sparse=always").arg(parts().join("root.ext4")).arg(&disk).status().expect("cp runs");
    assert!(copied.success(), "cp: {copied}");
    let system = disk.metadata().expect("there").len();
    let files = OpenOptions::new().append(true).open(&disk).expect("opened");
    let mut tar = Command::new("tar");
    tar.args(["--create", "--owner=0", "--group=0", "--directory"]).arg(folder.join("root")).arg(".");
    let packed = tar.stdout(files).status().expect("tar runs");
    assert!(packed.success(), "tar: {packed}");
    (disk, system)
}

/// Two pipes with this name, one for each direction.
#[track_caller]
fn pipe(folder: &Path, name: &str) -> PathBuf {
    let both = ["in", "out"].map(|direction| folder.join(format!("{name}.{direction}")));
    let made = Command::new("mkfifo").args(&both).status().expect("mkfifo runs");
    assert!(made.success(), "mkfifo {both:?}: {made}");
    folder.join(name)
}

/// Folders of QEMU's packages.
fn folders(names: [&str; 2]) -> [String; 2] {
    names.map(|name| parts().join("qemu").join(name).display().to_string())
}
