//! Container ids from control group paths.

/// The container id in a control group path: the last run of 64 hexadecimal digits that stands alone between
/// separators, which is how Docker, containerd, CRI-O and Podman name their groups under both control group
/// versions and both drivers.
pub fn id_of(cgroup_path: &str) -> Option<&str> {
    cgroup_path
        .rsplit(['/', '-', '.', ':'])
        .find(|part| part.len() == 64 && part.bytes().all(|b| b.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "3f4dbc9ba1f2c1b7a3c1a9ee9d1b54d6a1f4d0a6a9c7e6d5b4c3b2a1908f7e6d";

    #[test]
    fn knows_the_usual_layouts() {
        for path in [
            format!("/docker/{ID}"),
            format!("/system.slice/docker-{ID}.scope"),
            format!(
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1a2b.slice/cri-containerd-{ID}.scope"
            ),
            format!("/kubepods/besteffort/pod0a1b/{ID}"),
            format!("/machine.slice/libpod-{ID}.scope/container"),
        ] {
            assert_eq!(id_of(&path), Some(ID), "{path}");
        }
    }

    #[test]
    fn a_service_is_no_container() {
        assert_eq!(id_of("/system.slice/nginx.service"), None);
        assert_eq!(id_of("/"), None);
    }
}
