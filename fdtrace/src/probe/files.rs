//! Every open fd on the host at this moment, by the kernel's file iterator.

use anyhow::{Context, Result};
use aya::{
    Btf as AyaBtf, Ebpf,
    programs::{Iter, ProgramError},
};
use fdtrace_common::file::FileRecord;
use log::debug;
use zerocopy::FromBytes;

use super::census;
use crate::{model::file::OpenFile, stream::decode::WrongSize};

/// Reads all fds in scope. Without `paths` only names are told, which is quicker.
///
/// Kernels before 5.12 give iterators no paths; they are then read from /proc, for the processes
/// that are still there.
pub fn read(ebpf: &mut Ebpf, btf: &AyaBtf, paths: bool) -> Result<Vec<OpenFile>> {
    if !paths {
        return decode(&census::run(ebpf, btf, "files_without_paths", "task_file")?);
    }
    if load_with_paths(ebpf, btf)? {
        return decode(&census::run(ebpf, btf, "files_with_paths", "task_file")?);
    }
    let bytes = census::run(ebpf, btf, "files_without_paths", "task_file")?;
    decode_with(&bytes, |record| {
        let link = format!("/proc/{}/task/{}/fd/{}", record.tgid, record.tid, record.fd);
        let path = std::fs::read_link(link).unwrap_or_default();
        path.into_os_string().into_encoded_bytes()
    })
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

fn decode(bytes: &[u8]) -> Result<Vec<OpenFile>> {
    decode_with(bytes, |_| Vec::new())
}

/// Splits what the iterator wrote: records, each followed by its path. `lookup` is asked for the path
/// of a record that has none.
fn decode_with(
    mut bytes: &[u8],
    lookup: impl Fn(&FileRecord) -> Vec<u8>,
) -> Result<Vec<OpenFile>> {
    let mut files = Vec::new();
    while !bytes.is_empty() {
        let wrong = WrongSize {
            got: bytes.len(),
            expected: size_of::<FileRecord>(),
        };
        let (record, rest) = FileRecord::read_from_prefix(bytes).map_err(|_| wrong.clone())?;
        let (path, rest) = rest.split_at_checked(record.path_length as usize).ok_or(wrong)?;
        bytes = rest;
        let path = path.strip_suffix(&[0]).unwrap_or(path);
        let file = if path.is_empty() {
            OpenFile::new(&record, &lookup(&record))
        } else {
            OpenFile::new(&record, path)
        };
        files.push(file);
    }
    Ok(files)
}
