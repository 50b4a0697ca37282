//! Does one action's jobs, one after the other: log lines, commands, dumps.

use std::{process::Stdio, sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    process::Child,
    sync::{mpsc, watch},
    time::{sleep, timeout},
};

use super::{
    Action, Command,
    dispatcher::Dumper,
    folder::{self, Content, Folder},
    tally::Tally,
};
use crate::export::{to_json, write_profile};
use crate::http::backoff;
use crate::report::alerting::AlertReport;
use crate::report::{Report, clean::clean};
use crate::text::write_dump;

/// What a command's output may tell of a failure; the rest is read and forgotten.
const OUTPUT: usize = 4_096;

/// Something to be done once.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) alert: Arc<AlertReport>,
    pub(super) report: Arc<Report>,
}

/// What a worker does.
#[derive(Clone)]
pub(super) enum Work {
    Log,
    Command(Command),
    Dump(Arc<Folder>, Dumper, fn() -> Timestamp),
}

/// A worker.
pub(super) struct Worker {
    pub(super) action: Action,
    pub(super) tally: Arc<Tally>,
    pub(super) work: Work,
    pub(super) stopped: watch::Receiver<bool>,
}

impl Worker {
    /// Works until nobody can send it anything more.
    pub(super) async fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        while let Some(job) = jobs.recv().await {
            self.tried(&job).await;
            self.tally.left();
        }
    }

    /// Does a job, and again when it fails, until it is given up.
    async fn tried(&mut self, job: &Job) {
        for attempt in 1..=self.action.attempts {
            let error = match self.work.clone().once(job, self.action.timeout).await {
                Ok(()) => return self.tally.done(),
                Err(error) => error,
            };
            self.tally.failed(&error);
            tracing::debug!("action {}: {error}", self.action.name);
            if attempt < self.action.attempts {
                tokio::select! {
                    () = sleep(backoff(attempt)) => {}
                    // There is no time for another attempt.
                    _ = self.stopped.wait_for(|stop| *stop) => break,
                }
            }
        }
        self.tally.given_up();
    }
}

impl Work {
    async fn once(self, job: &Job, limit: Duration) -> Result<(), String> {
        match self {
            Self::Log => {
                let line = line(&job.alert);
                // Standard error may be a pipe that nobody reads.
                in_time(limit, move || {
                    tracing::warn!(target: "leakwatch::alert", "{line}");
                    Ok(())
                })
                .await
            }
            Self::Command(command) => run(&command, job, limit).await,
            Self::Dump(folder, dumper, clock) => {
                let alert = job.alert.clone();
                let second = clock().as_second();
                in_time(limit, move || {
                    let dump = dumper(alert.pid)?;
                    let name = folder::name(&alert.rule, alert.pid, second, alert.id);
                    let files: [(String, Content<'_>); 2] = [
                        (format!("{name}.txt"), &|out| write_dump(&dump, out)),
                        (format!("{name}.pb.gz"), &|out| write_profile(&dump, out)),
                    ];
                    folder.write(&files).map_err(|error| error.to_string())
                })
                .await
            }
        }
    }
}

/// Does something that may block, elsewhere. When it takes too long its thread goes on, but nobody waits for it.
async fn in_time(
    limit: Duration,
    work: impl FnOnce() -> Result<(), String> + Send + 'static,
) -> Result<(), String> {
    match timeout(limit, tokio::task::spawn_blocking(work)).await {
        Ok(done) => done.unwrap_or_else(|panic| Err(panic.to_string())),
        Err(_elapsed) => Err(format!("it took longer than {} s", limit.as_secs_f64())),
    }
}

/// `alert firing: leak [P1] shop (pid 7): main.serve (main.go:12): verdict is leak; 300 started and none ended`
fn line(alert: &AlertReport) -> String {
    let about = if alert.about.is_empty() { String::new() } else { format!("; {}", alert.about) };
    let text = format!(
        "alert {}: {} [{}] {}: {}{about}",
        alert.state.name(),
        alert.rule,
        alert.level.name(),
        alert.subject(),
        alert.why
    );
    clean(&text)
}

/// Runs a command with the report on its standard input and the alert in its environment. It and what it started are ended
/// when it takes too long.
async fn run(command: &Command, job: &Job, limit: Duration) -> Result<(), String> {
    let Some((program, arguments)) = command.command.split_first() else { return Ok(()) };
    let alert = &job.alert;
    let report = job.report.clone();
    let input = tokio::task::spawn_blocking(move || to_json(&report));
    let input = input.await.map_err(|panic| panic.to_string())?;
    let mut child = tokio::process::Command::new(program)
        .args(arguments)
        .env("LEAKWATCH_RULE", &alert.rule)
        .env("LEAKWATCH_LEVEL", alert.level.name())
        .env("LEAKWATCH_STATE", alert.state.name())
        .env("LEAKWATCH_PID", alert.pid.to_string())
        .env("LEAKWATCH_COMM", clean(&alert.comm))
        .env("LEAKWATCH_SUBJECT", clean(&alert.subject()))
        .env("LEAKWATCH_WHY", clean(&alert.why))
        .env("LEAKWATCH_ABOUT", clean(&alert.about))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("cannot start {program}: {error}"))?;
    let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
    let ended = timeout(limit, talk(&mut child, input.as_bytes())).await;
    match ended {
        Ok(result) => result.map_err(|error| format!("{program}: {error}")),
        Err(_elapsed) => {
            if let Some(group) = group
                && let Err(error) = rustix::process::kill_process_group(group, rustix::process::Signal::KILL)
            {
                tracing::debug!("{program} had ended: {error}");
            }
            Err(format!("{program} took longer than {} s and was ended", limit.as_secs_f64()))
        }
    }
}

/// Gives a command its input, takes its output, and waits for its end.
async fn talk(child: &mut Child, input: &[u8]) -> Result<(), String> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let give = async {
        if let Some(mut stdin) = stdin {
            // A command that does not read its input is no failure.
            drop(stdin.write_all(input).await);
        }
    };
    let ((), output, errors) = tokio::join!(give, beginning(stdout), beginning(stderr));
    let status = child.wait().await.map_err(|error| error.to_string())?;
    if status.success() {
        return Ok(());
    }
    let said = if errors.trim().is_empty() { output } else { errors };
    Err(format!("{status}: {}", clean(said.trim())))
}

/// The beginning of a stream; the rest is read, so that whoever writes it is not held up.
async fn beginning(stream: Option<impl AsyncRead + Unpin>) -> String {
    let Some(mut stream) = stream else { return String::new() };
    let mut kept = Vec::new();
    let mut piece = [0; OUTPUT];
    while let Ok(read @ 1..) = stream.read(&mut piece).await {
        let room = OUTPUT.saturating_sub(kept.len());
        kept.extend_from_slice(piece.get(..read.min(room)).unwrap_or_default());
    }
    String::from_utf8_lossy(&kept).into_owned()
}
