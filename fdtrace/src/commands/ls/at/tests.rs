use std::{fs::File, os::unix::net::UnixListener};

use fdtrace_common::file::FileRecord;
use zerocopy::FromZeros;

use super::*;

/// A folder of its own, removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let name = format!("fdtrace-at-{}-{test}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(folder.join("sub")).unwrap();
        // As the kernel calls it.
        Self(folder.canonicalize().unwrap())
    }

    fn file(&self, name: &str) -> File {
        File::create(self.0.join(name)).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A file of this process as the iterator shows it.
fn open_file(file: &impl AsRawFd) -> OpenFile {
    let fd = file.as_raw_fd();
    let link = format!("/proc/self/fd/{fd}");
    let path = fs::read_link(&link).unwrap();
    let at = At::new(Path::new(&link)).unwrap();
    let pid = std::process::id();
    let record = FileRecord {
        tgid: pid,
        tid: pid,
        fd: fd.unsigned_abs(),
        inode: at.inode,
        device: at.device.0 << 20 | at.device.1,
        mode: 0o100_644,
        links: 1,
        ..FileRecord::new_zeroed()
    };
    OpenFile::new(&record, path.as_os_str().as_bytes())
}

fn has(path: &Path, file: &OpenFile) -> bool {
    At::new(path).unwrap().has(file)
}

#[test]
fn a_file_is_found_by_each_of_its_names() {
    let folder = Folder::new("names");
    let file = folder.file("held");
    let held = open_file(&file);
    let linked = folder.0.join("linked");
    fs::hard_link(folder.0.join("held"), &linked).unwrap();
    let symbolic = folder.0.join("symbolic");
    std::os::unix::fs::symlink("held", &symbolic).unwrap();
    assert!(has(&linked, &held) && has(&symbolic, &held));
    folder.file("other");
    assert!(!has(&folder.0.join("other"), &held));
}

#[test]
fn a_name_is_not_enough() {
    let folder = Folder::new("same-name");
    let file = folder.file("held");
    let held = open_file(&file);
    let path = folder.0.join("held");
    // Another file has come to its name.
    fs::remove_file(&path).unwrap();
    folder.file("held");
    assert!(!has(&path, &held));
    // Of another device, which is not mounted there: as in another mount namespace.
    let elsewhere = OpenFile {
        device: (held.device.0 + 1, 7),
        ..held.clone()
    };
    assert!(has(&folder.0, &held) && !has(&folder.0, &elsewhere));
}

#[test]
fn below_a_directory_is_what_is_there_and_not_what_begins_alike() {
    let folder = Folder::new("below");
    let (inside, beside) = (folder.file("sub/x"), folder.file("sub2"));
    let (inside, beside) = (open_file(&inside), open_file(&beside));
    let sub = folder.0.join("sub");
    assert!(has(&sub, &inside) && !has(&sub, &beside));
    assert!(has(&folder.0, &inside) && has(&folder.0, &beside));
    let directory = open_file(&File::open(&sub).unwrap());
    assert!(has(&sub, &directory), "the directory itself");
}

#[test]
fn a_unix_socket_is_found_by_what_it_is_bound_to() {
    let folder = Folder::new("socket");
    let path = folder.0.join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let bound = OpenFile {
        kind: Kind::Unix,
        target: path.as_os_str().as_bytes().to_vec(),
        ..open_file(&folder.file("x"))
    };
    assert!(has(&path, &bound) && has(&folder.0, &bound));
    assert!(!has(&folder.0.join("x"), &bound));
    drop(listener);
}

#[test]
fn what_is_not_there_is_an_error_that_names_it() {
    let error = At::new(Path::new("/no/such/file")).err().unwrap();
    let text = format!("{error:#}");
    assert!(text.contains("/no/such/file"), "{text}");
}
