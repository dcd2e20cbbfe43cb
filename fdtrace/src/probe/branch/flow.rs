//! All that a function of x86-64 can come to, instruction by instruction, from its bytes.
//!
//! Following the jumps finds where instructions begin, and the parts of a function that lie elsewhere: searching for
//! a pattern of bytes would do neither.

use std::ops::Range;

use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, OpKind};
use rustc_hash::FxHashSet;

/// Instructions that are looked at in one function. Those of which fdtrace reads any have some hundreds.
const INSTRUCTIONS_MAX: usize = 8_192;
/// The same for pieces of memory.
const PIECES_MAX: usize = 32;
/// As far behind its beginning an instruction is the function's own.
const OWN: u64 = 4_096;
/// The longest instruction.
const LONGEST: usize = 15;
/// A jump that the kernel makes of a probe, and as many bytes as it copies there at most
/// (`MAX_OPTIMIZED_LENGTH` in arch/x86/include/asm/kprobes.h).
const JUMP: u64 = 5;
const COPIED_MAX: u64 = 20;
/// Functions lie at multiples of it, and so much is filled between them at most.
pub(super) const ALIGNMENT: u64 = 16;
const FILLED_MAX: u64 = 64;
/// How those begin that can be traced: with the room for a call, the call, or what marks the target of an indirect jump.
const BEGINNINGS: [&[u8]; 3] = [
    &[0x0f, 0x1f, 0x44, 0x00, 0x00],
    &[0xe8],
    &[0xf3, 0x0f, 0x1e, 0xfa],
];
/// A probe that is no jump.
const BREAKPOINT: u8 = 0xcc;

/// Reads some bytes from an address; the reason where there are none.
pub(super) type Read<'a> = dyn FnMut(u64) -> Result<Vec<u8>, String> + 'a;

/// A function, as far as it matters here.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Flow {
    /// Instructions that load the negative errno, or store it: their addresses.
    pub(super) loads: Vec<u64>,
    /// Functions that it calls.
    pub(super) calls: Vec<Call>,
    /// It goes where only a register knows.
    pub(super) is_indirect: bool,
}

/// A call of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Call {
    /// The function.
    pub(super) target: u64,
    /// The instruction behind the call.
    pub(super) behind: u64,
}

/// Follows a function from its entry, or from behind its first instruction, where probes are put that mark indirect jumps.
pub(super) fn follow(entry: u64, errno: i32, read: &mut Read<'_>) -> Result<Flow, String> {
    let mut walk = Walk {
        own: entry..entry.saturating_add(OWN),
        value: -i64::from(errno),
        read,
        pieces: Vec::new(),
        seen: FxHashSet::default(),
        todo: vec![At {
            address: entry,
            left_at: None,
        }],
        detours: Vec::new(),
        flow: Flow::default(),
    };
    while let Some(at) = walk.todo.pop() {
        walk.straight(at)?;
    }
    walk.finish()
}

/// Where to look next.
#[derive(Clone, Copy)]
struct At {
    address: u64,
    /// Where the function's own part was left, if it was.
    left_at: Option<u64>,
}

/// What has been met outside of the function's own part, and where that was left.
enum Detour {
    /// The errno is loaded.
    Load { left_at: u64 },
    /// It leads back behind that place.
    Back { left_at: u64 },
}

struct Walk<'a, 'b> {
    own: Range<u64>,
    value: i64,
    read: &'a mut Read<'b>,
    pieces: Vec<(u64, Vec<u8>)>,
    seen: FxHashSet<u64>,
    todo: Vec<At>,
    detours: Vec<Detour>,
    flow: Flow,
}

impl Walk<'_, '_> {
    /// Goes on until there is no next instruction, or one that has been seen.
    fn straight(&mut self, mut at: At) -> Result<(), String> {
        loop {
            if !self.seen.insert(at.address) {
                return Ok(());
            }
            if self.seen.len() > INSTRUCTIONS_MAX {
                return Err("its code is too long".to_owned());
            }
            let bytes = self.bytes(at.address)?;
            let Some(next) = self.step(at, &bytes)? else {
                return Ok(());
            };
            at.address = next;
        }
    }

    /// One instruction; where the next one is if it does not end the way.
    fn step(&mut self, at: At, bytes: &[u8; LONGEST]) -> Result<Option<u64>, String> {
        let mut bytes = *bytes;
        if bytes[0] == BREAKPOINT {
            if bytes[1] == BREAKPOINT {
                // What lies between functions.
                return Ok(None);
            }
            match probed(&bytes, self.value) {
                Some(first) => bytes[0] = first,
                None => return Err("somebody has a probe in it".to_owned()),
            }
        }
        let instruction = Decoder::with_ip(64, &bytes, at.address, DecoderOptions::NONE).decode();
        if instruction.is_invalid() {
            return Err(format!("no instruction is at {:#x}", at.address));
        }
        match role(&instruction, self.value) {
            Some(Role::Loads) => match at.left_at {
                None => self.flow.loads.push(at.address),
                Some(left_at) => self.detours.push(Detour::Load { left_at }),
            },
            Some(Role::Computes) => {
                return Err("its errno is computed, not loaded".to_owned());
            }
            None => {}
        }
        let next = instruction.next_ip();
        Ok(match kind(&instruction) {
            Kind::Plain => Some(next),
            Kind::Call(target) => {
                // The first instructions call whoever traces the function.
                if at.address > self.own.start.saturating_add(JUMP) {
                    let behind = next;
                    self.flow.calls.push(Call { target, behind });
                }
                (!self.begins_function(next)?).then_some(next)
            }
            Kind::Branch(target) => {
                let target = self.jump(at, target);
                self.todo.push(target);
                Some(next)
            }
            Kind::Jump(target) => {
                let target = self.jump(at, target);
                self.todo.push(target);
                None
            }
            Kind::Indirect => {
                self.flow.is_indirect = true;
                None
            }
            Kind::End => None,
        })
    }

    /// Is there nothing but what fills the space up to the next function? Then the call that comes before it does not
    /// return (`__stack_chk_fail`).
    fn begins_function(&mut self, behind: u64) -> Result<bool, String> {
        let mut at = behind;
        while at.wrapping_sub(behind) < FILLED_MAX {
            let bytes = self.bytes(at)?;
            if at != behind
                && at.is_multiple_of(ALIGNMENT)
                && BEGINNINGS.iter().any(|begins| bytes.starts_with(begins))
            {
                return Ok(true);
            }
            let instruction = Decoder::with_ip(64, &bytes, at, DecoderOptions::NONE).decode();
            if instruction.mnemonic() != Mnemonic::Nop {
                return Ok(false);
            }
            at = instruction.next_ip();
        }
        Ok(false)
    }

    /// Notes where a jump leaves the function's own part, and where it comes back.
    fn jump(&mut self, from: At, target: u64) -> At {
        let is_own = self.own.contains(&target);
        if let Some(left_at) = from.left_at
            && is_own
            && (JUMP..=COPIED_MAX).contains(&target.wrapping_sub(left_at))
        {
            self.detours.push(Detour::Back { left_at });
        }
        At {
            address: target,
            left_at: (!is_own).then_some(from.left_at.unwrap_or(from.address)),
        }
    }

    /// What was loaded elsewhere was so in a copy that the kernel has made for a probe, or the function has parts
    /// that lie elsewhere.
    fn finish(mut self) -> Result<Flow, String> {
        for detour in &self.detours {
            let Detour::Load { left_at } = detour else {
                continue;
            };
            let is_back = |other: &Detour| matches!(other, Detour::Back { left_at: other } if other == left_at);
            if !self.detours.iter().any(is_back) {
                return Err("it fails in a part that lies elsewhere".to_owned());
            }
            self.flow.loads.push(*left_at);
        }
        self.flow.loads.sort_unstable();
        Ok(self.flow)
    }

    /// The bytes from an address on.
    fn bytes(&mut self, address: u64) -> Result<[u8; LONGEST], String> {
        let found = self.pieces.iter().find_map(|(start, bytes)| {
            let offset = usize::try_from(address.checked_sub(*start)?).ok()?;
            bytes.get(offset..)?.first_chunk()
        });
        if let Some(bytes) = found {
            return Ok(*bytes);
        }
        if self.pieces.len() == PIECES_MAX {
            return Err("its code lies in too many places".to_owned());
        }
        let bytes = (self.read)(address)?;
        let first = bytes.first_chunk().copied();
        self.pieces.push((address, bytes));
        first.ok_or_else(|| "its code cannot be read".to_owned())
    }
}

/// What an instruction has to do with the errno.
enum Role {
    /// It makes a register or some memory the errno.
    Loads,
    /// It makes the errno without a branch, of two results of a comparison.
    Computes,
}

fn role(instruction: &Instruction, value: i64) -> Option<Role> {
    let mut operands = 0..instruction.op_count();
    let has_value = operands.any(|operand| match instruction.op_kind(operand) {
        // Half a register's worth has no sign of its own.
        OpKind::Immediate32 => i64::from(instruction.immediate32().cast_signed()) == value,
        OpKind::Immediate64 => instruction.immediate64().cast_signed() == value,
        OpKind::Immediate8to32 | OpKind::Immediate8to64 | OpKind::Immediate32to64 => {
            instruction.immediate(operand).cast_signed() == value
        }
        _ => false,
    });
    match instruction.mnemonic() {
        _ if !has_value => None,
        Mnemonic::Mov => Some(Role::Loads),
        Mnemonic::And | Mnemonic::Or | Mnemonic::Xor | Mnemonic::Push => Some(Role::Computes),
        // Compared, or a distance.
        _ => None,
    }
}

/// Where an instruction leads.
enum Kind {
    Plain,
    Call(u64),
    /// There, or on.
    Branch(u64),
    Jump(u64),
    Indirect,
    End,
}

fn kind(instruction: &Instruction) -> Kind {
    if instruction.op0_kind() == OpKind::NearBranch64 {
        let target = instruction.near_branch_target();
        return match instruction.mnemonic() {
            Mnemonic::Call => Kind::Call(target),
            Mnemonic::Jmp => Kind::Jump(target),
            _ => Kind::Branch(target),
        };
    }
    match instruction.mnemonic() {
        Mnemonic::Jmp => Kind::Indirect,
        Mnemonic::Ret
        | Mnemonic::Retf
        | Mnemonic::Iret
        | Mnemonic::Iretd
        | Mnemonic::Iretq
        | Mnemonic::Sysret
        | Mnemonic::Sysretq
        | Mnemonic::Hlt
        | Mnemonic::Int3
        | Mnemonic::Ud0
        | Mnemonic::Ud1
        | Mnemonic::Ud2 => Kind::End,
        _ => Kind::Plain,
    }
}

/// The first byte of an instruction that loads the value, where a probe has put a breakpoint: Intel's manual, volume 2,
/// MOV. Into which register does not matter.
fn probed(bytes: &[u8; LONGEST], value: i64) -> Option<u8> {
    let value = i32::try_from(value).ok()?.to_le_bytes();
    let is_value = |at: usize| bytes.get(at..).is_some_and(|rest| rest.starts_with(&value));
    match bytes[1..] {
        _ if is_value(1) => Some(0xb8),
        [0xb8..=0xbf, ..] if is_value(2) => Some(0x41),
        [0xc7, 0xc0..=0xc7, ..] if is_value(3) => Some(0x48),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
