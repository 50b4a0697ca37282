//! What every loop needs of a watched process: who it is in reports, how its runtimes are counted, when it ended.

use std::{collections::BTreeSet, io, os::fd::AsRawFd, sync::Arc, time::Duration};

use leakwatch_common::RuntimeKind;
use tokio::io::{Interest, unix::AsyncFd};

use crate::{
    collect::{Counting, Session},
    host::{Process, Root, container::Place, engines, pods},
    report::{self, Container, Pod, ProcessInfo, RuntimeReport, Timestamp},
};

/// What reports say of a process besides its figures, with these labels of its pod; `booted` is [`crate::host::boot_time`], where
/// it is known.
pub(super) fn info(
    process: &Process,
    booted: Option<Timestamp>,
    root: &Root,
    labels: &BTreeSet<String>,
) -> ProcessInfo {
    let (container, mut pod) = home(process, root, !labels.is_empty());
    if let Some(of_pod) = pod.as_mut().and_then(|pod| pod.labels.as_mut()) {
        of_pod.retain(|key, _| labels.contains(key));
    }
    ProcessInfo {
        pid: process.pid(),
        start_time: booted.and_then(|booted| process.start_time(booted)),
        comm: process.comm().to_owned(),
        exe: Some(process.exe().path.display().to_string()),
        container,
        pod,
        ..ProcessInfo::default()
    }
}

/// The id of the container that it runs in.
pub(super) fn container_id(process: &Process, root: &Root) -> Option<String> {
    let place = process.place();
    place.container.clone().or_else(|| Some(engines::of_group(root, place.cgroup.as_deref()?)?.id))
}

/// The container and the pod that it runs in, with what their engine and the kubelet keep of them below `root`, and if wanted all
/// labels of the pod.
pub(super) fn home(process: &Process, root: &Root, labels: bool) -> (Option<Container>, Option<Pod>) {
    let Place { container: id, pod: uid, engine, cgroup } = process.place();
    let upper = || process.upper_layer();
    let (id, kept) = if let Some(id) = id {
        (Some(id.clone()), engines::container(root, id, &upper))
    } else if let Some(chosen) = cgroup.as_deref().and_then(|group| engines::of_group(root, group)) {
        let kept = engines::container_in_namespace(root, &chosen, &upper);
        (Some(chosen.id), kept)
    } else {
        (None, None)
    };
    let uid = uid.clone().or_else(|| kept.as_ref()?.pod_uid.clone());
    let named = kept.as_ref().and_then(|kept| kept.pod.clone());
    let named = named.or_else(|| pods::of_uid(root, uid.as_deref()?));
    let name = kept.as_ref().and_then(|kept| kept.name.clone());
    // The kubelet's word, where the engine's is not to be had.
    let logged = (uid.is_some() && (named.is_none() || name.is_none()))
        .then(|| pods::of_container(root, id.as_deref()?))
        .flatten();
    let (named, name) = match logged {
        Some((pod, container)) => (named.or(Some(pod)), name.or(Some(container))),
        None => (named, name),
    };
    let pod = (uid.is_some() || named.is_some()).then(|| {
        let (name, namespace) = named.map(|pod| (pod.name, pod.namespace)).unzip();
        let sandbox = kept.as_ref().and_then(|kept| kept.sandbox.as_ref()).filter(|_| labels);
        Pod {
            name,
            namespace,
            uid,
            labels: sandbox.and_then(|sandbox| engines::labels(root, sandbox, &upper)),
        }
    });
    let container = id.map(|id| {
        let engine = kept.as_ref().map(|kept| kept.engine).or(*engine);
        let image = kept.and_then(|kept| kept.image);
        Container { id, engine: engine.map(|engine| engine.name().to_owned()), name, image }
    });
    (container, pod)
}

/// Returns when the process has ended: a pidfd becomes readable then.
pub(super) fn end_of(session: &Session) -> impl Future<Output = io::Result<()>> + use<> {
    let pidfd = Arc::clone(session.process().pidfd());
    async move {
        let pidfd = readable(pidfd)?;
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
