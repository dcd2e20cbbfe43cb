//! The crates in the executable: their licences, and the bill of materials (`CycloneDX`).

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::Release;
use crate::{
    command,
    workspace::{self, STATIC_TARGET},
};

/// A crate.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Component {
    name: String,
    version: String,
    /// An SPDX expression.
    licence: String,
    folder: PathBuf,
}

/// What fdtrace is linked with on the target, its own crates left out, by name.
pub(super) fn of_fdtrace() -> Result<Vec<Component>> {
    let mut cargo = workspace::cargo();
    let tree = command::output(cargo.args([
        "tree",
        "--locked",
        "--package=fdtrace",
        "--edges=normal,no-proc-macro",
        "--prefix=none",
        "--format={p}",
        "--target",
        STATIC_TARGET,
    ]))?;
    let linked: BTreeSet<_> = tree.lines().filter_map(named).collect();
    let mut cargo = workspace::cargo();
    let metadata = command::output(cargo.args(["metadata", "--locked", "--format-version=1"]))?;
    let metadata: Value = serde_json::from_str(&metadata).context("cargo metadata")?;
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let components = packages.filter_map(|package| {
        let text = |field: &str| package[field].as_str().map(str::to_owned);
        let (name, version) = (text("name")?, text("version")?);
        // The workspace's own come from nowhere.
        let is_foreign = package["source"].is_string();
        let is_linked = linked.contains(&(name.clone(), version.clone()));
        (is_foreign && is_linked).then(|| {
            let manifest = PathBuf::from(text("manifest_path").unwrap_or_default());
            Component {
                name,
                version,
                licence: text("license").unwrap_or_default(),
                folder: manifest.parent().unwrap_or(Path::new("")).to_owned(),
            }
        })
    });
    let mut components: Vec<_> = components.collect();
    components.sort_unstable();
    Ok(components)
}

/// `name v1.2.3 (what it comes from)`.
fn named(line: &str) -> Option<(String, String)> {
    let mut words = line.split(' ');
    let (name, version) = (words.next()?, words.next()?);
    Some((name.to_owned(), version.strip_prefix('v')?.to_owned()))
}

/// What the licences ask to be handed on: each text once, below the crates that it is of.
pub(super) fn notices(components: &[Component]) -> Result<String> {
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut notices = "fdtrace contains these crates, under these licences:\n\n".to_owned();
    for component in components {
        let Component {
            name,
            version,
            licence,
            ..
        } = component;
        let _ = writeln!(notices, "{name} {version}: {licence}");
        for text in texts_of(component)? {
            let users = texts.entry(text).or_default();
            users.push(format!("{name} {version}"));
        }
    }
    for (text, users) in texts {
        let line = "-".repeat(78);
        let _ = write!(notices, "\n{line}\n{}\n\n{text}", users.join(", "));
    }
    Ok(notices)
}

fn texts_of(component: &Component) -> Result<Vec<String>> {
    let folder = &component.folder;
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut paths: Vec<_> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_file() && is_notice(path))
        .collect();
    paths.sort_unstable();
    let texts = paths.into_iter().map(|path| {
        let text = fs::read(&path).with_context(|| path.display().to_string())?;
        let text = String::from_utf8_lossy(&text).replace('\r', "");
        Ok(text.trim().to_owned() + "\n")
    });
    texts.collect()
}

fn is_notice(path: &Path) -> bool {
    let name = super::name(path).to_ascii_uppercase();
    [
        "LICENSE",
        "LICENCE",
        "COPYING",
        "NOTICE",
        "COPYRIGHT",
        "UNLICENSE",
    ]
    .iter()
    .any(|beginning| name.starts_with(beginning))
}

/// Writes the bill of materials beside the archive.
pub(super) fn write_bill(release: &Release, folder: &Path) -> Result<PathBuf> {
    let component = |component: &Component| {
        let (name, version) = (&component.name, &component.version);
        json!({
            "type": "library",
            "name": name,
            "version": version,
            "licenses": [{ "expression": component.licence }],
            "purl": format!("pkg:cargo/{name}@{version}"),
        })
    };
    let components: Vec<_> = release.components.iter().map(component).collect();
    let bill = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": { "component": {
            "type": "application",
            "name": "fdtrace",
            "version": release.version,
            "licenses": [{ "expression": "MIT OR Apache-2.0" }],
        }},
        "components": components,
    });
    let path = folder.join(format!("fdtrace-{}.cdx.json", release.version));
    let text = serde_json::to_string_pretty(&bill)? + "\n";
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_cargo_tree_is_a_name_and_a_version() {
        let expected = Some(("aya".to_owned(), "0.14.0".to_owned()));
        assert_eq!(named("aya v0.14.0"), expected);
        assert_eq!(named("aya v0.14.0 (/somewhere)"), expected);
        assert_eq!(named(""), None);
    }

    #[test]
    fn licences_are_allowed_ones() {
        let allowed = |licence: &str| {
            let ways = [
                "MIT",
                "Apache-2.0",
                "BSD-3-Clause",
                "BSD-2-Clause",
                "0BSD",
                "Unlicense",
                "Zlib",
                "ISC",
                "Unicode-3.0",
            ];
            ways.iter().any(|way| licence.contains(way))
        };
        let components = of_fdtrace().unwrap();
        assert!(components.len() > 50, "{}", components.len());
        for component in &components {
            assert!(allowed(&component.licence), "{component:?}");
        }
        assert!(
            !components
                .iter()
                .any(|component| component.name.starts_with("fdtrace"))
        );
    }
}
