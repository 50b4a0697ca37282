//! A disk that is full, from the agent's start on: what is said, what goes on, and that all of it works again when there is room.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use leakwatch_tests::process::eventually;
use leakwatch_tests::prometheus::{PATIENCE, free_port};
use leakwatch_tests::receivers::Sink;
use leakwatch_tests::{HostAgent, Server, Target, gate, matrix, need};
use serde_json::Value;

use crate::folder::Folder;
use crate::outage::{self, WriteRequest};

const WRITE: &str = "/api/v1/write";

/// A small disk of its own; unmounted when dropped.
struct Disk(PathBuf);

impl Disk {
    #[track_caller]
    fn mount(path: PathBuf) -> Self {
        fs::create_dir(&path).expect("a folder");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs"]).arg(&path);
        assert!(mount.status().expect("mount runs").success());
        Self(path)
    }

    /// Takes all room that is left.
    #[track_caller]
    fn fill(&self) {
        let mut file = File::create(self.0.join("filler")).expect("a file");
        let error = loop {
            if let Err(error) = file.write_all(&[b'x'; 4_096]) {
                break error;
            }
        };
        assert_eq!(error.raw_os_error(), Some(28), "no room: {error}");
    }

    #[track_caller]
    fn make_room(&self) {
        fs::remove_file(self.0.join("filler")).expect("removed");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Whoever has a file open there is ended a moment later.
        drop(Command::new("umount").arg("-l").arg(&self.0).status());
    }
}

/// Names and sizes of the files in a folder.
fn files(folder: &Path) -> Vec<(String, u64)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries
        .map(|entry| {
            (entry.file_name().to_string_lossy().into_owned(), entry.metadata().map_or(0, |file| file.len()))
        })
        .collect();
    files.sort();
    files
}

/// When the rounds were that a receiver has, in the order that they came; the mark at the end is none.
fn rounds(sink: &Sink) -> Vec<i64> {
    let requests = sink.posted(WRITE).into_iter().map(|posted| WriteRequest::of(&posted.body));
    let times = requests.flat_map(|request| {
        let samples = outage::samples_of(&[request]);
        let of_agent = samples.into_iter().filter(|(labels, _)| labels["__name__"] == "leakwatch_build_info");
        of_agent.flat_map(|(_, samples)| samples).map(|(time, _)| time).collect::<Vec<_>>()
    });
    times.collect()
}

#[test]
fn a_full_disk_is_said_costs_no_sample_and_works_again_when_there_is_room() {
    need!(gate::live(), gate::file(&matrix::any_go_target().path));
    let folder = Folder::new("full");
    let program = folder.copy("served");
    let mut target = Target::start(&program);
    let disk = Disk::mount(folder.path().join("disk"));
    disk.fill();
    let (queue, dumps, cache) = (disk.0.join("queue"), disk.0.join("dumps"), disk.0.join("binaries.cache"));
    let sink = Sink::start();
    let config = |port: u16| {
        format!(
            "[discover]\ncache = \"{}\"\ninclude = [{{ exe = \"{}\" }}]\n[sampling]\ninterval = \"1s\"\ncpu_percent = 50\n\
             [promote]\nenabled = false\n[export]\ninterval = \"1s\"\n[export.remote_write]\n\
             url = \"http://127.0.0.1:{port}{WRITE}\"\nqueue_dir = \"{}\"\n[[rule]]\nname = \"many\"\n\
             when = \"tasks.live > 100\"\n[[action]]\nkind = \"dump\"\nattempts = 1\ndir = \"{}\"\n",
            cache.display(),
            program.display(),
            queue.display(),
            dumps.display(),
        )
    };
    let mut host = HostAgent::start("full", &config(sink.address().port()));
    let figure = |host: &Server, name: &str| -> f64 {
        let start = format!("leakwatch_export_{name}{{to=\"remote_write\"}} ");
        let metrics = host.get("/metrics", &[]).body;
        let line = metrics.lines().find_map(|line| line.strip_prefix(&start)).expect("the figure");
        line.parse().expect("a number")
    };

    // It is said, once, and the receiver gets everything all the same.
    let said = host.wait_said("No space left on device");
    assert!(said.contains("the queue in") || said.contains("binaries"), "{said}");
    assert!(eventually(PATIENCE, || rounds(&sink).len() >= 3), "nothing is sent");

    // The receiver is away as well: memory has what comes. A dump cannot be written, and nothing is left of it.
    host.reload(&config(free_port()));
    host.wait_said("the configuration was read again");
    target.command("spawn chan 200");
    let alerts = |host: &Server| -> Value {
        serde_json::from_str(&host.get("/api/v1/alerts", &[]).body).expect("JSON")
    };
    let dump = |host: &Server, of: &str| alerts(host)["actions"][0][of].as_u64().expect("a count");
    host.wait_until("a dump that fails", |host| dump(host, "given_up") == 1);
    assert_eq!(files(&dumps), []);
    let waits = figure(&host, "queue_bytes");
    host.wait_until("more that waits", |host| figure(host, "queue_bytes") > waits);
    assert_eq!(outage::requests(&queue).len(), 0, "it has no room there");

    // There is room: what waited in memory goes to the disk, and to the receiver when that is back.
    disk.make_room();
    host.wait_said("works again");
    let kept = outage::requests(&queue);
    assert!(kept.len() > 1, "{}", kept.len());
    target.command("finish chan 200");
    host.wait_until("its end", |host| alerts(host)["alerts"][0]["state"] == "resolved");
    target.command("spawn chan 200");
    host.wait_until("a dump", |host| dump(host, "done") == 1);
    let written = files(&dumps);
    assert!(
        written.len() == 2 && written.iter().all(|(name, size)| *size > 0 && !name.contains(".tmp")),
        "{written:?}"
    );
    let there = rounds(&sink).len();
    host.reload(&config(sink.address().port()));
    assert!(eventually(PATIENCE, || rounds(&sink).len() > there + kept.len()), "the queue is not sent");
    assert!((figure(&host, "samples_dropped_total")).abs() < 0.5, "something was given up");
    let times = rounds(&sink);
    assert!(times.is_sorted_by(|one, next| one < next), "not in order, or twice: {times:?}");
    let outcome = host.terminate();
    assert_eq!(outcome.code(), Some(0));
    assert!(outcome.stderr.matches("is not kept for now").count() <= 1, "{}", outcome.stderr);
    let left = files(&disk.0);
    assert!(left.iter().any(|(name, size)| name == "binaries.cache" && *size > 0), "{left:?}");
    assert!(left.iter().all(|(name, _)| !name.contains(".new")), "{left:?}");
}
