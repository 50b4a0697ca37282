//! What every loop needs of a watched process: who it is in reports, how its runtimes are counted, when it ended.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd},
    time::Duration,
};

use leakwatch_common::RuntimeKind;
use tokio::io::{Interest, unix::AsyncFd};

use crate::{
    collect::{Counting, Session},
    host::{Process, pods},
    report::{self, Pod, ProcessInfo, RuntimeReport},
};

/// What reports say of a process besides its figures.
pub(super) fn info(process: &Process) -> ProcessInfo {
    ProcessInfo {
        pid: process.pid(),
        start_time: process.start_time().ok(),
        comm: process.comm().to_owned(),
        exe: Some(process.exe().path.display().to_string()),
        container: process.container().map(str::to_owned),
        pod: pod(process),
        ..ProcessInfo::default()
    }
}

/// The pod that it runs in, with its name where this is the pod's node.
fn pod(process: &Process) -> Option<Pod> {
    let uid = process.place().pod.as_deref()?;
    let named = pods::of_uid(pods::LOGS.as_ref(), uid);
    let (name, namespace) = named.map(|pod| (pod.name, pod.namespace)).unzip();
    Some(Pod { name, namespace, uid: Some(uid.to_owned()) })
}

/// Returns when the process has ended: a pidfd becomes readable then.
pub(super) fn end_of(session: &Session) -> impl Future<Output = io::Result<()>> + use<> {
    let pidfd = session.process().as_fd().try_clone_to_owned();
    async move {
        let pidfd = readable(pidfd?)?;
        pidfd.readable().await?.retain_ready();
        Ok(())
    }
}

/// How its runtimes are counted.
pub(super) fn runtimes(session: &Session) -> Vec<RuntimeReport> {
    let counted = session.runtimes().iter();
    if counted.len() == 0 {
        return vec![RuntimeReport {
            kind: RuntimeKind::Thread.name().to_owned(),
            name: None,
            version: None,
            mode: report::Mode::Probes,
            problems: session.no_lines().map(str::to_owned).into_iter().collect(),
        }];
    }
    counted
        .map(|counted| RuntimeReport {
            kind: counted.runtime.kind.name().to_owned(),
            name: counted.runtime.name.clone(),
            version: counted.runtime.version.clone(),
            mode: match counted.counting {
                Counting::Probes => report::Mode::Probes,
                Counting::Memory => report::Mode::Memory,
                Counting::Both => report::Mode::Mixed,
            },
            problems: counted.runtime.problems.clone(),
        })
        .collect()
}

/// Registers a file descriptor that becomes readable.
#[expect(
    deprecated,
    reason = "the successor is unsafe for types that could lie about their descriptor; ours own theirs"
)]
pub(super) fn readable<T: AsRawFd>(fd: T) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(fd, Interest::READABLE)
}

/// As the kernel counts time.
pub(super) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
