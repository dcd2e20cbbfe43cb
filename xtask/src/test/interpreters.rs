//! Python and Node for a guest, as far as they are installed here and the tests' scripts need them.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{bench::peers::with_libraries, command, workspace};

/// What their packages call them; a guest has them at the same place.
const PYTHON: &str = "/usr/bin/python3";
const NODE: &str = "/usr/bin/node";

/// Where the tests' scripts are in a guest.
const SCRIPTS: &str = "/interpreters";

/// Imports what the scripts import and does what they do, and tells which files that took.
const MODULES: &str = r#"
import asyncio, contextlib, errno, json, multiprocessing, os, resource, socket, sqlite3, subprocess, sys, tempfile
import threading, time, urllib.error, urllib.request
multiprocessing.Pipe()
subprocess.run(["true"], stdout=subprocess.PIPE)
tempfile.TemporaryFile()
tempfile.TemporaryDirectory().cleanup()
asyncio.new_event_loop().run_until_complete(asyncio.sleep(0))
sqlite3.connect(":memory:")
try:
    urllib.request.build_opener(urllib.request.ProxyHandler({})).open("http://127.0.0.1:1/")
except urllib.error.URLError:
    pass
asyncio.new_event_loop().close()
for module in list(sys.modules.values()):
    if getattr(module, "__file__", None):
        print(module.__file__, getattr(module, "__cached__", None) or "-")
"#;

/// Files for a guest, by their place in it: what is not here is not there.
pub(crate) fn files() -> Result<BTreeMap<PathBuf, PathBuf>> {
    let mut files = BTreeMap::new();
    if Path::new(PYTHON).exists() {
        add(&mut files, PYTHON)?;
        for module in modules()? {
            match module {
                Module::Text { compiled, place } => drop(files.insert(place, compiled)),
                Module::Library(path) => add(&mut files, &path)?,
            }
        }
    }
    if Path::new(NODE).exists() {
        add(&mut files, NODE)?;
    }
    let scripts = workspace::root().join("fdtrace/tests/kernel/languages");
    let entries = fs::read_dir(&scripts).with_context(|| scripts.display().to_string())?;
    for entry in entries {
        let entry = entry?;
        files.insert(Path::new(SCRIPTS).join(entry.file_name()), entry.path());
    }
    Ok(files)
}

/// A program or a library, with what it is linked with.
fn add(files: &mut BTreeMap<PathBuf, PathBuf>, path: &str) -> Result<()> {
    let linked = with_libraries(Path::new(path))?;
    files.extend(linked.into_iter().map(|path| (path.clone(), path)));
    Ok(())
}

/// A module of Python's.
#[derive(Debug, PartialEq, Eq)]
enum Module {
    /// Compiled, and the place where it is found without its source: a guest's files have no times that
    /// one could be compared with.
    Text {
        compiled: PathBuf,
        place: PathBuf,
    },
    Library(String),
}

fn modules() -> Result<Vec<Module>> {
    // Without what this machine adds to Python (`site`).
    let told = command::output(Command::new(PYTHON).args(["-S", "-c", MODULES]))?;
    let modules = told.lines().filter_map(|line| line.split_once(' '));
    Ok(modules.map(|(file, cached)| module(file, cached)).collect())
}

fn module(file: &str, cached: &str) -> Module {
    if Path::new(file).extension() == Some("so".as_ref()) {
        return Module::Library(file.to_owned());
    }
    let has_compiled = Path::new(cached).exists();
    Module::Text {
        compiled: if has_compiled { cached } else { file }.into(),
        place: if has_compiled {
            Path::new(file).with_extension("pyc")
        } else {
            file.into()
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_taken_compiled_where_they_are() {
        let compiled = std::env::current_exe().unwrap();
        let cached = compiled.to_str().unwrap();
        let expected = Module::Text {
            compiled: compiled.clone(),
            place: "/lib/os.pyc".into(),
        };
        assert_eq!(module("/lib/os.py", cached), expected);
        let expected = Module::Text {
            compiled: "/lib/os.py".into(),
            place: "/lib/os.py".into(),
        };
        assert_eq!(module("/lib/os.py", "-"), expected);
        let expected = Module::Library("/lib/_ssl.so".to_owned());
        assert_eq!(module("/lib/_ssl.so", "-"), expected);
    }
}
