//! From a copied stack to the addresses that its functions return to.

use std::{ops::Range, sync::Arc};

use fdtrace_common::stack::{REGISTER_BP, REGISTER_IP, REGISTER_OTHERS, REGISTER_SP, REGISTERS};
use framehop::{
    CacheNative, ExplicitModuleSectionInfo, FrameAddress, MayAllocateDuringUnwind,
    Module as UnwindModule, UnwindRegsNative, Unwinder as _, UnwinderNative,
};

use serde::{Deserialize, Serialize};

use super::elf::{Elf, Section};

/// Functions of a stack that are looked for.
pub(super) const DEPTH: usize = 96;

/// A mapping of code, by address: where, what its addresses differ by from its file's, and the file.
pub(super) struct Code<'a> {
    pub(super) addresses: Range<u64>,
    pub(super) bias: Option<u64>,
    pub(super) elf: Option<&'a Elf>,
}

/// What one image's stacks are unwound with.
pub(super) struct Unwinder {
    /// Where there is code, by address.
    code: Vec<Range<u64>>,
    native: UnwinderNative<Arc<[u8]>, MayAllocateDuringUnwind>,
    /// Made when the first stack is unwound: of most processes none ever is.
    cache: Option<CacheNative<MayAllocateDuringUnwind>>,
}

/// Where the functions of a stack are, the innermost first.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Unwound {
    /// Each lies within the instruction that called the next inner function.
    pub(super) addresses: Vec<u64>,
    /// There are more.
    pub(super) is_cut: bool,
    /// The last one is in no code that is known; it is left out.
    pub(super) is_lost: bool,
}

impl Unwinder {
    pub(super) fn new(code: &[Code<'_>]) -> Self {
        let mut unwinder = UnwinderNative::new();
        for code in code {
            if let Some(module) = module(code) {
                unwinder.add_module(module);
            }
        }
        Self {
            code: code.iter().map(|code| code.addresses.clone()).collect(),
            native: unwinder,
            cache: None,
        }
    }

    /// Unwinds a stack, as far as its addresses lead to code.
    pub(super) fn unwind(&mut self, registers: &[u64; REGISTERS], stack: &[u8]) -> Unwound {
        let code = &self.code;
        let is_code = |address: u64| {
            let after = code.partition_point(|range| range.start <= address);
            let range = after.checked_sub(1).and_then(|index| code.get(index));
            range.is_some_and(|range| address < range.end)
        };
        let (ip, bottom) = (registers[REGISTER_IP], registers[REGISTER_SP]);
        let mut read = |address: u64| {
            let at = usize::try_from(address.wrapping_sub(bottom)).map_err(drop)?;
            let bytes = stack.get(at..).and_then(<[u8]>::first_chunk);
            bytes.map(|bytes| u64::from_ne_bytes(*bytes)).ok_or(())
        };
        let mut unwound = Unwound::default();
        let cache = self.cache.get_or_insert_with(CacheNative::new);
        let mut frames = self
            .native
            .iter_frames(ip, native(registers), cache, &mut read);
        loop {
            let address = match frames.next() {
                // The instruction that it comes from is the one before.
                Ok(Some(FrameAddress::InstructionPointer(ip))) => ip.wrapping_sub(1),
                Ok(Some(frame)) => frame.address_for_lookup(),
                Ok(None) => return unwound,
                Err(_) => break,
            };
            if !is_code(address) {
                unwound.is_lost = true;
                break;
            }
            if unwound.addresses.len() == DEPTH {
                break;
            }
            unwound.addresses.push(address);
        }
        unwound.is_cut = true;
        unwound
    }
}

#[cfg(target_arch = "x86_64")]
fn native(registers: &[u64; REGISTERS]) -> UnwindRegsNative {
    use framehop::x86_64::Reg;
    let mut native = UnwindRegsNative::new(
        registers[REGISTER_IP],
        registers[REGISTER_SP],
        registers[REGISTER_BP],
    );
    let others = [Reg::RBX, Reg::R12, Reg::R13, Reg::R14, Reg::R15];
    for (register, value) in others.into_iter().zip(&registers[REGISTER_OTHERS..]) {
        native.set(register, *value);
    }
    native
}

#[cfg(target_arch = "aarch64")]
fn native(registers: &[u64; REGISTERS]) -> UnwindRegsNative {
    UnwindRegsNative::new(
        registers[REGISTER_OTHERS],
        registers[REGISTER_SP],
        registers[REGISTER_BP],
    )
}

fn module(code: &Code<'_>) -> Option<UnwindModule<Arc<[u8]>>> {
    let (elf, bias) = (code.elf?, code.bias?);
    let range = |section: &Section| -> Range<u64> { section.addresses.clone() };
    let bytes = |section: &Section| Arc::clone(&section.bytes);
    let sections = ExplicitModuleSectionInfo {
        base_svma: 0,
        eh_frame_svma: elf.eh_frame.as_ref().map(range),
        eh_frame: elf.eh_frame.as_ref().map(bytes),
        eh_frame_hdr_svma: elf.eh_frame_hdr.as_ref().map(range),
        eh_frame_hdr: elf.eh_frame_hdr.as_ref().map(bytes),
        debug_frame: elf.debug_frame.as_ref().map(bytes),
        ..ExplicitModuleSectionInfo::default()
    };
    Some(UnwindModule::new(
        elf.id.to_string(),
        code.addresses.clone(),
        bias,
        sections,
    ))
}
