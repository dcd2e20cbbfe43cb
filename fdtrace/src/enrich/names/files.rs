//! The files in which runtimes keep names.

use std::{fs, path::Path};

use serde::{Deserialize, de::DeserializeOwned};

use super::Named;
use crate::{
    enrich::regular::Regular,
    ground::place::{Place, Runtime},
};

/// No file of a runtime is larger: a container's is some ten KB, podman's one for all some hundred.
const FILE_MAX: u64 = 4 << 20;
/// Entries of a folder that are looked at.
const ENTRIES_MAX: usize = 4_096;

/// Pods and containers are looked for where the kubelet keeps their logs, then with the runtime.
pub(super) fn look(root: &Path, place: &Place) -> Named {
    let mut named = Named::default();
    if let Some(uid) = &place.pod {
        named = by_log(root, uid, place);
    }
    if let Some(container) = &place.container
        && named.container.is_none()
    {
        named.container = match container.runtime {
            // They go by names.
            Some(Runtime::Lxc | Runtime::Nspawn) => Some(container.id.clone()),
            Some(Runtime::Docker) => docker(root, &container.id),
            Some(Runtime::Podman | Runtime::CriO) => storage(root, &container.id),
            Some(Runtime::Containerd) => containerd(root, &container.id),
            None => docker(root, &container.id).or_else(|| containerd(root, &container.id)),
        };
    }
    named
}

/// `/var/log/pods/NAMESPACE_NAME_UID` and `/var/log/containers/NAME_NAMESPACE_CONTAINER-ID.log`.
fn by_log(root: &Path, uid: &str, place: &Place) -> Named {
    let mut named = Named::default();
    let end = format!("_{uid}");
    let pod = entry(&root.join("var/log/pods"), &end);
    if let Some((namespace, name)) = pod.as_deref().and_then(|entry| entry.split_once('_')) {
        (named.namespace, named.pod) = (Some(namespace.to_owned()), Some(name.to_owned()));
    }
    if let Some(container) = &place.container {
        let end = format!("-{}.log", container.id);
        let log = entry(&root.join("var/log/containers"), &end);
        let name = log
            .as_deref()
            .and_then(|entry| Some(entry.rsplit_once('_')?.1));
        named.container = name.map(str::to_owned);
    }
    named
}

/// The entry of a folder that ends so, without the end.
fn entry(folder: &Path, end: &str) -> Option<String> {
    let entries = fs::read_dir(folder).ok()?.take(ENTRIES_MAX);
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names
        .into_iter()
        .find_map(|name| name.strip_suffix(end).map(str::to_owned))
}

/// Docker's own file of a container; its name begins with a slash.
fn docker(root: &Path, id: &str) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Config {
        name: String,
    }
    let path = format!("var/lib/docker/containers/{id}/config.v2.json");
    let config: Config = read(&root.join(path))?;
    let name = config.name.strip_prefix('/').unwrap_or(&config.name);
    some(name)
}

/// containers/storage, which podman and CRI-O share: one file for those that outlive a boot, one for the
/// others. Users' own podmen keep theirs at home, which is not looked into.
fn storage(root: &Path, id: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Container {
        id: String,
        #[serde(default)]
        names: Option<Vec<String>>,
    }
    let folder = root.join("var/lib/containers/storage/overlay-containers");
    ["containers.json", "volatile-containers.json"]
        .iter()
        .find_map(|file| {
            let containers: Vec<Container> = read(&folder.join(file))?;
            let container = containers
                .into_iter()
                .find(|container| container.id == id)?;
            some(container.names?.first()?)
        })
}

/// The specification that containerd has run the container by; who has asked for it leaves its names there.
fn containerd(root: &Path, id: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Specification {
        #[serde(default)]
        annotations: std::collections::HashMap<String, String>,
    }
    const NAMES: [&str; 2] = ["io.kubernetes.cri.container-name", "nerdctl/name"];
    ["k8s.io", "default"].iter().find_map(|namespace| {
        let task = "run/containerd/io.containerd.runtime.v2.task";
        let path = format!("{task}/{namespace}/{id}/config.json");
        let specification: Specification = read(&root.join(path))?;
        let name = NAMES
            .iter()
            .find_map(|name| specification.annotations.get(*name))?;
        some(name)
    })
}

fn some(name: &str) -> Option<String> {
    (!name.is_empty()).then(|| name.to_owned())
}

/// A regular file of reasonable size.
fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    let text = Regular::find(path).ok()?.read(FILE_MAX).ok()?;
    serde_json::from_slice(&text).ok()
}
