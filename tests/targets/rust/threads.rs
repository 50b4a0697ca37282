//! As tests/targets/c/threads.c, by `std::thread`; the live tests compile it with `rustc`.

use std::io::BufRead as _;
use std::sync::{Condvar, Mutex};
use std::thread;

#[derive(Default)]
struct Site {
    line: u32,
    live: u64,
    started: u64,
    ended: u64,
}

static PARKED: Mutex<u64> = Mutex::new(0);
static CHANGED: Condvar = Condvar::new();

#[inline(never)]
fn waits_for_ever() {
    let mut parked = PARKED.lock().unwrap();
    *parked += 1;
    CHANGED.notify_all();
    loop {
        parked = CHANGED.wait(parked).unwrap();
    }
}

#[inline(never)]
fn leak_thread(site: &mut Site, number: u64) {
    site.line = line!() + 2;
    let named = thread::Builder::new().name(format!("leaker-{number}"));
    drop(named.spawn(waits_for_ever).unwrap());
    site.started += 1;
    site.live += 1;
}

#[inline(never)]
fn quick_thread(site: &mut Site) {
    site.line = line!() + 1;
    let thread = thread::spawn(|| {});
    thread.join().unwrap();
    site.started += 1;
    site.ended += 1;
}

fn listed() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

fn main() {
    println!("{{\"pid\":{}}}", std::process::id());
    let (mut leak, mut quick) = (Site::default(), Site::default());
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap();
        let (word, number) = line.split_once(' ').unwrap_or((&line, "0"));
        for number in 0..number.parse().unwrap() {
            match word {
                "leak" => leak_thread(&mut leak, number),
                "quick" => quick_thread(&mut quick),
                _ => {}
            }
        }
        let mut parked = PARKED.lock().unwrap();
        while *parked < leak.live {
            parked = CHANGED.wait(parked).unwrap();
        }
        drop(parked);
        while listed() as u64 != 1 + leak.live {
            thread::yield_now();
        }
        let site = |name: &str, site: &Site| {
            format!(
                "\"{name}\":{{\"line\":{},\"live\":{},\"started\":{},\"ended\":{}}}",
                site.line, site.live, site.started, site.ended
            )
        };
        println!(
            "{{\"threads\":{},\"sites\":{{{},{}}}}}",
            listed(),
            site("leak_thread", &leak),
            site("quick_thread", &quick)
        );
    }
}
