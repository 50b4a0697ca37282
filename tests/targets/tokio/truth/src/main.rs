//! Truth is a program that always knows how many tokio tasks it has started, how many of them have ended, and of
//! which type they are. The live tests compare leakwatch's figures with its own. README.md has the protocol.

mod book;
mod churn;
mod json;
mod kinds;
mod quiet;
mod world;

use std::io::BufRead as _;
use std::os::unix::process::CommandExt as _;
use std::time::Instant;

use churn::{Background, CHURNS};
use json::Object;
use kinds::{Row, ROWS};
use quiet::{settle, wait_until};
use world::{Flavour, World};

fn main() {
    let flavour = match std::env::var("TRUTH_RUNTIME").as_deref() {
        Ok("current_thread") => Flavour::CurrentThread,
        _ => Flavour::MultiThread,
    };
    let workers = std::env::var("TRUTH_WORKERS").ok().and_then(|text| text.parse().ok()).unwrap_or(2);
    let mut world = World::new(flavour, workers);
    let background = Background::new();
    let ready = Object::new()
        .number("pid", u64::from(std::process::id()))
        .text("version", option_env!("TRUTH_TOKIO_VERSION").unwrap_or("unknown"))
        .text("runtime", if flavour == Flavour::MultiThread { "multi_thread" } else { "current_thread" })
        .number("workers", workers as u64)
        .flag("alive", cfg!(feature = "alive"))
        .flag("joinset", cfg!(feature = "joinset"))
        .flag("panics", !cfg!(panic = "abort"));
    println!("ready {}", ready.end());
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap();
        let mut words = line.split_whitespace();
        let name = match words.next() {
            Some(name) => name,
            None => continue,
        };
        let arguments: Vec<&str> = words.collect();
        if name == "idle" {
            background.end();
        }
        // The background churn stands still while a command runs up to its answer, so that the answer is exact.
        match background.pause(|| answer(&mut world, &background, name, &arguments)) {
            Ok(object) => println!("ok {}", object.end()),
            Err(error) => println!("err {name}: {}", error.replace('\n', "; ")),
        }
    }
    background.end();
}

/// Runs one command between two moments at which everything is settled.
fn answer(world: &mut World, background: &Background, name: &str, arguments: &[&str]) -> Result<Object, String> {
    settle(world)?;
    let object = run(world, background, name, arguments)?;
    settle(world)?;
    // After settling, as what it says is to be exact.
    Ok(match object {
        Answer::Empty => Object::new(),
        Answer::Is(object) => object,
        Answer::Book => account(world, background),
        Answer::Site(site) => Object::new()
            .text("task", site.name())
            .number("live", site.live())
            .number("started", site.started())
            .number("ended", site.ended()),
    })
}

/// What a command's answer carries.
enum Answer {
    Empty,
    Is(Object),
    Book,
    Site(&'static book::Site),
}

fn run(world: &mut World, background: &Background, name: &str, arguments: &[&str]) -> Result<Answer, String> {
    if let Some((_, usage, churn)) = CHURNS.iter().find(|churn| churn.0 == name) {
        let n = number(arguments, 0, None).map_err(|error| format!("{error} (usage: {name} {usage})"))?;
        let (before, begun) = (book::started(), Instant::now());
        let site = churn(world, n, number(arguments, 1, Some(0))?)?;
        let ns = u64::try_from(begun.elapsed().as_nanos()).unwrap();
        let started = book::started() - before;
        return Ok(Answer::Is(
            Object::new().text("task", site.name()).number("started", started).number("ns", ns),
        ));
    }
    match name {
        "spawn" => spawn(world, kind(arguments)?, number(arguments, 1, None)?),
        "finish" => finish(world, kind(arguments)?, number(arguments, 1, None)?, false),
        "abort" => finish(world, kind(arguments)?, number(arguments, 1, None)?, true),
        "dropkept" => {
            world.kept.clear();
            Ok(Answer::Empty)
        }
        "shutdown" => {
            let second = world.second.take().ok_or("there is no second runtime; `spawn second N` makes it")?;
            match arguments.first() {
                Some(&"background") => second.shutdown_background(),
                _ => drop(second),
            }
            world.held.remove("second");
            await_none(&kinds::SECOND)
        }
        "endlocal" => {
            let local = world.local.take().ok_or("there is no LocalSet; `spawn local N` makes it")?;
            local.end();
            world.held.remove("local");
            await_none(&kinds::LOCAL)
        }
        "kinds" => Ok(Answer::Is(
            Object::new().texts("kinds", &ROWS.iter().map(|row| row.name).collect::<Vec<_>>()),
        )),
        // Settling has compared it with tokio's own count, where this version has one.
        "truth" | "check" => Ok(Answer::Book),
        "busy" => {
            background.start(world, number(arguments, 0, None)?, number(arguments, 1, None)?)?;
            Ok(Answer::Empty)
        }
        "idle" => Ok(Answer::Empty),
        "exec" => {
            let exe = std::env::current_exe().map_err(|error| error.to_string())?;
            Err(std::process::Command::new(exe).exec().to_string())
        }
        "exit" => {
            println!("ok {{}}");
            std::process::exit(i32::try_from(number(arguments, 0, Some(0))?).unwrap_or(255))
        }
        "crash" => {
            println!("ok {{}}");
            panic!("crash, as asked for")
        }
        _ => Err("unknown command; README.md lists them".to_owned()),
    }
}

fn number(arguments: &[&str], index: usize, otherwise: Option<u64>) -> Result<u64, String> {
    match (arguments.get(index), otherwise) {
        (Some(text), _) => text.parse().map_err(|_| format!("{text:?} is not a count")),
        (None, Some(otherwise)) => Ok(otherwise),
        (None, None) => Err(format!("argument {} is missing", index + 1)),
    }
}

fn kind(arguments: &[&str]) -> Result<&'static Row, String> {
    let name = arguments.first().ok_or("a kind and a count are needed")?;
    ROWS.iter().find(|row| row.name == *name).ok_or_else(|| format!("unknown kind {name:?}; `kinds` lists them"))
}

fn spawn(world: &mut World, row: &'static Row, n: u64) -> Result<Answer, String> {
    for _ in 0..n {
        let held = (row.spawn)(world);
        world.held.entry(row.name).or_default().push(held);
    }
    Ok(Answer::Site(row.site))
}

/// Lets the oldest end, by what they wait for or by an abort.
fn finish(world: &mut World, row: &'static Row, n: u64, abort: bool) -> Result<Answer, String> {
    let held = world.held.entry(row.name).or_default();
    let n = usize::try_from(n).map_err(|_| "too many")?;
    let can = held.iter().filter(|held| if abort { held.handle.is_some() } else { held.release.is_some() });
    if n > can.count() {
        let (way, there) = (if abort { "aborted" } else { "let go" }, held.len());
        return Err(format!("{n} tasks of this kind cannot be {way}, there are {there}"));
    }
    let due = row.site.ended() + n as u64;
    let mut handles = Vec::new();
    for mut one in held.drain(..n) {
        match (abort, one.release.take(), one.handle.as_ref()) {
            (true, _, Some(handle)) => handle.abort(),
            (_, Some(release), _) => release(),
            _ => {}
        }
        handles.extend(one.handle);
    }
    wait_until("ending", || row.site.ended() >= due && handles.iter().all(|handle| handle.is_finished()))?;
    #[cfg(feature = "joinset")]
    if row.name == "joinset" {
        let handle = world.main.handle().clone();
        handle.block_on(async {
            for _ in 0..n {
                drop(world.set.join_next().await);
            }
        });
    }
    if row.name == "kept" {
        world.kept.extend(handles);
    }
    Ok(Answer::Site(row.site))
}

fn await_none(site: &'static book::Site) -> Result<Answer, String> {
    wait_until("the end of its tasks", || site.live() == 0)?;
    Ok(Answer::Site(site))
}

/// The whole book.
fn account(world: &World, background: &Background) -> Object {
    let (mut sites, [mut live, mut started, mut ended]) = (Object::new(), [0; 3]);
    let (mut blocking, mut local) = ([0; 3], 0);
    for (name, entry) in book::entries() {
        let counts = [entry.live, entry.started, entry.ended];
        if entry.kind == "blocking" {
            blocking = [blocking[0] + counts[0], blocking[1] + counts[1], blocking[2] + counts[2]];
        } else {
            live += entry.live;
            started += entry.started;
            ended += entry.ended;
        }
        if entry.kind == "local" {
            local += entry.live;
        }
        let site = Object::new()
            .number("live", entry.live)
            .number("started", entry.started)
            .number("ended", entry.ended)
            .text("kind", entry.kind);
        sites = sites.object(name, site);
    }
    let blocking = Object::new()
        .number("live", blocking[0])
        .number("started", blocking[1])
        .number("ended", blocking[2]);
    Object::new()
        .maybe("num_alive_tasks", world.num_alive_tasks())
        .number("live", live)
        .number("started", started)
        .number("ended", ended)
        .number("local", local)
        .object("blocking", blocking)
        .object("sites", sites)
        .number("threads", quiet::threads().len() as u64)
        .flag("busy", background.is_on())
}
