//! One command on one stock kernel, in a virtual machine that lives only for it.

mod accelerator;
mod initramfs;
mod machine;

use std::{
    fmt::Write as _,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

pub(crate) use self::{accelerator::Accelerator, machine::End};
use crate::{kernel::Kernel, workspace};

const INIT: &str = include_str!("vm/init.sh");
const BUSYBOX: &str = "/bin/busybox";

/// What to boot and what to do there.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) kernel: Kernel,
    /// The command and its arguments; no shell looks at them.
    pub(crate) command: Vec<String>,
    /// The command's environment, beside PATH and HOME.
    pub(crate) environment: Vec<(String, String)>,
    /// What is copied into the guest, executable: where from and where to.
    pub(crate) files: Vec<(PathBuf, PathBuf)>,
    /// As QEMU spells it.
    pub(crate) memory: String,
    pub(crate) accelerator: Accelerator,
    /// What the kernel is told beside what every guest's is.
    pub(crate) kernel_arguments: &'static [&'static str],
    /// A guest that takes longer has failed.
    pub(crate) limit: Duration,
    /// Whether the command sees a terminal or a pipe.
    pub(crate) terminal: bool,
}

impl Request {
    /// A guest that fits most commands.
    pub(crate) fn new(kernel: Kernel, command: Vec<String>) -> Self {
        Self {
            kernel,
            command,
            environment: Vec::new(),
            files: Vec::new(),
            memory: "1G".to_owned(),
            accelerator: Accelerator::Tcg,
            kernel_arguments: &[],
            limit: Duration::from_mins(10),
            terminal: false,
        }
    }
}

/// How it went.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) end: End,
    /// What the kernel printed.
    pub(crate) console: String,
    /// The guest got as far as the command.
    pub(crate) has_booted: bool,
}

impl Outcome {
    /// The command's exit status. Any other end is an error with the console in it.
    pub(crate) fn status(self) -> Result<u8> {
        if let End::Exited(status) = self.end {
            return Ok(status);
        }
        let what = self.end.in_words();
        bail!(
            "{what}\n--- its console ---\n{}\n--- end of its console ---",
            self.console.trim_end()
        )
    }
}

/// Boots, runs the command, and hands its output on while it runs.
pub(crate) fn run(request: &Request, output: &mut dyn Write) -> Result<Outcome> {
    let image = request.kernel.need_image()?;
    let folder = Folder::create(request.kernel)?;
    let archive = folder.0.join("initramfs");
    write_initramfs(request, &archive)?;
    let accelerator = request.accelerator.verified(&image);
    for _ in 1..BOOTS {
        let outcome = machine::run(request, accelerator, &image, &folder.0, output)?;
        if outcome.has_booted || matches!(outcome.end, End::TimedOut(_)) {
            return Ok(outcome);
        }
        eprintln!(
            "xtask: kernel {} did not boot, once more: {}",
            request.kernel,
            outcome.end.in_words()
        );
    }
    machine::run(request, accelerator, &image, &folder.0, output)
}

/// Boots that are tried at most. About one in a hundred fails under emulation while the kernel patches
/// its own code (int3 at 1.2 s), before there is any process; from the command on nothing is repeated.
const BOOTS: u32 = 3;

fn write_initramfs(request: &Request, path: &Path) -> Result<()> {
    let mut archive = initramfs::Initramfs::create(path)?;
    archive
        .copy(Path::new(BUSYBOX), Path::new(BUSYBOX))
        .context("run `cargo xtask setup`")?;
    archive.script("/init", INIT)?;
    archive.text("/command", &script(request))?;
    archive.text(
        "/etc/passwd",
        "root::0:0::/root:/bin/sh\nnobody::65534:65534::/:/bin/sh\n",
    )?;
    archive.text("/etc/group", "root::0:\nnogroup::65534:\n")?;
    archive.text("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n")?;
    if request.terminal {
        archive.text("/terminal", "")?;
    }
    for (host, guest) in &request.files {
        archive.copy(host, guest)?;
    }
    archive.finish()
}

/// The command as a shell script that changes nothing about it.
fn script(request: &Request) -> String {
    let mut script = String::new();
    for (name, value) in &request.environment {
        let _ = writeln!(script, "export {name}={}", quoted(value));
    }
    for (index, word) in request.command.iter().enumerate() {
        let separator = if index == 0 { "" } else { " " };
        let _ = write!(script, "{separator}{}", quoted(word));
    }
    script.push('\n');
    script
}

fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// A machine's files, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn create(kernel: Kernel) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{kernel}-{}-{number}", process::id());
        let path = workspace::target().join("vm").join(name);
        fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed lies in the target folder and harms nobody.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_reach_the_guest_as_they_were_typed() {
        let command = ["sh", "-c", "echo 'a  b' $HOME", ""]
            .map(String::from)
            .to_vec();
        let mut request = Request::new(Kernel::V6_1, command);
        request
            .environment
            .push(("NAME".to_owned(), "it's".to_owned()));
        assert_eq!(
            script(&request),
            "export NAME='it'\\''s'\n'sh' '-c' 'echo '\\''a  b'\\'' $HOME' ''\n"
        );
    }
}
