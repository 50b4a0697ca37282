//! Container engines that run real containers of an image made here: podman, docker and containerd, the last also with pods
//! as Kubernetes has them, from Debian's packages.
//!
//! Nothing of them is installed and nothing of the machine is theirs: each has a folder that stands for the machine's root,
//! `/var/lib` and `/run` below it, and runs in mount and pid namespaces of its own, so that its mounts, its helpers and its
//! containers end with it, however the test ends. Networks they have none: nothing is asked of a registry.

use std::cell::Cell;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::matrix;
use crate::process::{Guard, eventually};
use crate::target::Target;

mod cri;

/// How long a daemon may take until it answers, and a container until its program is there.
const PATIENCE: Duration = Duration::from_mins(1);

pub use cri::{NAMESPACE, Pod};

/// What containers are made of.
pub const IMAGE: &str = "localhost/shop/truth:1.27";

/// An engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Podman, with runc: crun takes no machine that has both versions of cgroups.
    Podman,
    /// Docker's daemon and its client.
    Docker,
    /// containerd, and ctr.
    Containerd,
    /// containerd with its CRI plugin, as a node of Kubernetes has it.
    Node,
}

/// An engine with the image in it; its daemon and all of its containers are killed when dropped, its folder removed.
#[derive(Debug)]
pub struct Engine {
    kind: Kind,
    folder: PathBuf,
    daemon: Option<Guard>,
    /// Pods that were run.
    pods: Cell<u32>,
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

/// Lets a container of the agent's image run an executable that is not linked as the image's is: with the machine's libraries.
pub fn with_libraries_of(podman: &mut Command, executable: &Path) {
    const LOADER: &[u8] = b"/lib64/ld-linux-x86-64.so.2";
    let mut head = Vec::new();
    let file = fs::File::open(executable).expect("the executable");
    file.take(1 << 16).read_to_end(&mut head).expect("read");
    if head.windows(LOADER.len()).any(|bytes| bytes == LOADER) {
        podman.args(["--volume=/lib64:/lib64:ro", "--volume=/lib/x86_64-linux-gnu:/lib/x86_64-linux-gnu:ro"]);
    }
}

fn packages() -> PathBuf {
    matrix::work_dir().join("tools/deploy/engines")
}

/// Folders of the packages, as a list of paths.
fn paths(folders: [&str; 2]) -> String {
    folders.map(|folder| packages().join(folder).display().to_string()).join(":")
}

/// Where the packages' programs find their libraries.
fn libraries() -> String {
    paths(["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"])
}

/// A command that finds the packages' programs and libraries, and no configuration of the machine's.
fn command(program: &str, home: &Path) -> Command {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new(program);
    command
        .env("PATH", format!("{}:{path}", paths(["usr/bin", "usr/sbin"])))
        .env("LD_LIBRARY_PATH", libraries())
        .env("HOME", home)
        .env("TMPDIR", home)
        .env("CONTAINERS_CONF", home.join("containers.conf"));
    command
}

/// The same in namespaces of its own: it ends with whoever started it, and all below it with it.
fn enclosed(program: &str, home: &Path) -> Command {
    apart(program, home, &["--pid", "--fork", "--kill-child", "--mount-proc"])
}

/// The same in a mount namespace with a `/run` and locks of its own, and in these besides.
fn apart(program: &str, home: &Path, namespaces: &[&str]) -> Command {
    const PREPARE: &str = "mount -t tmpfs nodev /run; mount -t tmpfs nodev /dev/shm; exec \"$@\"";
    let mut command = command("unshare", home);
    command.args(["--mount", "--propagation", "private"]).args(namespaces);
    command.args(["sh", "-e", "-c", PREPARE, "sh", program]);
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
        static ENGINES: AtomicU32 = AtomicU32::new(0);
        let number = ENGINES.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("leakwatch-engine-{}-{number}", std::process::id()));
        let engine = Self { kind, folder, daemon: None, pods: Cell::new(0) };
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
        // podman gives conmon no environment, and conmon starts runc and podman.
        let (conmon, script) = (packages().join("usr/bin/conmon"), below("home/conmon"));
        let text = format!("#!/bin/sh\nLD_LIBRARY_PATH={} exec {} \"$@\"\n", libraries(), conmon.display());
        fs::write(&script, text).expect("written");
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("set");
        let conf = format!(
            "[engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\nruntime = \"runc\"\n\
             conmon_path = ['{}']\n[engine.runtimes]\nrunc = ['{}']\n",
            script.display(),
            packages().join("usr/sbin/runc").display()
        );
        fs::write(below("home/containers.conf"), conf).expect("written");
        match kind {
            Kind::Podman => engine.import_into_podman(),
            Kind::Docker => engine.with_docker(),
            Kind::Containerd | Kind::Node => engine.with_containerd(),
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
        let is_node = engine.kind == Kind::Node;
        let (images, conf) = (engine.folder.join("oci"), engine.folder.join("containerd.toml"));
        let of_pods = if is_node {
            engine.import_pause();
            engine.of_pods()
        } else {
            "disabled_plugins = ['io.containerd.grpc.v1.cri']\n".to_owned()
        };
        fs::create_dir(&images).expect("a folder");
        for image in [IMAGE, cri::PAUSE].into_iter().take(1 + usize::from(is_node)) {
            let archive = images.join(image.replace(['/', ':'], "-"));
            output(
                engine.podman().args(["save", "--format=oci-archive", "--output"]).arg(archive).arg(image),
            );
        }
        let text = format!(
            "version = 2\nroot = '{}'\nstate = '{}'\n{of_pods}[grpc]\naddress = '{}'\n",
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
        for archive in fs::read_dir(images).expect("images") {
            output(engine.ctr().args(["images", "import"]).arg(archive.expect("an image").path()));
        }
        if is_node {
            engine.wait("the CRI plugin answers", Engine::has_pods);
        }
        engine
    }

    /// Makes the image that `deploy/` has the recipe of, with this executable instead of one that is built for it.
    #[track_caller]
    pub fn build(&self, executable: &Path, image: &str) {
        assert_eq!(self.kind, Kind::Podman, "the others build no images here");
        let context = self.folder.join("build");
        // What the recipe's first stage leaves for its last, which is the image.
        let built = context.join("src/target/x86_64-unknown-linux-musl/dist/leakwatch");
        let authorities = context.join("etc/ssl/certs/ca-certificates.crt");
        for file in [&built, &authorities] {
            fs::create_dir_all(file.parent().expect("in a folder")).expect("a folder");
        }
        // As the profile of the recipe does it.
        output(Command::new("strip").args(["--strip-debug", "-o"]).arg(built).arg(executable));
        fs::write(authorities, "").expect("written");
        let mut build = self.podman();
        build.args(["build", "--tag", image, "--build-context"]).arg(format!("build={}", context.display()));
        build.arg("--file").arg(matrix::repository().join("deploy/image/Containerfile")).arg(&context);
        output(&mut build);
    }

    /// `podman run` of a container that sees the machine's processes; those of it are killed with the engine.
    #[track_caller]
    pub fn run_on_machine(&self, name: &str) -> Command {
        let mut podman = self.set_up(apart("podman", &self.home(), &[]));
        podman.args(["run", "--name", name]).args(limits());
        podman.arg("--cidfile").arg(self.folder.join(format!("{name}.id")));
        podman
    }

    /// Where it keeps things, as it would below the machine's root.
    pub fn root(&self) -> &Path {
        &self.folder
    }

    /// Runs the program in a container of this name: with a root on an overlay, pid 1 of its own namespace, no network.
    #[track_caller]
    pub fn run(&self, name: &str) -> Contained {
        self.run_as(name, &format!("{:064x}", std::process::id()))
    }

    /// The same; where the engine's user says what the container's id is, this one.
    #[track_caller]
    pub fn run_as(&self, name: &str, id: &str) -> Contained {
        let id_file = self.folder.join(format!("{name}.id"));
        let mut run = match self.kind {
            Kind::Podman => {
                let mut run = self.podman();
                run.arg("run").args(limits());
                run
            }
            Kind::Docker => {
                let mut run = self.docker();
                run.arg("run");
                run
            }
            Kind::Containerd => {
                fs::write(&id_file, id).expect("written");
                let mut run = self.ctr();
                run.args(["run", "--rm", "--fifo-dir"]).arg(self.folder.join("run/fifo"));
                run.args([IMAGE, id, "/truth"]);
                run
            }
            Kind::Node => panic!("it runs pods alone"),
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
        self.set_up(enclosed("podman", &self.home()))
    }

    fn set_up(&self, mut podman: Command) -> Command {
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

    /// Kills what is left of containers that see the machine's processes: nobody else's end takes them with it.
    fn kill_on_machine(&self) {
        let files = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let files = files.filter(|file| file.path().extension().is_some_and(|extension| extension == "id"));
        for id in files.filter_map(|file| fs::read_to_string(file.path()).ok()) {
            for pid in inhabitants(id.trim()) {
                // One that ended by itself is what is wanted, too.
                let _gone = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
    }

    #[track_caller]
    fn wait(&self, what: &str, is: impl Fn(&Self) -> bool) {
        assert!(eventually(PATIENCE, || is(self)), "{what}: {}", self.log());
    }

    /// What its daemon says.
    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.daemon = None;
        self.kill_on_machine();
        let own = match self.kind {
            Kind::Podman => "libpod_parent".to_owned(),
            Kind::Docker => "docker".to_owned(),
            Kind::Containerd => "k8s.io".to_owned(),
            Kind::Node => self.group(),
        };
        let hierarchies = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
        let hierarchies = hierarchies.map(|hierarchy| hierarchy.path().join(&own));
        let groups: Vec<PathBuf> = hierarchies.chain([Path::new("/sys/fs/cgroup").join(&own)]).collect();
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

/// As many open files as we may have: podman's default may be more, which takes `CAP_SYS_RESOURCE`.
fn limits() -> [String; 2] {
    let own = fs::read_to_string("/proc/self/limits").expect("our limits");
    let line = own.lines().find_map(|line| line.strip_prefix("Max open files")).expect("the limit");
    let hard = line.split_whitespace().nth(1).expect("the hard one");
    [format!("--ulimit=nofile={hard}:{hard}"), "--ulimit=nproc=1024:1024".to_owned()]
}

/// A daemon whose words go to a file.
#[track_caller]
fn quiet(command: &mut Command, log: &Path) -> Guard {
    let mut file = fs::File::create(log).expect("a log");
    writeln!(file, "{command:?}").expect("written");
    let again = file.try_clone().expect("the same file");
    Guard::start_as_is(command.stdin(Stdio::null()).stdout(file).stderr(again))
}

/// Processes in the container with this id.
fn inhabitants(id: &str) -> Vec<i32> {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let groups = |pid: &i32| fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    pids.filter(|pid| !id.is_empty() && groups(pid).contains(id)).collect()
}

/// The one program of the container with this id.
fn inhabitant(id: &str) -> Option<u32> {
    let is_it =
        |pid: &i32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm == "truth\n");
    let found: Vec<i32> = inhabitants(id).into_iter().filter(is_it).collect();
    if let [pid] = found.as_slice() { u32::try_from(*pid).ok() } else { None }
}
