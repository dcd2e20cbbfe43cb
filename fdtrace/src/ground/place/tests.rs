use proptest::prelude::*;

use super::*;

const ID: &str = "3f4c0e1b9a7d52f86e3b4c0e1b9a7d52f86e3b4c0e1b9a7d52f86e3b4c0e1b9a";
const INNER: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const POD: &str = "0a1b2c3d-1111-2222-3333-444455556666";
const POD_OF_SLICE: &str = "0a1b2c3d_1111_2222_3333_444455556666";

fn unit(path: &str) -> Option<String> {
    parse(path.as_bytes()).unit
}

/// The container's id and what runs it, in one line.
fn container(path: &str) -> Option<String> {
    let container = parse(path.as_bytes()).container?;
    let runtime = container.runtime.map(|runtime| runtime.to_string());
    Some(format!("{} {}", container.id, runtime.unwrap_or_default()))
}

#[test]
fn units_are_named_as_systemctl_names_them() {
    let is = |path: &str, wanted: &str| assert_eq!(unit(path).as_deref(), Some(wanted), "{path}");
    is("/system.slice/web.service", "web.service");
    is("/system.slice/web.service/worker", "web.service");
    is(
        "/system.slice/system-getty.slice/getty@tty1.service",
        "getty@tty1.service",
    );
    is("/system.slice/web\\x2dold.service", "web\\x2dold.service");
    is("/system.slice/_cpu.service", "cpu.service");
    is("/init.scope", "init.scope");
    is("/web.slice", "web.slice");
    is(
        "/user.slice/user-1000.slice/session-3.scope",
        "session-3.scope",
    );
    is("/system.slice/-.mount", "-.mount");
}

#[test]
fn what_systemd_would_not_write_is_no_unit() {
    for path in [
        "/",
        "",
        "/web",
        "/docker",
        "/system.slice/a b.service",
        "/system.slice/a'b.service",
        "/system.slice/a\nb.service",
        "/system.slice/$(reboot).service",
        "/system.slice/k\u{e4}fer.service",
        "/.service",
        "/@1.service",
        "/web.timer",
    ] {
        assert_eq!(unit(path), None, "{path:?}");
    }
    assert_eq!(parse(b"/system.slice/\xff.service").unit, None);
    let long = format!("/{}.service", "a".repeat(248));
    assert_eq!(unit(&long), None);
}

#[test]
fn users_have_units_and_sessions_of_their_own() {
    let place = parse(b"/user.slice/user-1000.slice/user@1000.service/app.slice/mail.service");
    assert_eq!(place.unit.as_deref(), Some("user@1000.service"));
    assert_eq!(place.user_unit.as_deref(), Some("mail.service"));
    assert_eq!((place.login_uid, place.session), (Some(1000), None));
    let place = parse(b"/user.slice/user-1000.slice/session-c2.scope");
    assert_eq!(place.session.as_deref(), Some("c2"));
    assert_eq!((place.login_uid, place.user_unit), (Some(1000), None));
    // Nobody but logind makes these.
    assert_eq!(parse(b"/session-3.scope").session, None);
}

#[test]
fn containers_of_every_runtime() {
    let is = |path: String, wanted: String| {
        assert_eq!(container(&path).as_deref(), Some(&*wanted), "{path}");
    };
    is(
        format!("/system.slice/docker-{ID}.scope"),
        format!("{ID} docker"),
    );
    is(format!("/docker/{ID}"), format!("{ID} docker"));
    is(format!("/docker/{ID}/init.scope"), format!("{ID} docker"));
    is(format!("/nerdctl-{ID}.scope"), format!("{ID} containerd"));
    is(
        format!("/machine.slice/libpod-{ID}.scope/container"),
        format!("{ID} podman"),
    );
    is(
        format!("/libpod_parent/libpod-{ID}"),
        format!("{ID} podman"),
    );
    is(
        format!("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope"),
        format!("{ID} podman"),
    );
    is(
        "/lxc.payload.web-1/system.slice/ssh.service".into(),
        "web-1 lxc".into(),
    );
    is("/lxc/101/ns/init.scope".into(), "101 lxc".into());
    is(
        "/machine.slice/machine-web\\x2d1.scope/payload/init.scope".into(),
        "web-1 nspawn".into(),
    );
    is(
        "/machine.slice/systemd-nspawn@web.service/payload".into(),
        "web nspawn".into(),
    );
}

#[test]
fn who_watches_from_outside_is_in_no_container() {
    for path in [
        format!("/machine.slice/libpod-conmon-{ID}.scope"),
        format!("/kubepods.slice/crio-conmon-{ID}.scope"),
        "/lxc.monitor.web".to_owned(),
        "/machine.slice/systemd-nspawn@web.service/supervisor".to_owned(),
        "/machine.slice/machine-qemu\\x2d1\\x2dweb.scope".to_owned(),
        format!("/docker/{}", &ID[1..]),
        format!("/docker/{}", ID.to_uppercase()),
        "/lxc/..".to_owned(),
        "/machine.slice/machine-a\\x2fb.scope".to_owned(),
        "/machine.slice/machine-a\\x0ab.scope".to_owned(),
        "/system.slice/docker.service".to_owned(),
    ] {
        assert_eq!(container(&path), None, "{path}");
    }
}

#[test]
fn the_innermost_container_counts() {
    let nested = format!("/system.slice/docker-{ID}.scope/docker/{INNER}");
    assert_eq!(container(&nested), Some(format!("{INNER} docker")));
    let outer = format!("docker-{ID}.scope");
    assert_eq!(unit(&nested), Some(outer));
}

#[test]
fn pods_by_both_drivers_in_every_class() {
    let systemd = |class: &str, below: &str| {
        format!("/kubepods.slice/kubepods{class}-pod{POD_OF_SLICE}.slice/{below}")
    };
    for (path, runtime) in [
        (
            systemd("", &format!("cri-containerd-{ID}.scope")),
            "containerd",
        ),
        (systemd("-burstable", &format!("crio-{ID}.scope")), "cri-o"),
        (
            systemd("-besteffort", &format!("docker-{ID}.scope")),
            "docker",
        ),
        (format!("/kubepods/pod{POD}/{ID}"), ""),
        (format!("/kubepods/burstable/pod{POD}/{ID}"), ""),
        (format!("/kubepods/besteffort/pod{POD}/crio-{ID}"), "cri-o"),
        (
            format!("/system.slice/k3s.service/kubepods/burstable/pod{POD}/{ID}"),
            "",
        ),
        (
            format!(
                "/system.slice/docker-{INNER}.scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{POD_OF_SLICE}.slice/cri-containerd-{ID}.scope"
            ),
            "containerd",
        ),
        (
            format!(
                "/system.slice/containerd.service/kubepods-burstable-pod{POD_OF_SLICE}.slice:cri-containerd:{ID}"
            ),
            "containerd",
        ),
    ] {
        let wanted = format!("{ID} {runtime}");
        assert_eq!(container(&path), Some(wanted), "{path}");
        assert_eq!(parse(path.as_bytes()).pod.as_deref(), Some(POD), "{path}");
    }
    let from_file = "/kubepods/burstable/pod0123456789abcdef0123456789abcdef";
    assert!(parse(from_file.as_bytes()).pod.is_some());
}

#[test]
fn what_only_looks_like_a_pod_is_none() {
    for path in [
        format!("/pod{POD}"),
        format!("/web/pod{POD}"),
        format!("/kubepods/pod{}", &POD[1..]),
        format!("/my-pod{POD_OF_SLICE}.slice"),
        "/kubepods/podman".to_owned(),
    ] {
        assert_eq!(parse(path.as_bytes()).pod, None, "{path}");
    }
}

/// Paths that are nearly right.
fn nearly() -> impl Strategy<Value = Vec<u8>> {
    let part = prop::sample::select(vec![
        "kubepods",
        "kubepods.slice",
        "-pod",
        "pod",
        POD,
        POD_OF_SLICE,
        ".slice",
        ".scope",
        ID,
        "docker",
        "docker-",
        "libpod-",
        ":cri-containerd:",
        "lxc.payload.",
        "lxc",
        "machine-",
        "systemd-nspawn@",
        "\\x2d",
        "\\x",
        "\\xzz",
        "\\x\u{e4}",
        "user@",
        "user-",
        "1000",
        "session-",
        ".service",
        "/",
        "/",
        "/",
        "_",
        "\n",
        "'",
        "\u{202e}",
    ]);
    prop::collection::vec(part, 0..16).prop_map(|parts| parts.concat().into_bytes())
}

proptest! {
    #[test]
    fn whatever_the_path_names_are_harmless(
        path in prop_oneof![nearly(), prop::collection::vec(any::<u8>(), 0..300)]
    ) {
        let place = parse(&path);
        let container = place.container.map(|container| container.id);
        let names = [place.unit, place.user_unit, place.session, container, place.pod];
        for name in names.into_iter().flatten() {
            prop_assert!(!name.is_empty() && name.len() <= 255);
            let is_harmless = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte);
            prop_assert!(name.bytes().all(is_harmless), "{name:?}");
        }
    }
}
