//! The emulator that guests run in.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use anyhow::{Context as _, Result};

use crate::{command, workspace};

/// Before this version, QEMU's threads translate code that another one is changing, and keep what they have read
/// half changed. A kernel that puts a probe into its code or takes one away then dies of an int3 that nobody
/// expects, calls address 0, or hangs (mended by "accel/tcg: Always lock pages before translation").
const SOUND: Version = Version(8, 1);

/// The release whose own QEMU is older, and that has a newer one for those who ask.
pub(crate) const BACKPORTS: (&str, &str) = ("bookworm", "bookworm-backports");

/// The emulator, and what it starts a machine with.
pub(crate) const PACKAGES: [&str; 3] = ["qemu-system-x86", "qemu-system-data", "seabios"];

/// Its major and minor version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(u32, u32);

impl Version {
    /// Of "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)".
    fn parse(text: &str) -> Option<Self> {
        let (_, version) = text.split_once("version ")?;
        let mut parts = version.split(|character: char| !character.is_ascii_digit());
        Some(Self(
            parts.next()?.parse().ok()?,
            parts.next()?.parse().ok()?,
        ))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.0, self.1)
    }
}

/// A QEMU for x86-64.
#[derive(Debug)]
pub(crate) struct Emulator {
    program: PathBuf,
    firmware: Vec<PathBuf>,
    version: Version,
}

impl Emulator {
    /// The one to use: the machine's, or the newer one that setup has unpacked.
    pub(crate) fn get() -> Result<&'static Self> {
        static EMULATOR: OnceLock<Emulator> = OnceLock::new();
        if let Some(emulator) = EMULATOR.get() {
            return Ok(emulator);
        }
        let found = Self::find().context("cannot start QEMU: run `cargo xtask setup`")?;
        Ok(EMULATOR.get_or_init(|| {
            if !found.has_sound_threads() {
                eprintln!(
                    "xtask: QEMU {} runs both processors of a guest in one thread: with two, its \
                     kernel may die when a probe comes or goes (mended in QEMU 8.1)",
                    found.version
                );
            }
            found
        }))
    }

    pub(crate) const fn version(&self) -> Version {
        self.version
    }

    /// Is it new enough for a thread for each processor?
    pub(crate) fn has_sound_threads(&self) -> bool {
        self.version >= SOUND
    }

    /// A command that starts it.
    ///
    /// However xtask ends, the machine does not outlive it.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(&self.program);
        for folder in &self.firmware {
            command.arg("-L").arg(folder);
        }
        command
    }

    fn find() -> Result<Self> {
        let machines = Self::new(PathBuf::from("qemu-system-x86_64"), Vec::new());
        if machines.as_ref().is_ok_and(Self::has_sound_threads) {
            return machines;
        }
        Self::unpacked(&folder()?).or(machines)
    }

    /// Of packages unpacked into a folder.
    fn unpacked(folder: &Path) -> Result<Self> {
        let share = folder.join("usr/share");
        Self::new(
            folder.join("usr/bin/qemu-system-x86_64"),
            vec![share.join("qemu"), share.join("seabios")],
        )
    }

    fn new(program: PathBuf, firmware: Vec<PathBuf>) -> Result<Self> {
        let text = command::output(Command::new(&program).arg("--version"))?;
        let version = Version::parse(&text)
            .with_context(|| format!("{} tells no version", program.display()))?;
        Ok(Self {
            program,
            firmware,
            version,
        })
    }
}

/// Has this release a newer one than is here?
pub(crate) fn is_wanted() -> bool {
    is_from(BACKPORTS.0) && !Emulator::find().is_ok_and(|emulator| emulator.has_sound_threads())
}

/// Where a newer one is unpacked, outside the repository so that every checkout shares it.
pub(crate) fn folder() -> Result<PathBuf> {
    Ok(workspace::cache()?.join("emulator"))
}

fn is_from(release: &str) -> bool {
    let text = fs::read_to_string("/etc/os-release").unwrap_or_default();
    text.lines()
        .any(|line| line.strip_prefix("VERSION_CODENAME=") == Some(release))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        let debian =
            "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)\nCopyright (c)";
        assert_eq!(Version::parse(debian), Some(Version(7, 2)));
        assert_eq!(
            Version::parse("QEMU emulator version 10.0.2"),
            Some(Version(10, 0))
        );
        assert_eq!(Version::parse("QEMU emulator version 9"), None);
        assert_eq!(Version::parse(""), None);
        assert!(Version(10, 0) > SOUND && Version(8, 0) < SOUND);
    }
}
