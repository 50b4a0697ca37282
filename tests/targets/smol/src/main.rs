//! Tasks of the crate `async-task`, as smol and async-std make them, counted by the program itself.
//!
//! Commands on standard input, one answer a line: `open N` (tasks of `leak_orders` that never end), `close N`
//! (cancels N of them), `storm N` (N tasks of `handle_request` that end), `truth`.

use std::{
    collections::VecDeque,
    future::{pending, ready},
    io::{BufRead, Write},
};

use async_executor::{LocalExecutor, Task};
use futures_lite::future::block_on;

#[inline(never)]
fn leak_orders(executor: &LocalExecutor<'static>, kept: &mut VecDeque<Task<()>>, n: usize) {
    for _ in 0..n {
        kept.push_back(executor.spawn(pending::<()>()));
    }
}

#[inline(never)]
fn handle_request(executor: &LocalExecutor<'static>, n: usize) {
    for at in 0..n {
        let answer = executor.spawn(async move { ready(at).await });
        assert_eq!(block_on(executor.run(answer)), at);
    }
}

fn main() {
    let executor = LocalExecutor::new();
    let mut kept = VecDeque::new();
    let (mut opened, mut closed) = (0, 0);
    let mut out = std::io::stdout().lock();
    writeln!(out, "{{\"pid\": {}}}", std::process::id()).expect("a reader");
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("a line");
        let mut words = line.split_whitespace();
        let command = words.next().unwrap_or_default();
        let n: usize = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
        match command {
            "open" => {
                leak_orders(&executor, &mut kept, n);
                // Each runs once, and waits.
                while executor.try_tick() {}
                opened += n;
            }
            "close" => {
                for task in kept.drain(..n) {
                    block_on(executor.run(task.cancel()));
                }
                while executor.try_tick() {}
                closed += n;
            }
            "storm" => {
                handle_request(&executor, n);
                opened += n;
                closed += n;
            }
            _ => {}
        }
        let live = kept.len();
        writeln!(out, "{{\"opened\": {opened}, \"closed\": {closed}, \"live\": {live}}}").expect("a reader");
    }
}
