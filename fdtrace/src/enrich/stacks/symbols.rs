//! From addresses in ELF files to functions, source files and lines.

use std::borrow::Cow;

use blazesym::symbolize::{
    CodeInfo, Input, Sym, Symbolized, Symbolizer,
    source::{Elf, Source},
};
use log::debug;
use rustc_hash::FxHashSet;

use super::{
    bounds,
    elf::{Elf as File, Names},
    reader::path_of,
    stack::Frame,
};

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
    /// Bytes of their tables of symbols.
    bytes: u64,
}

impl Symbols {
    /// The functions at an address, the innermost first; at least one.
    pub(super) fn frames(&mut self, file: &File, address: u64) -> Vec<Frame> {
        let debug = file.debug.as_deref();
        if !self.read.contains(&file.id) {
            let size = file.symbols + debug.map_or(0, |debug| debug.symbols);
            if self.read.len() >= FILES_MAX || self.bytes + size > bounds::SYMBOLS_ALL {
                *self = Self::default();
            }
            self.read.insert(file.id);
            self.bytes += size;
        }
        let known = debug.and_then(|debug| self.known(debug, address));
        let known = known.or_else(|| self.known(file, address));
        known.unwrap_or_else(|| vec![bare(address)])
    }

    fn known(&self, file: &File, address: u64) -> Option<Vec<Frame>> {
        // Whatever the file was called, this is it.
        let mut elf = Elf::new(path_of(&file.file));
        elf.debug_syms = match file.names {
            Names::Nothing => return None,
            Names::Symbols => false,
            Names::Lines => true,
        };
        let (source, input) = (Source::Elf(elf), Input::VirtOffset(address));
        match self.symbolizer.symbolize_single(&source, input) {
            Ok(Symbolized::Sym(symbol)) => Some(frames(&symbol, &bare(address))),
            Ok(Symbolized::Unknown(_)) => None,
            Err(error) => {
                debug!("file {}: {error}", file.id);
                None
            }
        }
    }
}

fn bare(address: u64) -> Frame {
    Frame {
        address,
        ..Frame::default()
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
