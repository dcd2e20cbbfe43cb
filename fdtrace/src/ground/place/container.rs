//! Containers in a path.

use serde::Serialize;
use strum::Display;

/// What runs a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Display)]
#[strum(serialize_all = "kebab-case")]
#[serde(rename_all = "kebab-case")]
pub enum Runtime {
    /// Docker.
    Docker,
    /// containerd, by itself or for Kubernetes.
    Containerd,
    /// CRI-O, for Kubernetes.
    #[strum(serialize = "cri-o")]
    CriO,
    /// Podman, root's or a user's.
    Podman,
    /// LXC.
    Lxc,
    /// systemd-nspawn.
    Nspawn,
}

/// A container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// 64 hexadecimal digits; a name for LXC and nspawn.
    pub id: String,
    /// What runs it; `None` where the path does not tell.
    pub runtime: Option<Runtime>,
}

/// Longest name of a container without an id (`HOST_NAME_MAX`).
const NAME_MAX: usize = 64;

/// The innermost container that a path leads into.
pub(super) fn innermost(parts: &[&str]) -> Option<Container> {
    (0..parts.len()).rev().find_map(|at| {
        let before = &parts[..at];
        let after = parts.get(at + 1).copied();
        of_part(parts[at], before, after)
    })
}

fn of_part(part: &str, before: &[&str], after: Option<&str>) -> Option<Container> {
    by_id(part, before)
        .or_else(|| lxc(part, before.last().copied()))
        .or_else(|| nspawn(part, after))
}

/// Runtimes that go by ids: `docker-ID.scope` for systemd, `ID` or `crio-ID` in the runtime's own folder
/// otherwise, and `SLICE:cri-containerd:ID` where containerd was not told that the kubelet speaks to systemd.
///
/// conmon, which watches a container from outside, has a cgroup that is called much the same: its prefix
/// ends in `-conmon`, and is none of these.
fn by_id(part: &str, before: &[&str]) -> Option<Container> {
    let stem = part.strip_suffix(".scope").unwrap_or(part);
    let (prefix, id) = match stem.rsplit_once(['-', ':']) {
        Some((prefix, id)) => (Some(prefix), id),
        None => (None, stem),
    };
    let is_id = id.len() == 64
        && id
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if !is_id {
        return None;
    }
    let runtime = match prefix {
        Some(prefix) => Some(of_prefix(prefix)?),
        None => before.iter().rev().find_map(|part| of_folder(part)),
    };
    let id = id.to_owned();
    Some(Container { id, runtime })
}

fn of_prefix(prefix: &str) -> Option<Runtime> {
    match prefix {
        "docker" => Some(Runtime::Docker),
        "cri-containerd" | "nerdctl" => Some(Runtime::Containerd),
        "crio" => Some(Runtime::CriO),
        "libpod" => Some(Runtime::Podman),
        _ if prefix.ends_with(":cri-containerd") => Some(Runtime::Containerd),
        _ if prefix.ends_with(":docker") => Some(Runtime::Docker),
        _ => None,
    }
}

fn of_folder(part: &str) -> Option<Runtime> {
    match part {
        "docker" => Some(Runtime::Docker),
        "libpod_parent" => Some(Runtime::Podman),
        _ => None,
    }
}

/// `lxc.payload.NAME` since LXC 4, `lxc/NAME` before; `lxc.monitor.NAME` is outside.
fn lxc(part: &str, parent: Option<&str>) -> Option<Container> {
    let name = match part.strip_prefix("lxc.payload.") {
        Some(name) => name,
        None if parent == Some("lxc") => part,
        None => return None,
    };
    named(name, Runtime::Lxc)
}

/// `systemd-nspawn@NAME.service`, or `machine-NAME.scope` where it was started by hand; what is in its
/// cgroup `supervisor` is outside. libvirt registers machines too, by `qemu-NUMBER-NAME` or `lxc-PID-NAME`.
fn nspawn(part: &str, after: Option<&str>) -> Option<Container> {
    if after == Some("supervisor") {
        return None;
    }
    let escaped = part
        .strip_prefix("systemd-nspawn@")
        .and_then(|rest| rest.strip_suffix(".service"))
        .or_else(|| part.strip_prefix("machine-")?.strip_suffix(".scope"))?;
    let name = unescape(escaped)?;
    let is_libvirts = ["qemu-", "lxc-"].iter().any(|kind| name.starts_with(kind));
    if is_libvirts && part.starts_with("machine-") {
        return None;
    }
    named(&name, Runtime::Nspawn)
}

/// What such names are made of, so that none of them can lead elsewhere or be taken for an option.
fn named(name: &str, runtime: Runtime) -> Option<Container> {
    let is_valid = !name.is_empty()
        && name.len() <= NAME_MAX
        && !name.starts_with(['.', '-'])
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    let container = || Container {
        id: name.to_owned(),
        runtime: Some(runtime),
    };
    is_valid.then(container)
}

/// Takes systemd's `\x2d` back to `-`; `None` where an escape is no ASCII character.
fn unescape(escaped: &str) -> Option<String> {
    let mut parts = escaped.split("\\x");
    let mut name = parts.next()?.to_owned();
    for part in parts {
        let code = u8::from_str_radix(part.get(..2)?, 16).ok()?;
        name.push(char::from(code.is_ascii_graphic().then_some(code)?));
        name.push_str(&part[2..]);
    }
    Some(name)
}
