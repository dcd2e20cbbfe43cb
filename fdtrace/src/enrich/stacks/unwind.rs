//! From a copied stack to the addresses that its functions return to.

use std::{ops::Range, sync::Arc};

use fdtrace_common::stack::{REGISTER_BP, REGISTER_IP, REGISTER_OTHERS, REGISTER_SP, REGISTERS};
use framehop::{
    CacheNative, ExplicitModuleSectionInfo, FrameAddress, MayAllocateDuringUnwind,
    Module as UnwindModule, UnwindRegsNative, Unwinder as _, UnwinderNative,
};

use super::image::Mapping;

/// Functions of a stack that are looked for.
const DEPTH: usize = 96;

/// What one image's stacks are unwound with.
pub(super) struct Unwinder {
    unwinder: UnwinderNative<Arc<[u8]>, MayAllocateDuringUnwind>,
    /// Made when the first stack is unwound: of most processes none ever is.
    cache: Option<CacheNative<MayAllocateDuringUnwind>>,
}

/// Where the functions of a stack are, the innermost first.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Unwound {
    /// Each lies within the instruction that called the next inner function.
    pub(super) addresses: Vec<u64>,
    /// There are more.
    pub(super) is_cut: bool,
    /// The last one is in no code that is known; it is left out.
    pub(super) is_lost: bool,
}

impl Unwinder {
    pub(super) fn new(mappings: &[Mapping]) -> Self {
        let mut unwinder = UnwinderNative::new();
        for mapping in mappings {
            if let Some(module) = module(mapping) {
                unwinder.add_module(module);
            }
        }
        Self {
            unwinder,
            cache: None,
        }
    }

    /// Unwinds a stack; `is_code` tells of each address whether it can be one.
    pub(super) fn unwind(
        &mut self,
        registers: &[u64; REGISTERS],
        stack: &[u8],
        is_code: impl Fn(u64) -> bool,
    ) -> Unwound {
        let (ip, bottom) = (registers[REGISTER_IP], registers[REGISTER_SP]);
        let mut read = |address: u64| {
            let at = usize::try_from(address.wrapping_sub(bottom)).map_err(drop)?;
            let bytes = stack.get(at..).and_then(<[u8]>::first_chunk);
            bytes.map(|bytes| u64::from_ne_bytes(*bytes)).ok_or(())
        };
        let mut unwound = Unwound::default();
        let cache = self.cache.get_or_insert_with(CacheNative::new);
        let mut frames = self
            .unwinder
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

fn module(mapping: &Mapping) -> Option<UnwindModule<Arc<[u8]>>> {
    let module = mapping.module.as_ref()?;
    let range = |section: &super::module::Section| -> Range<u64> { section.addresses.clone() };
    let bytes = |section: &super::module::Section| Arc::clone(&section.bytes);
    let sections = ExplicitModuleSectionInfo {
        base_svma: 0,
        eh_frame_svma: module.eh_frame.as_ref().map(range),
        eh_frame: module.eh_frame.as_ref().map(bytes),
        eh_frame_hdr_svma: module.eh_frame_hdr.as_ref().map(range),
        eh_frame_hdr: module.eh_frame_hdr.as_ref().map(bytes),
        debug_frame: module.debug_frame.as_ref().map(bytes),
        ..ExplicitModuleSectionInfo::default()
    };
    Some(UnwindModule::new(
        module.path.to_string(),
        mapping.start..mapping.end,
        mapping.bias,
        sections,
    ))
}
