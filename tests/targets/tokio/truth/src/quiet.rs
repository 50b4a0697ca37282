//! Waiting until nothing is under way, so that a count is exact: without it a test would have to sleep.
//!
//! A future is dropped, and the book knows it, a moment before tokio takes the task away. That moment is over when
//! every thread sleeps: what is being completed keeps its thread running.

use std::fs;
use std::time::{Duration, Instant};

use crate::book::{self, Kind};
use crate::world::World;

const PATIENCE: Duration = Duration::from_secs(30);

/// Looks again and again until `done`, and gives up after half a minute.
pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) -> Result<(), String> {
    let begun = Instant::now();
    let mut looks = 0;
    while !done() {
        looks += 1;
        if looks < 50 {
            std::thread::yield_now();
        } else {
            std::thread::sleep(Duration::from_micros(100));
        }
        if begun.elapsed() > PATIENCE {
            return Err(format!("{what}: not within 30 s; the book says {} live", book::live(None)));
        }
    }
    Ok(())
}

/// Waits until everything started has run, every other thread sleeps, and tokio's own count is the book's: three
/// times in a row.
pub fn settle(world: &World) -> Result<(), String> {
    let mut equal = 0;
    wait_until("settling", || {
        let arrived = book::sites().iter().all(|site| site.has_arrived());
        let counted = world.num_alive_tasks().map_or(true, |alive| alive == book::live(Some(Kind::Task)));
        equal = if arrived && counted && others_sleep() { equal + 1 } else { 0 };
        equal >= 3
    })
    .map_err(|error| format!("{error}; num_alive_tasks {:?}", world.num_alive_tasks()))
}

/// The ids of this process's threads, as the kernel lists them.
pub fn threads() -> Vec<u32> {
    let listed = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    listed.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Whether every thread but this one sleeps. The kernel makes a thread runnable before whoever wakes it goes on.
fn others_sleep() -> bool {
    let own = fs::read_link("/proc/thread-self").ok();
    let own: Option<u32> = own.and_then(|path| path.file_name()?.to_str()?.parse().ok());
    threads().into_iter().filter(|thread| Some(*thread) != own).all(|thread| {
        // A thread that has just ended does nothing any more.
        let text = match fs::read_to_string(format!("/proc/self/task/{thread}/stat")) {
            Ok(text) => text,
            Err(_) => return true,
        };
        // The name before it is in parentheses, and may have any character in it.
        text.rsplit(") ").next().map_or(false, |rest| rest.starts_with('S'))
    })
}
