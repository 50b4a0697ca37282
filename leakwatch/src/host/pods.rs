//! Names of Kubernetes pods, as the node itself has them, and what can be one of their labels.
//!
//! The kubelet keeps the logs of a pod's containers in `/var/log/pods/NAMESPACE_NAME_UID` (`BuildPodLogsDirectory` in
//! pkg/kubelet/kuberuntime/helpers.go), whatever the engine. So a pod's name is known on its node without asking anybody.
//! Beside it, `/var/log/containers` has a link for each container, `NAME_NAMESPACE_CONTAINER-ID.log` (`legacyLogSymlink` in
//! `legacy.go` there), which names the container, too; one whose name were too long is cut, and not known by it.
//! Names of namespaces, pods and containers hold no `_`. It must never ask over a network, and never believe a name that is none.

use std::path::Path;

use super::root::Root;

/// Where the kubelet keeps the directories.
const LOGS: &str = "/var/log/pods";

/// Where it keeps the links.
const LINKS: &str = "/var/log/containers";

/// Most entries that are looked at; a node has some hundred pods.
const MOST_ENTRIES: usize = 1 << 14;

/// The longest name that Kubernetes allows.
const LONGEST: usize = 253;

/// The longest value of a label, and name of its key.
const LONGEST_VALUE: usize = 63;

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl PodName {
    /// A pod with these names; `None`: one of them is none.
    pub fn of(namespace: &str, name: &str) -> Option<Self> {
        (is_name(namespace) && is_name(name))
            .then(|| Self { namespace: namespace.to_owned(), name: name.to_owned() })
    }
}

/// The pod with this uid; `None`: this is no node of Kubernetes, or it is not there.
pub fn of_uid(root: &Root, uid: &str) -> Option<PodName> {
    root.names(Path::new(LOGS), MOST_ENTRIES).find_map(|name| parse(name.to_str()?, uid))
}

/// The pod of the container with this id, and what its specification calls the container; `None`: this is no node of
/// Kubernetes, or it is not there.
pub fn of_container(root: &Root, id: &str) -> Option<(PodName, String)> {
    let end = format!("-{id}.log");
    root.names(Path::new(LINKS), MOST_ENTRIES).find_map(|link| {
        let mut parts = link.to_str()?.strip_suffix(&end)?.split('_');
        let (name, namespace, container) = (parts.next()?, parts.next()?, parts.next()?);
        let pod = PodName::of(namespace, name).filter(|_| parts.next().is_none() && is_name(container))?;
        Some((pod, container.to_owned()))
    })
}

/// It can be the key of a label: a name, maybe after a domain and a slash (`IsQualifiedName` and `IsValidLabelValue` in
/// apimachinery's pkg/util/validation/validation.go).
pub fn is_label_key(text: &str) -> bool {
    match text.split_once('/') {
        Some((domain, name)) => is_name(domain) && !name.is_empty() && is_label_value(name),
        None => !text.is_empty() && is_label_value(text),
    }
}

/// It can be the value of a label.
pub fn is_label_value(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let ends = [text.bytes().next(), text.bytes().next_back()];
    text.len() <= LONGEST_VALUE
        && text.bytes().all(allowed)
        && ends.into_iter().flatten().all(|byte| byte.is_ascii_alphanumeric())
}

fn parse(directory: &str, uid: &str) -> Option<PodName> {
    let (pod, found) = directory.rsplit_once('_')?;
    // The uid of a static pod has no hyphens in one place and may have them in the other.
    if found.replace('-', "") != uid.replace('-', "") {
        return None;
    }
    let (namespace, name) = pod.split_once('_')?;
    PodName::of(namespace, name)
}

fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
    !text.is_empty() && text.len() <= LONGEST && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const UID: &str = "7d3c5a4e-1a2b-4c3d-8e4f-5a6b7c8d9e0f";

    #[test]
    fn a_pod_is_found_by_its_uid() {
        let dir = tempfile::tempdir().expect("a directory");
        for name in [
            "kube-system_coredns-5d78c9869d-abcde_11111111-1a2b-4c3d-8e4f-5a6b7c8d9e0f",
            "shop_cart-7c9d-x2x4z_7d3c5a4e-1a2b-4c3d-8e4f-5a6b7c8d9e0f",
            "no underscore",
        ] {
            fs::create_dir_all(dir.path().join("var/log/pods").join(name)).expect("made");
        }
        let root = Root::at(dir.path()).expect("a root");
        let pod = PodName { namespace: "shop".to_owned(), name: "cart-7c9d-x2x4z".to_owned() };
        assert_eq!(of_uid(&root, UID), Some(pod));
        assert_eq!(of_uid(&root, "99999999-1a2b-4c3d-8e4f-5a6b7c8d9e0f"), None);
        fs::remove_dir_all(dir.path().join("var")).expect("removed");
        assert_eq!(of_uid(&root, UID), None);
    }

    #[test]
    fn a_container_is_found_by_its_id() {
        let id = "3f4b0d2c6a17e59388d1c4a7b2f06e5d9c8b7a605142f3e0d1c2b3a495867f6e";
        let dir = tempfile::tempdir().expect("a directory");
        let links = dir.path().join("var/log/containers");
        fs::create_dir_all(&links).expect("made");
        let root = Root::at(dir.path()).expect("a root");
        for odd in ["a_b_c_d", "a_b", "A_b_c", "a_b_c\n"] {
            fs::write(links.join(format!("{odd}-{id}.log")), "").expect("written");
        }
        fs::write(links.join(format!("other-0_shop_cart-{}.log", id.replace('3', "4"))), "")
            .expect("written");
        assert_eq!(of_container(&root, id), None);
        fs::write(links.join(format!("cart-7c9d-x2x4z_shop_side-car-{id}.log")), "").expect("written");
        let pod = PodName { namespace: "shop".to_owned(), name: "cart-7c9d-x2x4z".to_owned() };
        assert_eq!(of_container(&root, id), Some((pod, "side-car".to_owned())));
    }

    #[test]
    fn labels_are_as_kubernetes_takes_them() {
        for key in ["app", "app.kubernetes.io/name", "a/B_c.d-1", "pod-template-hash"] {
            assert!(is_label_key(key), "{key}");
        }
        for odd in ["", "/", "a/", "/a", "a/b/c", "-a", "a.", "a b", "A.io/é", "a=b", &"a".repeat(64)] {
            assert!(!is_label_key(odd), "{odd}");
        }
        assert!(is_label_value("") && is_label_value("v1.2-RC_3") && is_label_value(&"a".repeat(63)));
        assert!(!is_label_value("a/b") && !is_label_value("-") && !is_label_value(&"a".repeat(64)));
    }

    #[test]
    fn what_is_no_name_is_not_believed() {
        for odd in ["a b_c_", "_name_", "ns__", "ns_na\nme_", "NS_name_"] {
            assert_eq!(parse(&format!("{odd}{UID}"), UID), None, "{odd:?}");
        }
    }
}
