//! QEMU: its arguments, its three serial ports, and the watch over it.

use std::{
    fs::{self, File},
    io::{Read as _, Write},
    path::Path,
    process::{Child, ChildStdout, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::{Accelerator, Outcome, Request};
use crate::emulator::Emulator;

/// A warning of the kernel's is level 4, which `quiet` would hide. A panic or an oops ends the
/// machine at once. A host with other things to do starves the guest, which is no lockup of it.
const KERNEL_ARGUMENTS: &str = "console=ttyS0 loglevel=5 panic=-1 oops=panic nowatchdog";

/// What a kernel says when something is wrong with it.
const FAULTS: [&str; 5] = [
    "Kernel panic",
    "Oops",
    "BUG:",
    "WARNING:",
    "general protection fault",
];

/// What a program can have a kernel say, whoever watches it: before tables of files had a largest size (`alloc_fdtable` in
/// fs/file.c; Debian 11's 5.10 has none), one of more than `INT_MAX` bytes was asked for, and warned of. The scenario
/// `f_dupfd_far` does.
const NO_FAULT: &str = "at mm/util.c:";

/// How often the console and the time are looked at.
const GLANCE: Duration = Duration::from_millis(100);

/// How long the kernel has, after the command's end, to complain about what that left behind.
const AFTERMATH: Duration = Duration::from_millis(300);

/// How a machine came to its end.
#[derive(Debug)]
pub(crate) enum End {
    /// The command ended with this exit status.
    Exited(u8),
    /// The kernel printed this line.
    Fault(String),
    /// It was stopped after that long.
    TimedOut(Duration),
    /// It stopped by itself. What QEMU said.
    Died(String),
}

impl End {
    pub(super) fn in_words(&self) -> String {
        match self {
            Self::Exited(status) => format!("the command ended with status {status}"),
            Self::Fault(line) => format!("the guest's kernel complained: {line}"),
            Self::TimedOut(limit) => format!("the guest was not done after {} s", limit.as_secs()),
            Self::Died(qemu) => format!("the guest ended without an exit status. {qemu}"),
        }
    }
}

/// Boots, hands the command's output on, and waits for an end of one kind or another.
pub(super) fn run(
    request: &Request,
    accelerator: Accelerator,
    image: &Path,
    folder: &Path,
    output: &mut dyn Write,
) -> Result<Outcome> {
    let mut qemu = qemu(request, accelerator, image, folder)?;
    let chunks = read(qemu.stdout.take().context("QEMU has no standard output")?);
    let end = watch(request, &chunks, folder, output);
    // It may be gone already.
    let _ = qemu.kill();
    qemu.wait().context("cannot wait for QEMU")?;
    let end = end?;
    for chunk in chunks {
        hand_on(output, &chunk)?;
    }
    let console = text(folder, "console");
    let end = match fault(&console) {
        Some(line) => End::Fault(line),
        None => end,
    };
    let has_booted = has_booted(&text(folder, "status"));
    Ok(Outcome {
        end,
        console,
        has_booted,
    })
}

/// Has the guest's first process got as far as the command?
fn has_booted(status: &str) -> bool {
    status.lines().any(|line| line.trim_end() == "ready")
}

fn qemu(request: &Request, accelerator: Accelerator, image: &Path, folder: &Path) -> Result<Child> {
    let messages = File::create(folder.join("qemu")).context("cannot create QEMU's log")?;
    let emulator = Emulator::get()?;
    let mut command = emulator.command();
    command
        .args(accelerator.arguments(emulator))
        .args(["-m", &request.memory]);
    command.args([
        "-nodefaults",
        "-no-reboot",
        "-display",
        "none",
        "-nic",
        "none",
    ]);
    for port in [
        serial_file(folder, "console"),
        "stdio".into(),
        serial_file(folder, "status"),
    ] {
        command.args(["-serial", &port]);
    }
    command
        .arg("-kernel")
        .arg(image)
        .arg("-initrd")
        .arg(folder.join("initramfs"));
    let arguments = [&[KERNEL_ARGUMENTS], request.kernel_arguments].concat();
    command.args(["-append", &arguments.join(" ")]);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(messages);
    command.spawn().context("cannot start QEMU")
}

fn serial_file(folder: &Path, name: &str) -> String {
    // A comma would start an option of QEMU's.
    format!(
        "file:{}",
        folder.join(name).display().to_string().replace(',', ",,")
    )
}

/// The command's output, read by a thread so that nobody waits for it beyond the time limit.
fn read(mut stdout: ChildStdout) -> Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut buffer = [0; 16 * 1024];
        while let Ok(size @ 1..) = stdout.read(&mut buffer) {
            if sender.send(buffer[..size].to_vec()).is_err() {
                break;
            }
        }
    });
    receiver
}

fn watch(
    request: &Request,
    chunks: &Receiver<Vec<u8>>,
    folder: &Path,
    output: &mut dyn Write,
) -> Result<End> {
    let deadline = Instant::now() + request.limit;
    loop {
        match chunks.recv_timeout(GLANCE) {
            Ok(chunk) => hand_on(output, &chunk)?,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                // Where sleeping takes no time, it ends as soon as it has told the status.
                let status = exit_status(&text(folder, "status"));
                return Ok(status.map_or_else(|| End::Died(text(folder, "qemu")), End::Exited));
            }
        }
        if let Some(status) = exit_status(&text(folder, "status")) {
            thread::sleep(AFTERMATH);
            return Ok(End::Exited(status));
        }
        if Instant::now() >= deadline {
            return Ok(End::TimedOut(request.limit));
        }
    }
}

fn hand_on(output: &mut dyn Write, chunk: &[u8]) -> Result<()> {
    output
        .write_all(chunk)
        .and_then(|()| output.flush())
        .context("cannot hand the output on")
}

fn text(folder: &Path, name: &str) -> String {
    // QEMU creates these; before it has, there is nothing to read.
    let bytes = fs::read(folder.join(name)).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn exit_status(said: &str) -> Option<u8> {
    let complete = said.strip_suffix('\n')?;
    complete
        .lines()
        .find_map(|line| line.strip_prefix("exit "))?
        .trim()
        .parse()
        .ok()
}

fn fault(console: &str) -> Option<String> {
    let line = console
        .lines()
        .filter(|line| !(line.contains("WARNING:") && line.contains(NO_FAULT)))
        .find(|line| FAULTS.iter().any(|fault| line.contains(fault)))?;
    Some(line.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernels_warning_is_a_fault_unless_any_program_can_cause_it() {
        let of_size = "[ 14.5] WARNING: CPU: 0 PID: 193 at mm/util.c:618 kvmalloc_node+0x88/0xa0";
        assert_eq!(fault(of_size), None);
        let other = "[ 15.0] WARNING: CPU: 0 PID: 7 at kernel/bpf/ringbuf.c:1 x+0x1/0x2";
        assert_eq!(
            fault(&format!("{of_size}\n{other}\n")).as_deref(),
            Some(other)
        );
        assert_eq!(
            fault("BUG: at mm/util.c:1").as_deref(),
            Some("BUG: at mm/util.c:1")
        );
    }

    #[test]
    fn exit_status_is_taken_from_a_whole_line() {
        assert_eq!(exit_status("ready\nexit 12\n"), Some(12));
        assert_eq!(exit_status("ready\nexit 1"), None);
        assert_eq!(exit_status("ready\n"), None);
    }

    #[test]
    fn a_guest_has_booted_when_it_says_so() {
        assert!(has_booted("ready\r\n"));
        assert!(!has_booted(""));
    }

    #[test]
    fn first_complaint_of_the_kernel_is_found() {
        let console =
            "[    0.1] clocksource: jiffies\r\n[    2.5] BUG: unable to handle\r\n[ 3] Oops\r\n";
        assert_eq!(
            fault(console).as_deref(),
            Some("[    2.5] BUG: unable to handle")
        );
        assert_eq!(fault("[    0.1] debug: all well\n"), None);
    }
}
