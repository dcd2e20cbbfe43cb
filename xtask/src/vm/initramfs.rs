//! The guest's file system: an archive that the kernel unpacks into memory.

use std::{
    fs::{self, File},
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use cpio::newc::{self, ModeFileType};

const EXECUTABLE: u32 = 0o755;
const PLAIN: u32 = 0o644;

/// An archive under construction.
#[derive(Debug)]
pub(crate) struct Initramfs {
    path: PathBuf,
    file: BufWriter<File>,
    inode: u32,
    folders: Vec<PathBuf>,
}

impl Initramfs {
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let file =
            File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self {
            path: path.to_owned(),
            file: BufWriter::new(file),
            inode: 0,
            folders: Vec::new(),
        })
    }

    /// A file of the host, executable in the guest.
    pub(crate) fn copy(&mut self, host: &Path, guest: &Path) -> Result<()> {
        let bytes = fs::read(host).with_context(|| format!("cannot read {}", host.display()))?;
        self.add(guest, ModeFileType::Regular, EXECUTABLE, &bytes)
    }

    /// A file with this text.
    pub(crate) fn text(&mut self, guest: &str, text: &str) -> Result<()> {
        self.add(
            Path::new(guest),
            ModeFileType::Regular,
            PLAIN,
            text.as_bytes(),
        )
    }

    /// A program with this text.
    pub(crate) fn script(&mut self, guest: &str, text: &str) -> Result<()> {
        self.add(
            Path::new(guest),
            ModeFileType::Regular,
            EXECUTABLE,
            text.as_bytes(),
        )
    }

    /// Writes what is still in memory.
    pub(crate) fn finish(self) -> Result<()> {
        let written = newc::trailer(self.file).and_then(|mut file| file.flush());
        written.with_context(|| format!("cannot write {}", self.path.display()))
    }

    fn add(&mut self, guest: &Path, kind: ModeFileType, mode: u32, bytes: &[u8]) -> Result<()> {
        let guest = guest.strip_prefix("/").unwrap_or(guest);
        self.parents(guest)?;
        let name = guest.to_str().context("a guest's file names are UTF-8")?;
        let size = u32::try_from(bytes.len()).with_context(|| format!("{name} is too large"))?;
        self.inode += 1;
        let entry = newc::Builder::new(name)
            .ino(self.inode)
            .mode(mode)
            .set_mode_file_type(kind);
        let mut entry = entry.write(&mut self.file, size);
        let written = entry
            .write_all(bytes)
            .and_then(|()| entry.finish().map(drop));
        written.with_context(|| format!("cannot write {}", self.path.display()))
    }

    /// The kernel makes no folder that is not in the archive.
    fn parents(&mut self, guest: &Path) -> Result<()> {
        let Some(parent) = guest
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
        else {
            return Ok(());
        };
        if self.folders.iter().any(|folder| folder == parent) {
            return Ok(());
        }
        self.folders.push(parent.to_owned());
        self.add(parent, ModeFileType::Directory, EXECUTABLE, &[])
    }
}
