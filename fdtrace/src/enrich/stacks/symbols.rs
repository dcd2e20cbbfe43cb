//! From addresses in ELF files to functions, source files and lines.

use std::{borrow::Cow, os::fd::AsRawFd, path::PathBuf};

use blazesym::symbolize::{
    CodeInfo, Input, Sym, Symbolized, Symbolizer,
    source::{Elf, Source},
};
use log::debug;
use rustc_hash::FxHashSet;

use super::{module::Module, sizes::NAMED_MAX, stack::Frame};

/// Bytes of a name that are kept.
const NAME_MAX: usize = 512;
/// Frames that one address can stand for.
const INLINED_MAX: usize = 32;

/// Files whose names are kept in memory at once.
const FILES_MAX: usize = 64;

/// What has been read of the files' names so far.
#[derive(Default)]
pub(super) struct Symbols {
    symbolizer: Symbolizer,
    read: FxHashSet<u32>,
    /// Bytes of symbols in them.
    bytes: u64,
}

impl Symbols {
    /// The functions at an address, the innermost first; at least one.
    pub(super) fn frames(&mut self, module: &Module, address: u64) -> Vec<Frame> {
        let is_new = !self.read.contains(&module.id);
        let bytes = self.bytes.saturating_add(module.sizes.names);
        if is_new && (self.read.len() >= FILES_MAX || bytes > NAMED_MAX) {
            *self = Self::default();
        }
        if self.read.insert(module.id) {
            self.bytes = self.bytes.saturating_add(module.sizes.names);
        }
        let bare = Frame {
            module: Some(module.path.to_string()),
            address,
            ..Frame::default()
        };
        // Whatever the file was called, this is it.
        let path = PathBuf::from(format!("/proc/self/fd/{}", module.file.as_raw_fd()));
        let source = Source::Elf(Elf::new(path));
        match self
            .symbolizer
            .symbolize_single(&source, Input::VirtOffset(address))
        {
            Ok(Symbolized::Sym(symbol)) => frames(&symbol, &bare),
            Ok(Symbolized::Unknown(_)) => vec![bare],
            Err(error) => {
                debug!("{}: {error}", module.path);
                vec![bare]
            }
        }
    }
}

/// The debug information tells of each function where the next inner one is called.
fn frames(symbol: &Sym<'_>, bare: &Frame) -> Vec<Frame> {
    let inlined = symbol.inlined.iter().take(INLINED_MAX);
    let inlined = inlined.map(|inner| (&inner.name, inner.code_info.as_ref(), true));
    let outer = (&symbol.name, symbol.code_info.as_deref(), false);
    let frames = std::iter::once(outer).chain(inlined);
    let frame = |(name, place, is_inlined): (&Cow<'_, str>, Option<&CodeInfo<'_>>, bool)| Frame {
        function: Some(cut(name.as_bytes())),
        file: place.map(|place| cut(place.to_path().as_os_str().as_encoded_bytes())),
        line: place.and_then(|place| place.line),
        is_inlined,
        ..bare.clone()
    };
    let mut frames: Vec<Frame> = frames.map(frame).collect();
    frames.reverse();
    frames
}

fn cut(text: &[u8]) -> String {
    String::from_utf8_lossy(&text[..text.len().min(NAME_MAX)]).into_owned()
}
