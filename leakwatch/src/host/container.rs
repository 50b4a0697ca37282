//! Container ids out of `/proc/PID/cgroup`.
//!
//! Every engine puts its 64-digit id into the path, each in its own wrapping:
//! `/docker/ID`, `/system.slice/docker-ID.scope`, `/kubepods/besteffort/podUID/ID`,
//! `…/cri-containerd-ID.scope`, `…:cri-containerd:ID`, `/crio-ID.scope`, `/machine.slice/libpod-ID.scope/container`,
//! `/ecs/TASK/ID`, and AWS Fargate's `/ecs/TASK/TASK-NUMBER`.

/// The id of the container whose cgroups these are; `None` for a process of the host.
pub fn container_id(cgroups: &str) -> Option<String> {
    cgroups.lines().find_map(|line| {
        // hierarchy:controllers:path, and the path may hold colons.
        let path = line.splitn(3, ':').nth(2)?;
        // The innermost wins: a container may run in a container, and may make cgroups of its own.
        path.rsplit('/').find_map(id_of_segment)
    })
}

fn id_of_segment(segment: &str) -> Option<String> {
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

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "3f4b0d2c6a17e59388d1c4a7b2f06e5d9c8b7a605142f3e0d1c2b3a495867f6e";

    #[test]
    fn every_engine() {
        let inside = [
            "12:pids:/docker/ID",
            "0::/system.slice/docker-ID.scope",
            "0::/system.slice/docker-ID.scope/init.scope",
            "11:memory:/kubepods/besteffort/pod7d3c5a4e-1a2b-4c3d-8e4f-5a6b7c8d9e0f/ID",
            "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod7d3c_5a4e.slice/cri-containerd-ID.scope",
            "0::/system.slice/containerd.service/kubepods-burstable-pod7d3c.slice:cri-containerd:ID",
            "0::/kubepods.slice/kubepods-pod7d3c.slice/crio-ID.scope",
            "0::/machine.slice/libpod-ID.scope/container",
            "0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope",
            "9:perf_event:/ecs/55091c13b8cf4801b527f8601742204/ID",
            "1:name=systemd:/docker/aaaa0d2c6a17e59388d1c4a7b2f06e5d9c8b7a605142f3e0d1c2b3a495867f6e/docker/ID",
            "0::/../../docker-ID.scope",
        ];
        for line in inside {
            let text = format!("13:cpu:/\n{}\n", line.replace("ID", ID));
            assert_eq!(container_id(&text).as_deref(), Some(ID), "{line}");
        }
        let fargate = "0::/ecs/0123456789abcdef0123456789abcdef/0123456789abcdef0123456789abcdef-2531612879";
        assert_eq!(container_id(fargate).as_deref(), Some("0123456789abcdef0123456789abcdef-2531612879"));
    }

    #[test]
    fn not_a_container() {
        let outside = [
            "0::/",
            "0::/system.slice/sshd.service",
            "0::/user.slice/user-1000.slice/session-2.scope",
            "4:memory:/process_api/7fafbc15f9234f0632c712e6efe75660",
            "0::/machine.slice/libpod-conmon-ID.scope",
            "",
            "no colons at all",
        ];
        for line in outside {
            assert_eq!(container_id(&line.replace("ID", ID)), None, "{line}");
        }
    }
}
