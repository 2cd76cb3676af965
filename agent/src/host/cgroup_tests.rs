//! Paths as container runtimes, Kubernetes and systemd write them.

use super::*;

const ID: &str = "3f4dbc9ba1f2c1b7a3c1a9ee9d1b54d6a1f4d0a6a9c7e6d5b4c3b2a1908f7e6d";
const POD: &str = "471203d1-984f-477e-9c35-db96487ffe5e";
const POD_UNDERSCORED: &str = "471203d1_984f_477e_9c35_db96487ffe5e";

/// `path` with `ID`, `POD` and `POD_` filled in; what it must say.
fn check(path: &str, container: bool, unit: Option<&str>, pod: bool) {
    let path = path.replace("{ID}", ID).replace("{POD}", POD).replace("{POD_}", POD_UNDERSCORED);
    let place = Place::of_path(&path);
    let expect = Place {
        path: path.clone(),
        container_id: container.then(|| ID.to_owned()),
        unit: unit.map(str::to_owned),
        pod_uid: pod.then(|| POD.to_owned()),
    };
    assert_eq!(place, expect);
}

#[test]
fn layouts() {
    // Docker, drivers cgroupfs and systemd; in a unit's slice (`--cgroup-parent`); rootless.
    check("/docker/{ID}", true, None, false);
    check("/system.slice/docker-{ID}.scope", true, None, false);
    check("/inference.slice/docker-{ID}.scope", true, None, false);
    check("/user.slice/user-1000.slice/user@1000.service/user.slice/docker-{ID}.scope", true, None, false);
    // containerd by `ctr`, by nerdctl.
    check("/default/{ID}", true, None, false);
    check("/system.slice/nerdctl-{ID}.scope", true, None, false);
    // Podman, rootful with its inner group, rootless.
    check("/machine.slice/libpod-{ID}.scope/container", true, None, false);
    check("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope/container", true, None, false);
    check("/libpod_parent/libpod-{ID}", true, None, false);
    // Kubernetes, driver systemd: containerd, CRI-O, cri-dockerd; of each class of service.
    check(
        "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{POD_}.slice/cri-containerd-{ID}.scope",
        true,
        None,
        true,
    );
    check(
        "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{POD_}.slice/crio-{ID}.scope",
        true,
        None,
        true,
    );
    check("/kubepods.slice/kubepods-pod{POD_}.slice/docker-{ID}.scope", true, None, true);
    // CRI-O may leave the container's group empty of processes and run them below it.
    check("/kubepods.slice/kubepods-pod{POD_}.slice/crio-{ID}.scope/container", true, None, true);
    // A systemd path in the hands of runc's driver cgroupfs: one segment, with colons.
    check("/system.slice/containerd.service/kubepods-burstable-pod{POD_}.slice:cri-containerd:{ID}", true, None, true);
    // Kubernetes, driver cgroupfs.
    check("/kubepods/burstable/pod{POD}/{ID}", true, None, true);
    check("/kubepods/besteffort/pod{POD}/{ID}", true, None, true);
    check("/kubepods/pod{POD}/{ID}", true, None, true);
    // kind: a node that is itself a container.
    check(
        "/docker/{ID}/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-pod{POD_}.slice/cri-containerd-{ID}.scope",
        true,
        None,
        true,
    );
    // The pod's own group (its pause container's parent).
    check("/kubepods.slice/kubepods-pod{POD_}.slice", false, None, true);
    // systemd.
    check("/system.slice/ollama.service", false, Some("ollama.service"), false);
    check("/system.slice/system-vllm.slice/vllm@llama.service", false, Some("vllm@llama.service"), false);
    check("/system.slice/run-u12.scope", false, Some("run-u12.scope"), false);
    check("/system.slice/ollama.service/payload", false, Some("ollama.service"), false);
    // A user's own service, a desktop application, a login.
    check(
        "/user.slice/user-1000.slice/user@1000.service/app.slice/lmstudio.service",
        false,
        Some("lmstudio.service"),
        false,
    );
    check(
        "/user.slice/user-1000.slice/user@1000.service/app.slice/app-gnome-lmstudio-4711.scope",
        false,
        Some("app-gnome-lmstudio-4711.scope"),
        false,
    );
    check("/user.slice/user-1000.slice/session-3.scope", false, None, false);
    check("/user.slice/user-1000.slice/user@1000.service/init.scope", false, None, false);
    check("/user.slice/user-1000.slice/user@1000.service/app.slice/vte-spawn-0a1b.scope", false, None, false);
    // A batch system's; nothing at all.
    check("/slurm/uid_1000/job_77/step_0", false, None, false);
    check("/", false, None, false);
}

#[test]
fn nothing_else_is_a_pod() {
    for path in [
        "/kubepods.slice",
        "/kubepods.slice/kubepods-burstable.slice",
        "/kubepods/podcast/x",
        "/machine.slice/pod471203d1-984f-477e-9c35-db96487ffe5e",
        "/kubepods/podé71203d1-984f-477e-9c35-db96487ffe5e",
    ] {
        assert_eq!(Place::of_path(path).pod_uid, None, "{path}");
    }
    // A pod from a file on the node has the digest of its manifest for a uid.
    let of_file = Place::of_path("/kubepods/burstable/pod0123456789abcdef0123456789abcdef");
    assert_eq!(of_file.pod_uid.as_deref(), Some("0123456789abcdef0123456789abcdef"));
}

#[test]
fn the_path_is_that_of_the_first_hierarchy_that_says_more_than_the_root() {
    let path = |text: &str| Place::of_text(text).map(|place| place.path);
    assert_eq!(path("0::/system.slice/ollama.service\n").as_deref(), Some("/system.slice/ollama.service"));
    // Hybrid: version 2 says nothing, or says the unit.
    let hybrid = "12:cpu,cpuacct:/docker/c\n4:memory:/docker/m\n1:name=systemd:/docker/s\n0::/\n";
    assert_eq!(path(hybrid).as_deref(), Some("/docker/c"));
    assert_eq!(path("12:cpu:/c\n0::/system.slice/a.service\n").as_deref(), Some("/system.slice/a.service"));
    // `cpuacct` and `cpuset` are not `cpu`.
    assert_eq!(path("2:cpuacct:/a\n3:cpuset:/b\n1:cpu:/\n4:memory:/m\n").as_deref(), Some("/m"));
    assert_eq!(path("9:name=systemd:/s\n4:memory:/\n1:cpu:/\n").as_deref(), Some("/s"));
    assert_eq!(path("1:cpu:/\n0::/\n").as_deref(), Some("/"));
    // A path with a colon in it; lines that are none.
    assert_eq!(path("1:cpu:/a:b\n").as_deref(), Some("/a:b"));
    assert_eq!(path("\nx\n1:cpu:relative\n8:pids:/p\n"), None);
}

#[test]
fn a_shared_group_says_nothing_of_who_belongs_together() {
    for shared in [
        "/",
        "",
        "/user.slice",
        "/system.slice",
        "/user.slice/user-1000.slice/session-3.scope",
        "/init.scope",
        "/user.slice/user-1000.slice/user@1000.service",
        "/user.slice/user-1000.slice/user@1000.service/app.slice/vte-spawn-0a1b.scope",
    ] {
        assert!(is_shared(shared), "{shared}");
    }
    let pod = format!("/kubepods.slice/kubepods-pod{POD_UNDERSCORED}.slice");
    for own in ["/system.slice/ollama.service", "/docker/x", "/slurm/uid_1/job_2", pod.as_str()] {
        assert!(!is_shared(own), "{own}");
    }
}
