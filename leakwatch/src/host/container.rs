//! Where a process runs, out of `/proc/PID/cgroup`: its container, its pod, its control group.
//!
//! Every engine puts its 64-digit id into the path, each in its own wrapping:
//! `/docker/ID`, `/system.slice/docker-ID.scope`, `/kubepods/besteffort/podUID/ID`,
//! `…/cri-containerd-ID.scope`, `…:cri-containerd:ID`, `/crio-ID.scope`, `/machine.slice/libpod-ID.scope/container`,
//! `/ecs/TASK/ID`, and AWS Fargate's `/ecs/TASK/TASK-NUMBER`. Kubernetes puts a pod's containers below a group that is
//! called after the pod's uid: `podUID` with cgroupfs, `…kubepods…-podUID.slice` with systemd, which wants `_` where the uid has `-`.

use super::engines::Engine;

/// Where a process runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Id of its container; `None`: a process of the host, or an engine whose cgroups we do not know.
    pub container: Option<String>,
    /// Uid of its Kubernetes pod.
    pub pod: Option<String>,
    /// Whose container it is, where the path says that.
    pub engine: Option<Engine>,
    /// Path of its control group: that of the unified hierarchy, where there is one, else that of the first.
    pub cgroup: Option<String>,
}

impl Place {
    /// As `/proc/PID/cgroup` tells it.
    pub fn parse(cgroups: &str) -> Self {
        // hierarchy:controllers:path, and the path may hold colons.
        let paths = || {
            cgroups.lines().filter_map(|line| {
                let mut fields = line.splitn(3, ':');
                let (hierarchy, _controllers) = (fields.next()?, fields.next()?);
                Some((hierarchy, fields.next()?))
            })
        };
        let unified = paths().find(|(hierarchy, path)| *hierarchy == "0" && *path != "/");
        let container = paths().find_map(|(_, path)| id_of_path(path).zip(Some(path)));
        Self {
            engine: container.as_ref().and_then(|(id, path)| engine_of(path, id)),
            container: container.map(|(id, _)| id),
            pod: paths().find_map(|(_, path)| path.rsplit('/').find_map(pod_of_segment)),
            cgroup: unified.or_else(|| paths().next()).map(|(_, path)| path.to_owned()),
        }
    }
}

/// The innermost wins: a container may run in a container, and may make cgroups of its own.
fn id_of_path(path: &str) -> Option<String> {
    path.rsplit('/').find_map(id_of_segment)
}

/// The engine that gives a container this path. With cgroupfs in Kubernetes all give the same one.
fn engine_of(path: &str, id: &str) -> Option<Engine> {
    const AROUND: [(&str, Engine); 6] = [
        ("libpod-", Engine::Podman),
        ("crio-", Engine::CriO),
        ("cri-containerd-", Engine::Containerd),
        ("cri-containerd:", Engine::Containerd),
        ("docker-", Engine::Docker),
        ("docker/", Engine::Docker),
    ];
    let (before, _) = path.rsplit_once(id)?;
    let around = AROUND.into_iter().find(|(around, _)| before.ends_with(around)).map(|(_, engine)| engine);
    around.or_else(|| before.starts_with("/ecs/").then_some(Engine::Ecs))
}

/// The shortest id: a pod's, as the hash of a manifest.
const SHORTEST: usize = 32;

fn id_of_segment(segment: &str) -> Option<String> {
    // Most groups are no container's, and every process is asked for its own.
    if segment.len() < SHORTEST {
        return None;
    }
    let segment = segment.strip_suffix(".scope").unwrap_or(segment);
    // The monitor beside the container carries its id too.
    if segment.contains("-conmon-") {
        return None;
    }
    let id = segment.rsplit([':', '-']).next()?;
    if is_hex(id, 64) {
        return Some(id.to_owned());
    }
    let (task, number) = segment.rsplit_once('-')?;
    let fargate = is_hex(task, 32) && !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    fargate.then(|| segment.to_owned())
}

/// The uid of the pod that a group is called after.
fn pod_of_segment(segment: &str) -> Option<String> {
    if segment.len() < SHORTEST {
        return None;
    }
    // containerd without systemd: `kubepods-burstable-podUID.slice:cri-containerd:ID`.
    let segment = segment.split(':').next()?;
    let segment = segment.strip_suffix(".slice").unwrap_or(segment);
    let uid = match segment.strip_prefix("pod") {
        Some(uid) => uid,
        None => segment.rsplit_once("-pod").filter(|(parents, _)| parents.contains("kubepods"))?.1,
    };
    let uid = uid.replace('_', "-");
    self::uid(&uid)
}

/// The uid of a pod; `None`: it is none.
pub(super) fn uid(text: &str) -> Option<String> {
    is_uid(text).then(|| text.to_owned())
}

/// A uid as the API server gives them, or the hash of a static pod's manifest.
fn is_uid(text: &str) -> bool {
    let lengths = [8, 4, 4, 4, 12];
    let mut parts = text.split('-');
    let of_parts = lengths.iter().all(|&digits| parts.next().is_some_and(|part| is_hex(part, digits)));
    (of_parts && parts.next().is_none()) || is_hex(text, 32)
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "3f4b0d2c6a17e59388d1c4a7b2f06e5d9c8b7a605142f3e0d1c2b3a495867f6e";
    const UID: &str = "7d3c5a4e-1a2b-4c3d-8e4f-5a6b7c8d9e0f";
    const UNDERSCORED: &str = "7d3c5a4e_1a2b_4c3d_8e4f_5a6b7c8d9e0f";
    const STATIC: &str = "0123456789abcdef0123456789abcdef";

    /// Lines of real engines: what stands in `/proc/PID/cgroup`, whether a container is there, and whose pod it is.
    const LINES: &[(&str, bool, Option<&str>)] = &[
        // docker, cgroup v1 and v2, and in docker
        ("12:pids:/docker/ID", true, None),
        ("0::/system.slice/docker-ID.scope", true, None),
        ("0::/system.slice/docker-ID.scope/init.scope", true, None),
        (
            "1:name=systemd:/docker/aaaa0d2c6a17e59388d1c4a7b2f06e5d9c8b7a605142f3e0d1c2b3a495867f6e/docker/ID",
            true,
            None,
        ),
        ("0::/../../docker-ID.scope", true, None),
        // Kubernetes with cgroupfs, by quality of service; a static pod
        ("11:memory:/kubepods/besteffort/podUID/ID", true, Some(UID)),
        ("11:memory:/kubepods/podUID/ID", true, Some(UID)),
        ("11:memory:/kubepods/burstable/podSTATIC/ID", true, Some(STATIC)),
        ("4:devices:/kubelet/kubepods/podUID/ID", true, Some(UID)),
        // Kubernetes with systemd: containerd, cri-o, docker
        (
            "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podUNDERSCORED.slice/cri-containerd-ID.scope",
            true,
            Some(UID),
        ),
        ("0::/kubepods.slice/kubepods-podUNDERSCORED.slice/crio-ID.scope", true, Some(UID)),
        ("0::/kubepods.slice/kubepods-podUNDERSCORED.slice/crio-ID.scope/container", true, Some(UID)),
        ("0::/kubepods.slice/kubepods-besteffort-podSTATIC.slice/docker-ID.scope", true, Some(STATIC)),
        (
            "0::/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-podUNDERSCORED.slice/crio-ID.scope",
            true,
            Some(UID),
        ),
        (
            "0::/system.slice/containerd.service/kubepods-burstable-podUNDERSCORED.slice:cri-containerd:ID",
            true,
            Some(UID),
        ),
        // the group of a pod, without a container in it
        ("0::/kubepods.slice/kubepods-podUNDERSCORED.slice", false, Some(UID)),
        // podman, with and without root, and its monitor
        ("0::/machine.slice/libpod-ID.scope/container", true, None),
        ("0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope", true, None),
        ("0::/machine.slice/libpod-conmon-ID.scope", false, None),
        // Amazon ECS
        ("9:perf_event:/ecs/55091c13b8cf4801b527f8601742204/ID", true, None),
        // no container
        ("0::/", false, None),
        ("0::/system.slice/sshd.service", false, None),
        ("0::/system.slice/system-getty.slice/getty@tty1.service", false, None),
        ("0::/user.slice/user-1000.slice/session-2.scope", false, None),
        ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/app-podcast.slice", false, None),
        ("0::/machine.slice/machine-qemu\\x2d1\\x2dvm.scope", false, None),
        ("0::/kubepods.slice/kubepods-burstable-podnot_a_uid.slice", false, None),
        ("4:memory:/process_api/7fafbc15f9234f0632c712e6efe75660", false, None),
        ("no colons at all", false, None),
        ("", false, None),
    ];

    #[test]
    fn every_engine() {
        for (line, container, pod) in LINES {
            let line = line.replace("UNDERSCORED", UNDERSCORED).replace("STATIC", STATIC);
            let line = line.replace("UID", UID).replace("ID", ID);
            let place = Place::parse(&format!("13:cpu:/\n{line}\n"));
            assert_eq!(place.container.as_deref(), container.then_some(ID), "{line}");
            assert_eq!(place.pod.as_deref(), *pod, "{line}");
        }
    }

    #[test]
    fn the_path_names_most_engines() {
        let check = |line: &str, engine: Option<Engine>| {
            assert_eq!(Place::parse(&line.replace("ID", ID)).engine, engine, "{line}");
        };
        check("12:pids:/docker/ID", Some(Engine::Docker));
        check("0::/system.slice/docker-ID.scope/init.scope", Some(Engine::Docker));
        check("0::/kubepods.slice/kubepods-podX.slice/cri-containerd-ID.scope", Some(Engine::Containerd));
        check(
            "0::/system.slice/containerd.service/kubepods-podX.slice:cri-containerd:ID",
            Some(Engine::Containerd),
        );
        check("0::/kubepods.slice/kubepods-podX.slice/crio-ID.scope/container", Some(Engine::CriO));
        check("0::/machine.slice/libpod-ID.scope/container", Some(Engine::Podman));
        check("9:pids:/libpod_parent/libpod-ID", Some(Engine::Podman));
        check("9:perf_event:/ecs/55091c13b8cf4801b527f8601742204/ID", Some(Engine::Ecs));
        check("11:memory:/kubepods/besteffort/podX/ID", None);
        check("0::/system.slice/docker.service", None);
    }

    #[test]
    fn a_fargate_task_is_its_container() {
        let fargate = "0::/ecs/0123456789abcdef0123456789abcdef/0123456789abcdef0123456789abcdef-2531612879";
        let place = Place::parse(fargate);
        assert_eq!(place.engine, Some(Engine::Ecs));
        assert_eq!(place.container.as_deref(), Some("0123456789abcdef0123456789abcdef-2531612879"));
    }

    #[test]
    fn the_group_is_that_of_the_unified_hierarchy() {
        let check = |text: &str, expect: Option<&str>| {
            assert_eq!(Place::parse(text).cgroup.as_deref(), expect, "{text}");
        };
        check("0::/system.slice/a.service\n", Some("/system.slice/a.service"));
        check("5:cpu:/one\n1:name=systemd:/two\n0::/three\n", Some("/three"));
        // Both versions, and everything is in the old one.
        check("5:cpu:/one\n0::/\n", Some("/one"));
        check("0::/with:colons\n", Some("/with:colons"));
        check("0::/\n", Some("/"));
        check("", None);
    }
}
