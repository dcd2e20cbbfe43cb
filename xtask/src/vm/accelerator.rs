//! How QEMU runs the guest's instructions.

use std::{
    io::Read as _,
    path::Path,
    process::Stdio,
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use clap::ValueEnum;

use crate::emulator::Emulator;

/// Time for a kernel under KVM to find out that it has no file system. It takes one second.
const PATIENCE: Duration = Duration::from_secs(20);

/// Who executes the guest's code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Accelerator {
    /// QEMU's emulation: works everywhere
    Tcg,
    /// The processor: fast, where it works
    Kvm,
    /// QEMU's emulation of one processor, by whose clock each instruction takes a nanosecond
    Counted,
}

impl Accelerator {
    pub(super) fn arguments(self, emulator: &Emulator) -> &'static [&'static str] {
        match self {
            Self::Tcg if emulator.has_sound_threads() => &[
                "-accel",
                "tcg,thread=multi",
                "-cpu",
                "max,-cx16",
                "-smp",
                "2",
            ],
            Self::Tcg => &[
                "-accel",
                "tcg,thread=single",
                "-cpu",
                "max,-cx16",
                "-smp",
                "2",
            ],
            Self::Kvm => &["-accel", "kvm", "-cpu", "host", "-smp", "2"],
            // Time that the guest sleeps passes at once, and counting needs a single thread.
            Self::Counted => &[
                "-accel",
                "tcg,thread=single",
                "-icount",
                "shift=0,sleep=off",
                "-cpu",
                "max,-cx16",
                "-smp",
                "1",
            ],
        }
    }

    /// KVM only where a kernel has booted with it: a device node that is there proves little.
    pub(super) fn verified(self, image: &Path) -> Self {
        static KVM_WORKS: OnceLock<bool> = OnceLock::new();
        if self == Self::Kvm && !*KVM_WORKS.get_or_init(|| boots(image)) {
            eprintln!("xtask: no kernel boots under KVM here, going on with emulation");
            return Self::Tcg;
        }
        self
    }
}

/// Boots the kernel without any file system, which gets it all the way to a certain panic.
fn boots(image: &Path) -> bool {
    let Ok(emulator) = Emulator::get() else {
        return false;
    };
    let mut command = emulator.command();
    command.args(Accelerator::Kvm.arguments(emulator)).args([
        "-m",
        "512M",
        "-nodefaults",
        "-no-reboot",
    ]);
    command
        .args([
            "-display", "none", "-nic", "none", "-serial", "stdio", "-kernel",
        ])
        .arg(image);
    command.args(["-append", "console=ttyS0 panic=-1"]);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let Ok(mut qemu) = command.spawn() else {
        return false;
    };
    let Some(mut stdout) = qemu.stdout.take() else {
        return false;
    };
    let console = thread::spawn(move || {
        let mut bytes = Vec::new();
        // What came before an error counts.
        let _ = stdout.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    });
    let deadline = Instant::now() + PATIENCE;
    while matches!(qemu.try_wait(), Ok(None)) && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(50));
    }
    // Both fail only if it is gone already.
    let _ = qemu.kill();
    let _ = qemu.wait();
    console
        .join()
        .is_ok_and(|console| console.contains("VFS: Unable to mount root fs"))
}
