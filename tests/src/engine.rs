//! Container engines that run real containers of an image made here: podman, docker and containerd, from Debian's packages.
//!
//! Nothing of them is installed and nothing of the machine is theirs: each has a folder that stands for the machine's root,
//! `/var/lib` and `/run` below it, and runs in mount and pid namespaces of its own, so that its mounts, its helpers and its
//! containers end with it, however the test ends. Networks they have none: nothing is asked of a registry.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::matrix;
use crate::process::{Guard, eventually};
use crate::target::Target;

/// How long a daemon may take until it answers, and a container until its program is there.
const PATIENCE: Duration = Duration::from_mins(1);

/// What containers are made of.
pub const IMAGE: &str = "localhost/shop/truth:1.27";

/// An engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Podman, with runc: crun takes no machine that has both versions of cgroups.
    Podman,
    /// Docker's daemon and its client.
    Docker,
    /// containerd, and ctr with the annotations that Kubernetes gives.
    Containerd,
}

/// An engine with the image in it; its daemon and all of its containers are killed when dropped, its folder removed.
#[derive(Debug)]
pub struct Engine {
    kind: Kind,
    folder: PathBuf,
    daemon: Option<Guard>,
}

/// A program of known truth in a container.
#[derive(Debug)]
pub struct Contained {
    /// The program, driven through the engine's client.
    pub target: Target,
    /// Its pid here.
    pub pid: u32,
    /// Its container's id.
    pub id: String,
}

/// Whether engines can be run here.
pub fn gate() -> Result<(), String> {
    let podman = packages().join("usr/bin/podman");
    if podman.exists() {
        return Ok(());
    }
    Err(format!("needs {}; `cargo xtask tools deploy` unpacks it", podman.display()))
}

fn packages() -> PathBuf {
    matrix::work_dir().join("tools/deploy/engines")
}

/// A command that finds the packages' programs and libraries, and no configuration of the machine's.
fn command(program: &str, home: &Path) -> Command {
    let below = |folders: &[&str]| {
        folders
            .iter()
            .map(|folder| packages().join(folder).display().to_string())
            .collect::<Vec<_>>()
            .join(":")
    };
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new(program);
    command
        .env("PATH", format!("{}:{path}", below(&["usr/bin", "usr/sbin"])))
        .env("LD_LIBRARY_PATH", below(&["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"]))
        .env("HOME", home)
        .env("TMPDIR", home)
        .env("CONTAINERS_CONF", home.join("containers.conf"));
    command
}

/// The same in namespaces of its own: it ends with whoever started it, and all below it with it.
fn enclosed(program: &str, home: &Path) -> Command {
    const PREPARE: &str = "mount -t tmpfs nodev /run; exec \"$@\"";
    let mut command = command("unshare", home);
    command
        .args(["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .args(["sh", "-e", "-c", PREPARE, "sh", program]);
    command
}

/// Runs it, and returns what it says.
#[track_caller]
fn output(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

impl Engine {
    /// Starts it, and makes an image of this program, which needs no library.
    #[track_caller]
    pub fn start(kind: Kind, program: &Path) -> Self {
        let folder = std::env::temp_dir().join(format!("leakwatch-{kind:?}-{}", std::process::id()));
        let engine = Self { kind, folder, daemon: None };
        let below = |path: &str| engine.folder.join(path);
        for path in ["home/.config/containers", "run", "var/lib", "image"] {
            fs::create_dir_all(below(path)).expect("a folder");
        }
        fs::copy(program, below("image/truth")).expect("a copy of the program");
        output(
            Command::new("tar")
                .arg("-C")
                .arg(below("image"))
                .arg("-cf")
                .arg(below("rootfs.tar"))
                .arg("truth"),
        );
        fs::write(
            below("home/.config/containers/policy.json"),
            r#"{"default":[{"type":"insecureAcceptAnything"}]}"#,
        )
        .expect("written");
        // conmon gives its children no environment.
        let (runc, script) = (packages().join("usr/sbin/runc"), below("home/runc"));
        let libraries = packages().join("usr/lib/x86_64-linux-gnu");
        let text =
            format!("#!/bin/sh\nLD_LIBRARY_PATH={} exec {} \"$@\"\n", libraries.display(), runc.display());
        fs::write(&script, text).expect("written");
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("set");
        let conf = format!(
            "[engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\nruntime = \"runc\"\n\
             conmon_path = ['{}']\n[engine.runtimes]\nrunc = ['{}']\n",
            packages().join("usr/bin/conmon").display(),
            script.display()
        );
        fs::write(below("home/containers.conf"), conf).expect("written");
        match kind {
            Kind::Podman => engine.import_into_podman(),
            Kind::Docker => engine.with_docker(),
            Kind::Containerd => engine.with_containerd(),
        }
    }

    fn import_into_podman(self) -> Self {
        output(self.podman().arg("import").arg(self.folder.join("rootfs.tar")).arg(IMAGE));
        self
    }

    fn with_docker(mut self) -> Self {
        let mut daemon = enclosed("dockerd", &self.home());
        daemon.arg("--data-root").arg(self.folder.join("var/lib/docker"));
        daemon.arg("--exec-root").arg(self.folder.join("run/docker"));
        daemon.arg("--pidfile").arg(self.folder.join("run/docker.pid"));
        daemon.arg("--host").arg(self.socket());
        daemon.args(["--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false"]);
        self.daemon = Some(quiet(&mut daemon, &self.folder.join("log")));
        self.wait("docker answers", |engine| {
            engine.docker().arg("version").stdin(Stdio::null()).output().is_ok_and(|it| it.status.success())
        });
        output(self.docker().arg("import").arg(self.folder.join("rootfs.tar")).arg(IMAGE));
        self
    }

    fn with_containerd(self) -> Self {
        let mut engine = self.import_into_podman();
        let (archive, conf) = (engine.folder.join("oci.tar"), engine.folder.join("containerd.toml"));
        output(engine.podman().args(["save", "--format=oci-archive", "--output"]).arg(&archive).arg(IMAGE));
        let text = format!(
            "version = 2\nroot = '{}'\nstate = '{}'\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\naddress = '{}'\n",
            engine.folder.join("var/lib/containerd").display(),
            engine.folder.join("run/containerd").display(),
            engine.folder.join("run/socket").display(),
        );
        fs::write(&conf, text).expect("written");
        let mut daemon = enclosed("containerd", &engine.home());
        engine.daemon = Some(quiet(daemon.arg("--config").arg(conf), &engine.folder.join("log")));
        engine.wait("containerd answers", |engine| {
            engine.ctr().arg("version").stdin(Stdio::null()).output().is_ok_and(|it| it.status.success())
        });
        output(engine.ctr().args(["images", "import"]).arg(&archive));
        engine
    }

    /// Where it keeps things, as it would below the machine's root.
    pub fn root(&self) -> &Path {
        &self.folder
    }

    /// Runs the program in a container of this name: with a root on an overlay, pid 1 of its own namespace, no network.
    #[track_caller]
    pub fn run(&self, name: &str) -> Contained {
        let id_file = self.folder.join(format!("{name}.id"));
        let mut run = match self.kind {
            Kind::Podman => {
                let mut run = self.podman();
                // Without CAP_SYS_RESOURCE nobody gives more files than he may have himself.
                run.args(["run", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"]);
                run
            }
            Kind::Docker => {
                let mut run = self.docker();
                run.arg("run");
                run
            }
            Kind::Containerd => {
                let id = format!("{:064x}", std::process::id());
                fs::write(&id_file, &id).expect("written");
                let mut run = self.ctr();
                run.args(["run", "--rm", "--fifo-dir"]).arg(self.folder.join("run/fifo"));
                for (key, value) in [
                    ("container-type", "container"),
                    ("container-name", name),
                    ("image-name", IMAGE),
                    ("sandbox-name", "cart-7c9d-x2x4z"),
                    ("sandbox-namespace", "shop"),
                    ("sandbox-uid", "7d3c5a4e-1a2b-4c3d-8e4f-5a6b7c8d9e0f"),
                ] {
                    run.arg("--annotation").arg(format!("io.kubernetes.cri.{key}={value}"));
                }
                run.args([IMAGE, &id, "/truth"]);
                run
            }
        };
        if self.kind != Kind::Containerd {
            run.args(["--interactive", "--rm", "--network=none", "--name", name])
                .arg("--cidfile")
                .arg(&id_file);
            run.args([IMAGE, "/truth"]);
        }
        let target = Target::start_command(&mut run);
        assert_eq!(target.ready().pid, 1, "it has a pid namespace of its own");
        let id = fs::read_to_string(&id_file).expect("the id of its container").trim().to_owned();
        let pid = inhabitant(&id).expect("a process of the container");
        Contained { target, pid, id }
    }

    fn home(&self) -> PathBuf {
        self.folder.join("home")
    }

    fn socket(&self) -> String {
        format!("unix://{}", self.folder.join("run/socket").display())
    }

    fn podman(&self) -> Command {
        let mut podman = enclosed("podman", &self.home());
        podman.arg("--root").arg(self.folder.join("var/lib/containers/storage"));
        podman.args(["--storage-driver", "overlay"]);
        podman
    }

    fn docker(&self) -> Command {
        let mut docker = command("docker", &self.home());
        docker.arg("--host").arg(self.socket());
        docker
    }

    fn ctr(&self) -> Command {
        let mut ctr = command("ctr", &self.home());
        ctr.arg("--address").arg(self.folder.join("run/socket")).args(["--namespace", "k8s.io"]);
        ctr
    }

    #[track_caller]
    fn wait(&self, what: &str, is: impl Fn(&Self) -> bool) {
        let log = || fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        assert!(eventually(PATIENCE, || is(self)), "{what}: {}", log());
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.daemon = None;
        let own = match self.kind {
            Kind::Podman => "libpod_parent",
            Kind::Docker => "docker",
            Kind::Containerd => "k8s.io",
        };
        let hierarchies = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
        let hierarchies = hierarchies.map(|hierarchy| hierarchy.path().join(own));
        let groups: Vec<PathBuf> = hierarchies.chain([Path::new("/sys/fs/cgroup").join(own)]).collect();
        // Processes of namespaces that were killed are gone a little later. Somebody else's keep their groups.
        eventually(Duration::from_secs(5), || {
            for group in &groups {
                remove_groups(group);
            }
            groups.iter().all(|group| !group.exists())
        });
        drop(fs::remove_dir_all(&self.folder));
    }
}

/// Removes control groups from the innermost on; one that has a process in it stays.
fn remove_groups(group: &Path) {
    for below in fs::read_dir(group).into_iter().flatten().flatten() {
        if below.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_groups(&below.path());
        }
    }
    drop(fs::remove_dir(group));
}

/// A daemon whose words go to a file.
#[track_caller]
fn quiet(command: &mut Command, log: &Path) -> Guard {
    let mut file = fs::File::create(log).expect("a log");
    writeln!(file, "{command:?}").expect("written");
    let again = file.try_clone().expect("the same file");
    Guard::start_as_is(command.stdin(Stdio::null()).stdout(file).stderr(again))
}

/// The program in the container with this id.
fn inhabitant(id: &str) -> Option<u32> {
    let pids =
        fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let found: BTreeSet<u32> = pids
        .filter(|pid| {
            let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
            read("comm").trim() == "truth" && read("cgroup").contains(id)
        })
        .collect();
    found.first().copied().filter(|_| found.len() == 1)
}
