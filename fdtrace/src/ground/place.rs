//! Where a process belongs, read off its cgroup v2 path: unit, session, container, pod. Pure.
//!
//! Whoever owns a part of the hierarchy chooses the names in it, so a path proves nothing: it tells where a
//! process says that it belongs. What no service manager or runtime would write is taken for nothing.

mod container;
mod unit;

use self::unit::Unit;
pub use self::{container::Container, container::Runtime, unit::is_valid as is_valid_unit};

/// Where a process belongs. Names hold printable ASCII only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The unit of the host's systemd, as systemctl names it; a slice where there is nothing nearer.
    pub unit: Option<String>,
    /// The unit of a user's own systemd, below `user@UID.service`.
    pub user_unit: Option<String>,
    /// The login session, as loginctl names it.
    pub session: Option<String>,
    /// The user whose slice it is, which is who has logged in.
    pub login_uid: Option<u32>,
    /// The innermost container.
    pub container: Option<Container>,
    /// The uid of the innermost Kubernetes pod, with dashes.
    pub pod: Option<String>,
}

/// Paths are shorter than the kernel's `PATH_MAX`; what is deeper than this is nobody's real place.
const DEPTH_MAX: usize = 128;

/// Reads a path as /proc/PID/cgroup has it for the v2 hierarchy.
#[must_use]
pub fn parse(path: &[u8]) -> Place {
    let parts: Vec<&str> = path
        .split(|byte| *byte == b'/')
        .filter(|part| !part.is_empty())
        // A name that is no UTF-8 stays in its place, as one that means nothing.
        .map(|part| std::str::from_utf8(part).unwrap_or("?"))
        .take(DEPTH_MAX)
        .collect();
    let unit::Units {
        system,
        user,
        session,
        login_uid,
    } = unit::units(&parts);
    Place {
        unit: system.map(Unit::into_name),
        user_unit: user.map(Unit::into_name),
        session,
        login_uid,
        container: container::innermost(&parts),
        pod: pod(&parts),
    }
}

/// The uid of the innermost pod.
///
/// The kubelet writes `kubepods[-burstable|-besteffort]-podUID.slice` for systemd, with underscores for the
/// dashes of the uid, and `kubepods[/burstable|/besteffort]/podUID` otherwise; `--cgroup-root` goes before.
/// A containerd that was not told of systemd writes the slice before two colons, into one name.
fn pod(parts: &[&str]) -> Option<String> {
    let of = |(at, part): (usize, &&str)| {
        let part = part.split(':').next().unwrap_or(part);
        if let Some(slice) = part.strip_suffix(".slice") {
            let (before, uid) = slice.rsplit_once("-pod")?;
            let below = before
                .strip_suffix("-burstable")
                .or_else(|| before.strip_suffix("-besteffort"))
                .unwrap_or(before);
            let is_kubelets = below == "kubepods" || below.ends_with("-kubepods");
            return is_kubelets
                .then(|| pod_uid(&uid.replace('_', "-")))
                .flatten();
        }
        let uid = part.strip_prefix("pod")?;
        let is_kubelets = parts[..at]
            .iter()
            .rev()
            .take(2)
            .any(|part| *part == "kubepods");
        is_kubelets.then(|| pod_uid(uid)).flatten()
    };
    parts.iter().enumerate().rev().find_map(of)
}

/// A UUID, or the hash that a pod from a file on the node has for one.
fn pod_uid(text: &str) -> Option<String> {
    const DASHES: [usize; 4] = [8, 13, 18, 23];
    let is_uuid = text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| {
            if DASHES.contains(&at) {
                byte == b'-'
            } else {
                byte.is_ascii_hexdigit()
            }
        });
    let is_hash = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    (is_uuid || is_hash).then(|| text.to_owned())
}

#[cfg(test)]
mod tests;
