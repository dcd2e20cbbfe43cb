//! Every open fd on the host at this moment, by the kernel's file iterator.

use anyhow::{Context, Result};
use aya::{
    Btf as AyaBtf, Ebpf,
    programs::{Iter, ProgramError},
};
use log::debug;

use super::census;
use crate::{model::file::OpenFile, stream::files};

/// Reads all fds in scope. Without `paths` only names are told, which is quicker.
///
/// Kernels before 5.12 give iterators no paths; they are then read from /proc, for the processes
/// that are still there.
pub fn read(ebpf: &mut Ebpf, btf: &AyaBtf, paths: bool) -> Result<Vec<OpenFile>> {
    if !paths {
        let bytes = census::run(ebpf, btf, "files_without_paths", "task_file")?;
        return Ok(files::decode(&bytes, |_| Vec::new())?);
    }
    if load_with_paths(ebpf, btf)? {
        let bytes = census::run(ebpf, btf, "files_with_paths", "task_file")?;
        return Ok(files::decode(&bytes, |_| Vec::new())?);
    }
    let bytes = census::run(ebpf, btf, "files_without_paths", "task_file")?;
    let decoded = files::decode(&bytes, |record| {
        let link = format!("/proc/{}/task/{}/fd/{}", record.tgid, record.tid, record.fd);
        let path = std::fs::read_link(link).unwrap_or_default();
        path.into_os_string().into_encoded_bytes()
    });
    Ok(decoded?)
}

/// Does the kernel let an iterator ask for paths? It is tried.
fn load_with_paths(ebpf: &mut Ebpf, btf: &AyaBtf) -> Result<bool> {
    let program: &mut Iter = ebpf
        .program_mut("files_with_paths")
        .context("no program files_with_paths in the kernel object")?
        .try_into()?;
    match program.load("task_file", btf) {
        Ok(()) | Err(ProgramError::AlreadyLoaded) => Ok(true),
        Err(error) => {
            debug!("paths come from /proc: {error}");
            Ok(false)
        }
    }
}
