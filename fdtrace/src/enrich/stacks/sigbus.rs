//! Files that become shorter while they are read.
//!
//! Names are read from mapped files. One that its owner cuts off in the middle of that is a SIGBUS, and the
//! owner is a traced process: nothing that it does may end fdtrace. What is missing then reads as zeroes.

use std::{mem::MaybeUninit, ptr, sync::Once};

use log::warn;

/// Has the process survive that from now on.
#[expect(
    unsafe_code,
    reason = "a handler for a signal, which no library has a safe form of"
)]
pub(super) fn survive() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: all zeroes is a valid `sigaction`: no flags, an empty mask, the default action.
        let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
        action.sa_sigaction = on_sigbus as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        // SAFETY: the handler has the type that goes with the flags, and calls nothing that a handler may not.
        let outcome = unsafe { libc::sigaction(libc::SIGBUS, &raw const action, ptr::null_mut()) };
        if outcome != 0 {
            warn!("reading programs that are being cut off may end fdtrace");
        }
    });
}

/// Puts a page of zeroes where there was none of the file, and has the reading go on.
#[expect(unsafe_code, reason = "what a handler is given are raw pointers")]
extern "C" fn on_sigbus(signal: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    const PAGE: usize = 4096;
    // SAFETY: the kernel hands over a whole one.
    let info = unsafe { &*info };
    let code = info.si_code;
    // SAFETY: for this signal the address is there.
    let address = unsafe { info.si_addr() };
    let page = address.map_addr(|address| address & !(PAGE - 1));
    // SAFETY: only what was mapped from a file beyond its end is replaced, and nobody writes there.
    let outcome = (code == libc::BUS_ADRERR).then(|| unsafe {
        libc::mmap(
            page,
            PAGE,
            libc::PROT_READ,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
            -1,
            0,
        )
    });
    if outcome.is_none_or(|mapped| mapped == libc::MAP_FAILED) {
        // Something else: it comes again, and ends the process as it would have.
        // SAFETY: takes two numbers.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Write, os::fd::AsFd};

    use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

    use super::*;

    #[test]
    #[expect(unsafe_code, reason = "a mapped file that becomes shorter")]
    fn what_is_missing_reads_as_zeroes() {
        survive();
        let memory = rustix::fs::memfd_create("victim", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        let mut file = File::from(memory);
        file.write_all(&[7; 8192]).unwrap();
        // SAFETY: a new mapping.
        let mapped = unsafe {
            mmap(
                ptr::null_mut(),
                8192,
                ProtFlags::READ,
                MapFlags::SHARED,
                file.as_fd(),
                0,
            )
        };
        let mapped = mapped.unwrap().cast::<u8>();
        // SAFETY: within it.
        let second = unsafe { mapped.add(5000) };
        // SAFETY: mapped.
        assert_eq!(unsafe { second.read_volatile() }, 7);
        file.set_len(4096).unwrap();
        // SAFETY: mapped, and the handler is there.
        assert_eq!(unsafe { second.read_volatile() }, 0);
        // SAFETY: mapped.
        assert_eq!(unsafe { mapped.read_volatile() }, 7);
        // SAFETY: nobody uses it any more.
        unsafe { munmap(mapped.cast(), 8192) }.unwrap();
    }
}
