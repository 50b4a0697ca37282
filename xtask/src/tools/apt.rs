//! Debian's packages: installed into the host, or only unpacked into a folder of ours.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::fetch::three_times;
use crate::{demo, shell};

/// Options of every call: patient with another apt that runs, and with slow mirrors; asks nothing.
const OPTIONS: [&str; 8] = [
    "-o",
    "DPkg::Lock::Timeout=300",
    "-o",
    "Acquire::Retries=3",
    "-o",
    "Acquire::http::Timeout=60",
    "-o",
    "APT::Sandbox::User=root",
];

/// Installs those of `packages` that are not installed; `why` is for the reader.
pub(super) fn install(packages: &[&str], why: &str) -> Result<()> {
    let missing: Vec<&str> = packages.iter().copied().filter(|package| !is_installed(package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    println!("installing {} from Debian: {why}", missing.join(" "));
    with_lists(|| install_now(&missing))
}

/// Installs `packages` in the newest version that Debian has today, also when an older one is installed or an old list
/// names one.
pub(super) fn install_newest(packages: &[&str], why: &str) -> Result<()> {
    println!("installing {} from Debian: {why}", packages.join(" "));
    with_new_lists(|| install_now(packages))
}

fn install_now(packages: &[&str]) -> Result<()> {
    let mut apt = apt_get(demo::is_root());
    apt.args(["install", "-y", "-q", "--no-install-recommends"]).args(packages);
    shell::output(&mut apt).map(drop)
}

/// Unpacks `packages` below `out` without installing them: no script of theirs runs, no service starts.
pub(super) fn unpack(packages: &[&str], out: &Path) -> Result<()> {
    unpack_what(out, |downloads| with_lists(|| download(apt_get(true), packages, downloads)))
}

fn download(mut apt: Command, packages: &[&str], into: &Path) -> Result<()> {
    shell::output(apt.arg("download").args(packages).current_dir(into)).map(drop)
}

/// Unpacks what `download` puts into a folder.
fn unpack_what(out: &Path, download: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let downloads = out.join("deb");
    fs::create_dir_all(&downloads).with_context(|| format!("failed to make {}", downloads.display()))?;
    download(&downloads)?;
    let entries =
        fs::read_dir(&downloads).with_context(|| format!("failed to read {}", downloads.display()))?;
    for entry in entries {
        let package = entry.with_context(|| format!("failed to read {}", downloads.display()))?.path();
        shell::output(shell::command("dpkg-deb").arg("-x").arg(&package).arg(out))?;
    }
    fs::remove_dir_all(&downloads).with_context(|| format!("failed to remove {}", downloads.display()))
}

/// The same of these packages and of all that they need and this machine does not have.
pub(super) fn unpack_with_needs(packages: &[&str], out: &Path) -> Result<()> {
    let missing = with_lists(|| {
        let mut apt = apt_get(true);
        apt.args(["install", "--simulate", "-q", "--no-install-recommends"]).args(packages);
        let plan = shell::output(&mut apt)?;
        Ok(plan
            .lines()
            .filter_map(|line| Some(line.strip_prefix("Inst ")?.split(' ').next()?.to_owned()))
            .collect::<Vec<_>>())
    })?;
    let mut all = packages.to_vec();
    all.extend(missing.iter().map(String::as_str).filter(|package| !packages.contains(package)));
    unpack(&all, out)
}

/// The package that a package without files of its own stands for: the newest one of its kind.
pub(super) fn newest_of(kind: &str) -> Result<String> {
    with_lists(|| newest(&mut shell::command("apt-cache"), kind))
}

fn newest(apt_cache: &mut Command, kind: &str) -> Result<String> {
    let depends = shell::output(apt_cache.args(["depends", "--important", kind]))?;
    let package = depends.lines().find_map(|line| line.trim().strip_prefix("Depends: "));
    package.map(str::to_owned).with_context(|| format!("{kind} depends on nothing"))
}

/// Packages of another release of Debian than this machine's.
pub(super) struct OtherRelease {
    /// Which sources and lists are meant.
    options: [String; 4],
}

impl OtherRelease {
    /// One of its suites (`trixie`, `trixie-security`), from where this machine gets that of its own release. Its lists are kept in
    /// `dir`.
    pub(super) fn new(suite: &str, dir: &Path) -> Result<Self> {
        let own = match suite.split_once('-') {
            Some((_, part)) => format!(" {}-{part} ", release()?),
            None => format!(" {} ", release()?),
        };
        let other = format!(" {suite} ");
        let mut text = String::new();
        for line in sources()?.iter().filter(|line| line.contains(&own)) {
            text.push_str(&line.replace(&own, &other));
            text.push('\n');
        }
        ensure!(!text.is_empty(), "this machine has no packages from{own}of its own, so none from{other}");
        fs::create_dir_all(dir.join("lists/partial"))
            .with_context(|| format!("failed to make {}", dir.display()))?;
        let list = dir.join("sources.list");
        fs::write(&list, text).with_context(|| format!("failed to write {}", list.display()))?;
        let option = |name: &str, path: &Path| format!("--option={name}={}", path.display());
        let options = [
            option("Dir::Etc::SourceList", &list),
            option("Dir::Etc::SourceParts", Path::new("/dev/null")),
            option("Dir::State::Lists", &dir.join("lists")),
            option("Dir::Cache", dir),
        ];
        let this = Self { options };
        three_times(|| shell::output(this.apt_get().args(["update", "-q"])))?;
        Ok(this)
    }

    /// As [`newest_of`].
    pub(super) fn newest_of(&self, kind: &str) -> Result<String> {
        newest(shell::command("apt-cache").args(&self.options), kind)
    }

    /// As [`unpack`].
    pub(super) fn unpack(&self, packages: &[&str], out: &Path) -> Result<()> {
        unpack_what(out, |downloads| three_times(|| download(self.apt_get(), packages, downloads)))
    }

    fn apt_get(&self) -> Command {
        let mut apt = apt_get(true);
        apt.args(&self.options);
        apt
    }
}

/// The name of this machine's Debian.
pub(super) fn release() -> Result<String> {
    let file = "/etc/os-release";
    let text = fs::read_to_string(file).with_context(|| format!("failed to read {file}"))?;
    let name = text.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    name.map(str::to_owned).with_context(|| format!("{file} has no VERSION_CODENAME"))
}

/// Where this machine gets its packages, a line for each suite and component, as `sources.list` has them.
pub(super) fn sources() -> Result<Vec<String>> {
    let format = "deb $(REPO_URI) $(RELEASE) $(COMPONENT)";
    let lines = shell::output(shell::command("apt-get").args([
        "indextargets",
        "--format",
        format,
        "Created-By: Packages",
    ]))?;
    let mut lines: Vec<String> = lines.lines().map(str::to_owned).collect();
    lines.sort();
    lines.dedup();
    Ok(lines)
}

/// Tries with the package lists as they are, and with new ones when that fails: a fresh machine has none, an
/// old machine's name packages that are gone.
fn with_lists<T>(mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    if have_lists() {
        match attempt() {
            Ok(done) => return Ok(done),
            Err(error) => eprintln!("      again with new package lists: {error:#}"),
        }
    }
    with_new_lists(attempt)
}

fn with_new_lists<T>(mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    three_times(|| {
        shell::output(apt_get(demo::is_root()).args(["update", "-q"]))?;
        attempt()
    })
}

fn have_lists() -> bool {
    fs::read_dir("/var/lib/apt/lists").is_ok_and(|entries| {
        entries.flatten().any(|entry| entry.file_name().to_string_lossy().contains("_Packages"))
    })
}

fn is_installed(package: &str) -> bool {
    let mut query = shell::command("dpkg-query");
    query.args(["--show", "--showformat", "${db:Status-Status}", package]);
    shell::output(&mut query).is_ok_and(|status| status == "installed")
}

/// apt-get as it is, or through a sudo that does not ask.
fn apt_get(as_is: bool) -> Command {
    let mut apt = if as_is {
        shell::command("apt-get")
    } else {
        let mut sudo = shell::command("sudo");
        sudo.args(["--non-interactive", "DEBIAN_FRONTEND=noninteractive", "apt-get"]);
        sudo
    };
    apt.args(OPTIONS).env("DEBIAN_FRONTEND", "noninteractive");
    apt
}
