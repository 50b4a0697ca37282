//! Files as engines leave them. Those of docker (20.10.24), podman (4.3.1) and of a bundle without annotations (containerd
//! 1.6.20, ctr) are cut from real ones; annotations of Kubernetes' containers are as the engines' sources set them, named in
//! the modules beside this.

use std::{fs, path::Path};

use super::*;

const ID: &str = "759fb0ae6a7bb70d421634f2b8a79758ee324872cd00d5d7701c589a95398f23";
const OTHER: &str = "ab2c067d04572fcd82d330a58e8c738778c159d023a4d44b2a26abe85607d499";
const UID: &str = "7d3c5a4e-1a2b-4c3d-8e4f-5a6b7c8d9e0f";

const DOCKER: &str = r#"{"StreamConfig":{},"State":{"Running":true,"Pid":32267,"Health":null},"ID":"OWN","Created":"2026-11-22T05:53:41Z",
"Managed":false,"Path":"/truth","Args":[],"Config":{"Hostname":"ab2c067d0457","User":"","Env":["PATH=/bin"],"Cmd":["/truth"],
"Image":"shop/truth:1.27","Volumes":null,"Labels":{"maintainer":"shop"}},"Image":"sha256:85b4fd39850dc555eb3304901825f86a",
"NetworkSettings":{"Bridge":""},"LogPath":"","Name":"/cart","Driver":"overlay2","OS":"linux","RestartCount":0}"#;

const DOCKER_IN_POD: &str = r#"{"ID":"OWN","Config":{"Image":"sha256:85b4fd39850dc555eb3304901825f86a","Labels":{
"io.kubernetes.container.name":"cart","io.kubernetes.docker.type":"container","io.kubernetes.pod.name":"cart-7c9d-x2x4z",
"io.kubernetes.pod.namespace":"shop","io.kubernetes.pod.uid":"UID","io.kubernetes.sandbox.id":"OTHER"}},"Name":"/k8s_cart_cart-7c9d-x2x4z_shop_UID_0"}"#;

const CTR: &str = r#"{"ociVersion":"1.0.2-dev","process":{"args":["/truth"],"cwd":"/"},"root":{"path":"rootfs"},"mounts":[],
"linux":{"cgroupsPath":"/default/OWN"}}"#;

const CRI: &str = r#"{"ociVersion":"1.0.2-dev","process":{"args":["/cart"]},"annotations":{
"io.kubernetes.cri.container-name":"cart","io.kubernetes.cri.container-type":"container",
"io.kubernetes.cri.image-name":"docker.io/library/nginx:1.27","io.kubernetes.cri.sandbox-id":"OTHER",
"io.kubernetes.cri.sandbox-name":"cart-7c9d-x2x4z","io.kubernetes.cri.sandbox-namespace":"shop",
"io.kubernetes.cri.sandbox-uid":"UID"}}"#;

const CRI_O: &str = r#"{"ociVersion":"1.0.2-dev","annotations":{"io.container.manager":"cri-o",
"io.kubernetes.container.name":"cart","io.kubernetes.cri-o.ContainerType":"container","io.kubernetes.cri-o.Image":"85b4fd39850d",
"io.kubernetes.cri-o.ImageName":"quay.io/shop/cart:2","io.kubernetes.cri-o.ImageRef":"85b4fd39850d",
"io.kubernetes.cri-o.Name":"k8s_cart_cart-7c9d-x2x4z_shop_UID_0","io.kubernetes.cri-o.SandboxID":"OTHER",
"io.kubernetes.cri-o.Labels":"{\"io.kubernetes.container.name\":\"cart\"}","io.kubernetes.pod.name":"cart-7c9d-x2x4z",
"io.kubernetes.pod.namespace":"shop","io.kubernetes.pod.uid":"UID"}}"#;

/// What the sandboxes of these keep of their pod: its labels, and what the kubelet and they themselves add.
const DOCKER_SANDBOX: &str = r#"{"ID":"OTHER","Config":{"Image":"registry.k8s.io/pause:3.9","Labels":{"app":"web",
"app.kubernetes.io/name":"shop","annotation.kubernetes.io/config.source":"api","annotation.odd":"a b",
"io.kubernetes.container.name":"POD","io.kubernetes.docker.type":"podsandbox","io.kubernetes.pod.name":"cart-7c9d-x2x4z",
"io.kubernetes.pod.namespace":"shop","io.kubernetes.pod.uid":"UID"}},"Name":"/k8s_POD_cart-7c9d-x2x4z_shop_UID_0"}"#;

const CRI_O_SANDBOX: &str = r#"{"ociVersion":"1.0.2-dev","annotations":{"io.kubernetes.cri-o.ContainerType":"sandbox",
"io.kubernetes.cri-o.Labels":"{\"app\":\"web\",\"app.kubernetes.io/name\":\"shop\",\"io.kubernetes.container.name\":\"POD\",\"io.kubernetes.pod.uid\":\"UID\"}",
"io.kubernetes.cri-o.SandboxID":"OTHER"}}"#;

const CRI_SANDBOX: &str = r#"{"Version":"v1","Metadata":{"ID":"OTHER","Name":"cart-7c9d-x2x4z_shop_UID_0","Config":{"metadata":
{"name":"cart-7c9d-x2x4z","uid":"UID","namespace":"shop"},"log_directory":"/var/log/pods/shop_cart-7c9d-x2x4z_UID","labels":
{"app":"web","app.kubernetes.io/name":"shop","odd key":"x","odd":"a\nb","io.kubernetes.pod.name":"cart-7c9d-x2x4z"},
"linux":{"cgroup_parent":"/kubepods/burstable/podUID"}},"NetNSPath":"","IP":"","RuntimeHandler":""}}"#;

const PODMAN: &str = r#"{"ociVersion":"1.0.2-dev","annotations":{"io.container.manager":"libpod",
"io.kubernetes.cri-o.Created":"2026-11-22T05:51:55Z","io.kubernetes.cri-o.TTY":"false","io.podman.annotations.autoremove":"TRUE"}}"#;

const LIST: &str = r#"[{"id":"OTHER","names":["other"],"image":"61a7","layer":"b138","metadata":"{\"image-name\":\"other:1\"}"},
{"id":"OWN","names":["cart"],"image":"61a77b3ba901","layer":"b13852d41a89",
"metadata":"{\"image-name\":\"localhost/shop/truth:1.27\",\"image-id\":\"61a77b3ba901\",\"name\":\"cart\",\"created-at\":1795326715}",
"created":"2026-11-22T05:51:55Z","flags":{"MountLabel":"","ProcessLabel":"","Volatile":true}}]"#;

/// A root with these files in it.
fn root(files: &[(&str, &str)]) -> (tempfile::TempDir, Root) {
    let named = |text: &str| text.replace("OTHER", OTHER).replace("UID", UID).replace("OWN", ID);
    let folder = tempfile::tempdir().expect("a folder");
    for (path, text) in files {
        let path = folder.path().join(named(path));
        fs::create_dir_all(path.parent().expect("in a folder")).expect("made");
        fs::write(path, named(text)).expect("written");
    }
    let root = Root::at(folder.path()).expect("a root");
    (folder, root)
}

fn found(files: &[(&str, &str)]) -> Option<Container> {
    container(&root(files).1, ID, &|| None)
}

fn of(engine: Engine, name: &str, image: &str) -> Container {
    Container { name: Some(name.to_owned()), image: Some(image.to_owned()), ..unnamed(engine) }
}

fn unnamed(engine: Engine) -> Container {
    Container { engine, name: None, image: None, pod: None, pod_uid: None, sandbox: None }
}

fn in_pod(container: Container, kept: Kept) -> Container {
    let sandbox = Sandbox::new(Some(OTHER.to_owned()), kept);
    Container {
        pod: PodName::of("shop", "cart-7c9d-x2x4z"),
        pod_uid: Some(UID.to_owned()),
        sandbox,
        ..container
    }
}

#[test]
fn each_engine_is_found_where_it_keeps_things() {
    let docker = "var/lib/docker/containers/OWN/config.v2.json";
    let tasks = "run/containerd/io.containerd.runtime.v2.task";
    let store = "var/lib/containers/storage/overlay-containers";
    let (bundle, list) = (format!("{store}/OWN/userdata/config.json"), format!("{store}/containers.json"));
    assert_eq!(found(&[(docker, DOCKER)]), Some(of(Engine::Docker, "cart", "shop/truth:1.27")));
    let image = "sha256:85b4fd39850dc555eb3304901825f86a";
    let by_docker = in_pod(of(Engine::Docker, "cart", image), Kept::Docker("/var/lib/docker".into()));
    assert_eq!(found(&[(docker, DOCKER_IN_POD)]), Some(by_docker));
    let by_containerd = |home| {
        let kept = Kept::Containerd(&containerd::HOMES[home], "k8s.io".to_owned());
        Some(in_pod(of(Engine::Containerd, "cart", "nginx:1.27"), kept))
    };
    assert_eq!(found(&[(&format!("{tasks}/k8s.io/OWN/config.json"), CRI)]), by_containerd(0));
    let k3s = "run/k3s/containerd/io.containerd.runtime.v2.task/k8s.io/OWN/config.json";
    assert_eq!(found(&[(k3s, CRI)]), by_containerd(1));
    let unnamed = |engine| Some(unnamed(engine));
    assert_eq!(found(&[(&format!("{tasks}/default/OWN/config.json"), CTR)]), unnamed(Engine::Containerd));
    assert_eq!(found(&[(&format!("{tasks}/moby/OWN/config.json"), CTR)]), unnamed(Engine::Docker));
    let by_crio = of(Engine::CriO, "cart", "quay.io/shop/cart:2");
    let by_crio = in_pod(by_crio, Kept::Storage("/var/lib/containers/storage".into()));
    assert_eq!(found(&[(&bundle, CRI_O)]), Some(by_crio));
    let podman = of(Engine::Podman, "cart", "localhost/shop/truth:1.27");
    assert_eq!(found(&[(&bundle, PODMAN), (&list, LIST)]), Some(podman.clone()));
    let volatile = format!("{store}/volatile-containers.json");
    assert_eq!(found(&[(&bundle, PODMAN), (&list, "[]"), (&volatile, LIST)]), Some(podman));
    assert_eq!(found(&[(&bundle, PODMAN)]), unnamed(Engine::Podman));
    assert_eq!(found(&[]), None);
}

/// The labels of its pod.
fn labels_of(root: &Root, upper: Upper<'_>) -> Option<Labels> {
    labels(root, &container(root, ID, upper)?.sandbox?, upper)
}

#[test]
fn the_labels_of_a_pod_are_with_its_sandbox() {
    let pod = BTreeMap::from([("app", "web"), ("app.kubernetes.io/name", "shop")]);
    let pod: Option<Labels> =
        Some(pod.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect());
    let check = |files: &[(&str, &str)], expect: &Option<Labels>| {
        assert_eq!(labels_of(&root(files).1, &|| None), *expect, "{:?}", files[0].0);
    };
    let docker = ("var/lib/docker/containers/OWN/config.v2.json", DOCKER_IN_POD);
    check(&[docker, ("var/lib/docker/containers/OTHER/config.v2.json", DOCKER_SANDBOX)], &pod);
    check(&[docker], &None);
    let store = "var/lib/containers/storage/overlay-containers";
    let [own, sandbox] = ["OWN", "OTHER"].map(|id| format!("{store}/{id}/userdata/config.json"));
    check(&[(&own, CRI_O), (&sandbox, CRI_O_SANDBOX)], &pod);
    check(&[(&own, CRI_O)], &None);
}

#[test]
fn containerd_has_labels_and_images_in_its_database() {
    let task = "run/containerd/io.containerd.runtime.v2.task";
    let (in_pod, by_ctr) =
        (format!("{task}/k8s.io/OWN/config.json"), format!("{task}/default/OWN/config.json"));
    let kept =
        |path: &[&str], value: Vec<u8>| bolt::tests::database(&bolt::tests::Node::at(path, value), 4, 9);
    let sandbox = CRI_SANDBOX.replace("OTHER", OTHER).replace("UID", UID);
    let mut any = vec![0x0a, 1, b't', 0x12];
    prost::encode_length_delimiter(sandbox.len(), &mut any).expect("room");
    any.extend(sandbox.into_bytes());
    let of_pod = ["v1", "k8s.io", "containers", OTHER, "extensions", "io.cri-containerd.sandbox.metadata"];
    let of_pod = kept(&of_pod, any);
    let of_ctr = kept(&["v1", "default", "containers", ID, "image"], b"docker.io/library/redis:7".to_vec());
    for (data, upper) in [
        ("var/lib/containerd", None),
        ("data/containerd", Some("/data/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/7/fs")),
    ] {
        let upper = || upper.map(PathBuf::from);
        let (folder, root) = root(&[(&in_pod, CRI)]);
        assert_eq!(labels_of(&root, &upper), None, "no database");
        let database = folder.path().join(data).join("io.containerd.metadata.v1.bolt/meta.db");
        fs::create_dir_all(database.parent().expect("in a folder")).expect("made");
        fs::write(&database, &of_pod).expect("written");
        let labels = labels_of(&root, &upper).expect("its labels");
        assert_eq!(
            labels.into_iter().collect::<Vec<_>>(),
            [("app".to_owned(), "web".to_owned()), ("app.kubernetes.io/name".to_owned(), "shop".to_owned())]
        );
        fs::write(&database, "damaged").expect("written");
        assert_eq!(labels_of(&root, &upper), None);
    }
    let (folder, root) = root(&[(&by_ctr, CTR)]);
    let database = folder.path().join("var/lib/containerd/io.containerd.metadata.v1.bolt/meta.db");
    fs::create_dir_all(database.parent().expect("in a folder")).expect("made");
    fs::write(&database, &of_ctr).expect("written");
    let redis = Container { image: Some("redis:7".to_owned()), ..unnamed(Engine::Containerd) };
    assert_eq!(container(&root, ID, &|| None), Some(redis));
}

#[test]
fn a_store_that_was_moved_is_found_by_the_layer_of_the_root() {
    let home = "home/shop/.local/share/containers/storage/overlay-containers";
    let (_folder, rootless) = root(&[
        (&format!("{home}/OWN/userdata/config.json"), PODMAN),
        (&format!("{home}/containers.json"), LIST),
    ]);
    let upper =
        || Some(PathBuf::from("/home/shop/.local/share/containers/storage/overlay/b13852d41a89/diff"));
    let podman = of(Engine::Podman, "cart", "localhost/shop/truth:1.27");
    assert_eq!(container(&rootless, ID, &upper), Some(podman));
    let (_folder, moved) = root(&[("data/docker/containers/OWN/config.v2.json", DOCKER)]);
    let upper = || Some(PathBuf::from("/data/docker/overlay2/fc32b5450526/diff"));
    assert_eq!(container(&moved, ID, &upper), Some(of(Engine::Docker, "cart", "shop/truth:1.27")));
    assert_eq!(container(&moved, ID, &|| Some(PathBuf::from("/"))), None);
}

#[test]
fn what_is_none_is_not_believed() {
    let docker = "var/lib/docker/containers/OWN/config.v2.json";
    for damaged in ["", "{", "[]", "7", "null", r#"{"Name":7}"#, &"[".repeat(100_000)] {
        assert_eq!(found(&[(docker, damaged)]), None, "{damaged:.20}");
    }
    let hostile = r#"{"Name":"/a\nb","Config":{"Image":"<script>","Labels":{"io.kubernetes.pod.name":"A B",
                      "io.kubernetes.pod.namespace":"shop","io.kubernetes.pod.uid":"../../etc"}}}"#;
    assert_eq!(found(&[(docker, hostile)]), Some(unnamed(Engine::Docker)));
    let (folder, root) = root(&[(docker, DOCKER)]);
    assert_eq!(container(&root, &format!("../containers/{ID}"), &|| None), None);
    fs::write(folder.path().join(docker.replace("OWN", ID)), vec![b' '; 5 << 20]).expect("written");
    assert_eq!(container(&root, ID, &|| None), None, "larger than any is");
}

#[test]
fn images_are_called_as_users_call_them() {
    let check = |text: &str, expect: Option<&str>| assert_eq!(image(text).as_deref(), expect, "{text:?}");
    check("docker.io/library/nginx:1.27", Some("nginx:1.27"));
    check("docker.io/bitnami/redis:7.4", Some("bitnami/redis:7.4"));
    check("nginx", Some("nginx"));
    check("localhost:5000/library/nginx:1", Some("localhost:5000/library/nginx:1"));
    check("registry.example/a/b@sha256:0123", Some("registry.example/a/b@sha256:0123"));
    check("", None);
    check("docker.io/", None);
    check("nginx 1", None);
    check(&"n".repeat(521), None);
}

#[test]
fn the_layer_of_a_root() {
    let upper = |text: &str| upper_layer(text).map(|path| path.display().to_string());
    let podman = "77 50 0:40 / / rw,relatime - overlay overlay rw,lowerdir=/s/overlay/l/PB7U,upperdir=/s/overlay/b138/diff,\
                  workdir=/s/overlay/b138/work,uuid=on,fsync=volatile\n78 77 0:43 / /proc rw - proc proc rw\n";
    assert_eq!(upper(podman).as_deref(), Some("/s/overlay/b138/diff"));
    let docker = "76 50 0:39 / / rw,relatime master:3 - overlay overlay rw,lowerdir=/d/l/F:/d/l/E,upperdir=/d/o/x/diff\n";
    assert_eq!(upper(docker).as_deref(), Some("/d/o/x/diff"));
    let none = [
        "",
        "22 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard\n",
        "22 1 254:0 / / rw - overlay overlay rw,lowerdir=/a,upperdir=relative/diff\n",
        "22 1 254:0 / / rw - overlay overlay rw,lowerdir=/a,upperdir=/a\\040b/o/x/diff\n",
        "22 1 254:0 / / rw - overlay overlay ro,lowerdir=/a\n",
        "22 1 254:0 / /mnt rw - overlay overlay rw,upperdir=/d/o/x/diff\n",
        "22 1 254:0 / / rw overlay\n",
    ];
    for text in none {
        assert_eq!(upper(text), None, "{text}");
    }
    assert!(Path::new("/d/o/x/diff").ancestors().nth(3) == Some(Path::new("/d")));
}

#[test]
fn an_id_of_somebodys_choice_is_one_where_containerd_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let bundle = |namespace: &str, id: &str, group: &str| {
        let bundle =
            folder.path().join("run/containerd/io.containerd.runtime.v2.task").join(namespace).join(id);
        fs::create_dir_all(&bundle).expect("made");
        let text = format!(r#"{{"ociVersion":"1.1","linux":{{"cgroupsPath":"{group}"}}}}"#);
        fs::write(bundle.join("config.json"), text).expect("written");
    };
    bundle("default", "my.cart_1", "/default/my.cart_1");
    bundle("other", "my.cart_1", "/other/my.cart_1");
    bundle("default", "elsewhere", "/system.slice/elsewhere");
    bundle("default", "nginx.service", "/default/nginx.service");
    let root = Root::at(folder.path()).expect("a root");
    for namespace in ["default", "other"] {
        let found = of_group(&root, &format!("/{namespace}/my.cart_1")).expect("it is one");
        assert_eq!((found.id.as_str(), found.namespace.as_str()), ("my.cart_1", namespace));
        let known = container_in_namespace(&root, &found, &|| None).expect("it is known");
        assert_eq!(known.engine, Engine::Containerd);
    }
    for below in ["/default/my.cart_1/worker", "/../../default/my.cart_1"] {
        assert!(of_group(&root, below).is_some(), "{below}");
    }
    for none in [
        "/",
        "",
        "/default",
        "/default/",
        "/default/other",
        "/default/elsewhere",
        "/default/nginx.service",
        "/default/..",
        "/../my.cart_1",
        "/user.slice/default/my.cart_1",
        "/default//my.cart_1",
        "/system.slice/my.cart_1",
    ] {
        assert_eq!(of_group(&root, none), None, "{none}");
    }
}
