//! `cargo xtask pictures`: the pictures of the README, made from real runs. Writes `docs/pictures/`.
//!
//! The terminal is a real one (tmux), in which leakwatch watches the tutorial's server under load until it says which line
//! leaks; what is on it becomes an SVG. The agent's page is what its live test saw in Chromium: it leaves its screens in
//! `target/leakwatch/browser`. Look at what changed before you commit it.

mod cells;
mod svg;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use leakwatch_tests::process::{Guard, eventually};
use leakwatch_tests::tmux::Tmux;
use leakwatch_tests::{agent, gate};

use crate::shell;
use crate::tools::go_toolchains;

/// Where the tutorial's server listens.
const SERVER: &str = "127.0.0.1:18080";
/// How large the terminal is for the list, and for the page of a site.
const LIST: (u16, u16) = (116, 20);
const SITE: (u16, u16) = (116, 32);
/// How long a leak may take to be called one.
const PATIENCE: Duration = Duration::from_mins(4);
/// How long it is watched after that: curves say more then.
const MORE: Duration = Duration::from_secs(30);

/// Makes them all.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    if !arguments.is_empty() {
        bail!("it takes no arguments");
    }
    for gate in [gate::live(), gate::tmux(), agent::binary().map(drop)] {
        gate.map_err(anyhow::Error::msg)?;
    }
    let folder = shell::work_dir().join("pictures");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let server = build_server(&folder)?;
    let mut server = Guard::start(&mut Command::new(server));
    anyhow::ensure!(
        eventually(Duration::from_secs(10), || TcpStream::connect(SERVER).is_ok()),
        "the tutorial's server does not listen at {SERVER}"
    );
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| use_server(&stop));
        // Whatever becomes of the pictures: the users go, or nobody could wait for them.
        let _stopped = Stopped(&stop);
        terminal(&folder, server.pid())
    })?;
    anyhow::ensure!(server.is_running(), "the tutorial's server ended");
    page()
}

/// Ends the load when it is dropped.
struct Stopped<'a>(&'a AtomicBool);

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The program that the tutorial shows, built as it says.
fn build_server(folder: &Path) -> Result<std::path::PathBuf> {
    let tutorial = fs::read_to_string(shell::root().join("docs/tutorial.md")).context("no tutorial")?;
    let (_, rest) = tutorial.split_once("```go\n").context("the tutorial has no program")?;
    let (source, _) = rest.split_once("```").context("the tutorial's program has no end")?;
    fs::write(folder.join("main.go"), source)?;
    fs::write(folder.join("go.mod"), "module shop\n\ngo 1.24\n")?;
    let toolchain = go_toolchains()?.pop().context("there is no Go; `cargo xtask tools go` installs it")?;
    let server = folder.join("shopd");
    let mut go = crate::targets::go_command(&toolchain);
    // Without the folder's name: it is this machine's.
    go.current_dir(folder).args(["build", "-trimpath", "-ldflags=-s -w", "-o"]).arg(&server);
    shell::output(&mut go)?;
    Ok(server)
}

/// What the tutorial's users do: a subscription and two prices, five times a second.
fn use_server(stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        for path in ["/subscribe", "/price", "/price"] {
            // A request that fails is one less.
            drop(ask(path));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn ask(path: &str) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(SERVER)?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n")?;
    stream.read_to_end(&mut Vec::new()).map(drop)
}

/// The list of sites, and the page of the one that leaks.
fn terminal(folder: &Path, pid: u32) -> Result<()> {
    let leakwatch = agent::binary().map_err(anyhow::Error::msg)?;
    let terminal = Tmux::start(LIST.0, LIST.1, folder);
    terminal.command(&format!("{} watch --pid {pid} --colors true --interval 500ms", leakwatch.display()));
    let called = eventually(PATIENCE, || terminal.screen().contains("1 LEAK"));
    anyhow::ensure!(called, "no leak was found:\n{}", terminal.screen());
    std::thread::sleep(MORE);
    let picture = |name: &str, size: (u16, u16), title: &str| -> Result<()> {
        let rows = cells::parse(&terminal.screen_in_colour());
        let path = shell::root().join("docs/pictures").join(name);
        fs::write(&path, svg::draw(&rows, size, title))
            .with_context(|| format!("cannot write {}", path.display()))?;
        println!("{}", path.display());
        Ok(())
    };
    picture("sites.svg", LIST, "leakwatch watch: the sites of a server, the one that leaks first")?;
    terminal.press("Enter");
    terminal.wait_for(|screen| screen.contains("since attach"));
    terminal.resize(SITE.0, SITE.1);
    let last = usize::from(SITE.1) - 1;
    terminal.wait_for(|screen| screen.lines().nth(last).is_some_and(|line| line.contains("esc back")));
    picture("site.svg", SITE, "leakwatch watch: the page of the site that leaks")
}

/// What the live test of the agent's page saw.
fn page() -> Result<()> {
    let seen = shell::work_dir().join("browser");
    for (from, to) in [("process-light.png", "page.png"), ("process-dark.png", "page-dark.png")] {
        let from = seen.join(from);
        let to = shell::root().join("docs/pictures").join(to);
        fs::copy(&from, &to)
            .with_context(|| format!("no {}; the live test `browser` leaves it there", from.display()))?;
        println!("{}", to.display());
    }
    Ok(())
}
