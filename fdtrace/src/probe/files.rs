//! Every open fd on the host at this moment, by the kernel's file iterator.

use std::{
    fs::File,
    io::{ErrorKind, Read},
};

use anyhow::{Context, Result};
use aya::{
    Ebpf,
    programs::{Iter, ProgramError},
};
use fdtrace_common::file::FileRecord;
use log::{debug, warn};
use rustix::io::Errno;

use super::{census, targets::Targets};
use crate::{
    ground::{file::OpenFile, listing::Kinds},
    stream::files,
};

/// Bytes read at a time: the kernel hands out a few pages at once.
const CHUNK: usize = 64 * 1024;

/// Reads all fds in scope.
///
/// Kernels before 5.12 give iterators no paths; they are then read from /proc, for the processes
/// that are still there.
pub fn read(ebpf: &mut Ebpf, targets: &Targets) -> Result<Vec<OpenFile>> {
    let mut found = if load_with_paths(ebpf, targets)? {
        let output = census::open(ebpf, targets, census::files("files_with_paths"))?;
        read_to_end(output, |_| Vec::new())?
    } else {
        let output = census::open(ebpf, targets, census::files("files_without_paths"))?;
        read_to_end(output, |record| {
            let link = format!("/proc/{}/task/{}/fd/{}", record.tgid, record.tid, record.fd);
            let path = std::fs::read_link(link).unwrap_or_default();
            path.into_os_string().into_encoded_bytes()
        })?
    };
    OpenFile::one_a_table(&mut found);
    Ok(found)
}

/// Reads all pipes, FIFOs and unix sockets of the host, in scope or not, without their paths.
pub fn with_ends(ebpf: &mut Ebpf, targets: &Targets) -> Result<Vec<OpenFile>> {
    let output = census::open(ebpf, targets, census::files("files_with_ends"))?;
    read_to_end(output, |_| Vec::new())
}

/// Counts the files of each table in scope.
pub fn count(ebpf: &mut Ebpf, targets: &Targets) -> Result<Vec<Kinds>> {
    let bytes = census::run(ebpf, targets, census::files("files_counted"))?;
    Ok(files::decode_kinds(&bytes)?)
}

fn read_to_end(mut output: File, lookup: impl Fn(&FileRecord) -> Vec<u8>) -> Result<Vec<OpenFile>> {
    let mut found = Vec::new();
    let mut room = vec![0; CHUNK];
    let mut filled = 0;
    loop {
        match output.read(&mut room[filled..]) {
            Ok(0) => break,
            Ok(length) => filled += length,
            // The kernel stops after a million objects of which nothing was written.
            Err(error)
                if error.kind() == ErrorKind::Interrupted
                    || error.raw_os_error() == Some(Errno::AGAIN.raw_os_error()) =>
            {
                continue;
            }
            Err(error) => return Err(error).context("reading the task_file iterator"),
        }
        let used = files::decode(&room[..filled], &lookup, &mut found)?;
        room.copy_within(used..filled, 0);
        filled -= used;
    }
    if filled > 0 {
        return Err(files::wrong_size(filled).into());
    }
    Ok(found)
}

/// Does the kernel let an iterator ask for paths? It is tried.
fn load_with_paths(ebpf: &mut Ebpf, targets: &Targets) -> Result<bool> {
    let program: &mut Iter = ebpf
        .program_mut("files_with_paths")
        .context("no program files_with_paths in the kernel object")?
        .try_into()?;
    match program.load("task_file", &targets.iterators()?) {
        Ok(()) | Err(ProgramError::AlreadyLoaded) => Ok(true),
        Err(error) if is_denied(&error) => {
            debug!("paths come from /proc: {error}");
            Ok(false)
        }
        Err(error) => {
            warn!("paths come from /proc, which takes longer: {error}");
            Ok(false)
        }
    }
}

/// Is it that iterators may not call `bpf_d_path` (`check_helper_call` in kernel/bpf/verifier.c)? Whatever
/// else the verifier has to say, it should not have.
fn is_denied(error: &ProgramError) -> bool {
    let ProgramError::LoadError { verifier_log, .. } = error else {
        return false;
    };
    let log = verifier_log.to_string();
    [
        "helper call is not allowed",
        "unknown func bpf_d_path",
        "cannot use helper bpf_d_path",
    ]
    .iter()
    .any(|reason| log.contains(reason))
}
