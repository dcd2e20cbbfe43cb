//! Where a process belongs, in words.

use super::sanitize::printable;
use crate::{
    enrich::names::Named,
    ground::place::{self, Container},
};

/// The nearest that has a name; the cgroup itself where there is none. `None` for the root cgroup.
pub(super) fn words(cgroup: &[u8], named: &Named) -> Option<String> {
    let place = place::parse(cgroup);
    let container = place.container.as_ref();
    let container = container.map(|container| container_words(container, named));
    let pod = place
        .pod
        .as_ref()
        .map(|uid| match (&named.namespace, &named.pod) {
            (Some(namespace), Some(pod)) => {
                format!("pod {}", printable(format!("{namespace}/{pod}").as_bytes()))
            }
            _ => format!("pod {uid}"),
        });
    let words: Vec<_> = container.into_iter().chain(pod).collect();
    if !words.is_empty() {
        return Some(words.join(", "));
    }
    // Names of units are printable, and may hold backslashes, which systemctl wants as they are.
    let of_uid = place
        .login_uid
        .map(|uid| format!(" of uid {uid}"))
        .unwrap_or_default();
    if let Some(session) = &place.session {
        Some(format!("session {session}{of_uid}"))
    } else if let Some(unit) = &place.user_unit {
        Some(format!("unit {unit}{of_uid}"))
    } else if let Some(unit) = &place.unit {
        Some(format!("unit {unit}"))
    } else {
        (cgroup != b"/").then(|| format!("cgroup {}", printable(cgroup)))
    }
}

/// By name, else by enough of the id to tell it from others, which is what the runtimes show too.
fn container_words(container: &Container, named: &Named) -> String {
    let short = container.id.get(..12).filter(|_| container.id.len() == 64);
    let id = short.unwrap_or(&container.id);
    let name = named.container.as_deref().unwrap_or(id);
    let runtime = container.runtime.map(|runtime| format!(" ({runtime})"));
    let name = printable(name.as_bytes());
    format!("container {name}{}", runtime.unwrap_or_default())
}
