use std::{fs::File, os::unix::fs::FileExt, sync::LazyLock};

use fdtrace_common::stack::{ProgramRecord, REGISTER_IP, REGISTER_SP, REGISTERS};
use proptest::prelude::*;
use zerocopy::FromZeros;

use super::*;

/// Registers as they are at this moment.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
#[expect(unsafe_code, reason = "registers are read by assembly")]
#[expect(
    clippy::inline_always,
    reason = "they are to be those of the function that it stands in"
)]
fn registers() -> [u64; REGISTERS] {
    let mut registers = [0_u64; REGISTERS];
    // SAFETY: writes eight words to where there are eight, and nothing else but rax.
    unsafe {
        std::arch::asm!(
            "lea rax, [rip]",
            "mov [{to}], rax",
            "mov [{to} + 8], rsp",
            "mov [{to} + 16], rbp",
            "mov [{to} + 24], rbx",
            "mov [{to} + 32], r12",
            "mov [{to} + 40], r13",
            "mov [{to} + 48], r14",
            "mov [{to} + 56], r15",
            to = in(reg) registers.as_mut_ptr(),
            out("rax") _,
        );
    }
    registers
}

/// The own stack, as the kernel's programs take one.
#[inline(never)]
fn innermost(sequence: Sequence, length: usize) -> Raw {
    let registers = registers(); // [innermost]
    let mut bytes = vec![0; length];
    let memory = File::open("/proc/self/mem").unwrap();
    let read = memory.read_at(&mut bytes, registers[REGISTER_SP]).unwrap();
    bytes.truncate(read);
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let image = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_ascii_whitespace()
        .nth(25);
    Raw {
        sequence,
        head: StackRecord {
            tgid: std::process::id(),
            image: image.unwrap().parse().unwrap(),
            length: u32::try_from(read).unwrap(),
            registers,
            ..StackRecord::new_zeroed()
        },
        bytes: bytes.into(),
        python: Box::default(),
    }
}

#[cfg(feature = "symbols")]
#[inline(never)]
fn middle(sequence: Sequence, length: usize) -> Raw {
    let mut raw = innermost(sequence, length); // [middle]
    raw.head.fd = std::hint::black_box(7);
    raw
}

#[cfg(feature = "symbols")]
fn line(name: &str) -> u32 {
    let name = format!("// [{name}]");
    let mut lines = include_str!("tests.rs").lines().zip(1..);
    lines.find(|(line, _)| line.ends_with(&name)).unwrap().1
}

fn resolved(raw: Raw) -> Arc<Stack> {
    let mut stacks = Stacks::start();
    let sequence = raw.sequence;
    stacks.push(raw);
    stacks.later(sequence).wait().flatten().unwrap()
}

#[cfg(all(target_arch = "x86_64", feature = "symbols"))]
#[test]
fn the_own_stack_has_functions_files_and_lines() {
    let stack = resolved(middle(1, 64 << 10));
    let named = |name: &str| {
        let ending = format!("::{name}");
        let is_it = |frame: &&Frame| {
            frame
                .function
                .as_ref()
                .is_some_and(|function| function.ends_with(&ending))
        };
        stack
            .frames
            .iter()
            .find(is_it)
            .unwrap_or_else(|| panic!("no {name} in {stack:#?}"))
    };
    for name in ["innermost", "middle"] {
        let frame = named(name);
        assert!(
            frame
                .file
                .as_ref()
                .unwrap()
                .ends_with("enrich/stacks/tests.rs"),
            "{frame:?}"
        );
        assert!(!frame.is_inlined);
    }
    assert_eq!(named("middle").line, Some(line("middle")));
    assert_eq!(named("innermost").line, Some(line("innermost")));
    let functions = stack
        .frames
        .iter()
        .filter_map(|frame| frame.function.as_deref());
    let functions: Vec<_> = functions.collect();
    assert!(!stack.is_cut, "{functions:#?}");
    assert!(
        functions
            .iter()
            .any(|function| function.contains("clone") || function.contains("start_thread"))
    );
}

#[cfg(target_arch = "x86_64")]
#[test]
fn a_stack_that_was_not_copied_whole_says_so() {
    let whole = resolved(innermost(1, 64 << 10));
    let part = resolved(innermost(1, 256));
    assert!(part.is_cut);
    assert!(!part.frames.is_empty() && part.frames.len() < whole.frames.len());
}

/// A number of /proc/self/stat, counted from 0 behind the name.
#[cfg(all(target_arch = "x86_64", feature = "symbols"))]
fn own_stat(field: usize) -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields = stat.rsplit(')').next().unwrap();
    let field = fields.split_ascii_whitespace().nth(field);
    field.unwrap().parse().unwrap()
}

/// The own program as exec tells of it.
#[cfg(all(target_arch = "x86_64", feature = "symbols"))]
fn own_program(inode: u64) -> Program {
    let path = std::env::current_exe().unwrap();
    let mut record = ProgramRecord::new_zeroed();
    let names = path.to_str().unwrap().rsplit('/');
    for (place, name) in record.exe.iter_mut().zip(names) {
        place[..name.len()].copy_from_slice(name.as_bytes());
    }
    record.inode = inode;
    Program::from(&record)
}

#[cfg(all(target_arch = "x86_64", feature = "symbols"))]
#[test]
fn of_one_that_was_gone_at_once_its_executable_is_enough() {
    use std::os::unix::fs::MetadataExt;
    // No process has that number, and no other program's stack begins there.
    const GONE: u32 = 0x7fff_fff0;
    let inode = std::fs::metadata("/proc/self/exe").unwrap().ino();
    let first_function = |inode: u64, end_code: u64| {
        let mut raw = innermost(1, 64 << 10);
        (raw.head.tgid, raw.head.end_code) = (GONE, end_code);
        raw.head.image += 16;
        let mut stacks = Stacks::start();
        stacks.executed(GONE, own_program(inode));
        stacks.push(raw);
        let stack = stacks.later(1).wait().flatten().unwrap();
        stack.frames[0].function.clone()
    };
    // `end_code`, the 27th field.
    let end_code = own_stat(27 - 3);
    let function = first_function(inode, end_code).unwrap();
    assert!(function.contains("stacks::tests::"), "{function}");
    // Another file of that name, and one that would not lie like that, say nothing.
    assert_eq!(first_function(inode + 1, end_code), None);
    assert_eq!(first_function(inode, end_code + 16), None);
    assert_eq!(first_function(inode, 0), None);
}

#[test]
fn of_nobody_there_is_an_address() {
    let mut head = StackRecord::new_zeroed();
    // No process has that number.
    head.tgid = u32::MAX / 2;
    head.registers[REGISTER_IP] = 0x1001;
    let stack = resolved(Raw {
        sequence: 1,
        head,
        bytes: Box::default(),
        python: Box::default(),
    });
    assert!(stack.is_cut);
    assert_eq!(stack.frames.len(), 1);
    assert_eq!(stack.frames[0].to_string(), "0x1000");
}

#[cfg(target_arch = "x86_64")]
/// Code that a process has made and let go of, or mapped since it was looked at.
#[test]
fn of_code_that_nobody_knows_the_address_stays() {
    let mut raw = innermost(1, 4_096);
    raw.head.registers[REGISTER_IP] = 0x1001;
    let stack = resolved(raw);
    let frames: Vec<_> = stack.frames.iter().map(ToString::to_string).collect();
    assert_eq!(frames, ["0x1000"]);
    assert!(stack.is_cut);
}

#[test]
fn the_same_stack_is_kept_once_and_forgotten_with_its_last_fd() {
    let raw = innermost(1, 16 << 10);
    let mut stacks = Stacks::start();
    for sequence in 1..=3 {
        stacks.push(Raw {
            sequence,
            ..raw.clone()
        });
    }
    let (sender, receiver) = channel();
    let look = |stacks: &mut Stacks| {
        let sender = sender.clone();
        stacks.ask(move |resolver| {
            let known = (1..=3).filter(|sequence| resolver.stack(*sequence).is_some());
            let _ = sender.send((known.count(), resolver.different()));
        });
        receiver.recv().unwrap()
    };
    assert_eq!(look(&mut stacks), (3, 1));
    stacks.forget(vec![1, 3]);
    assert_eq!(look(&mut stacks), (1, 1));
    stacks.finish();
}

/// What was asked for comes all the same, and what comes later is resolved.
#[test]
fn a_thread_that_has_failed_keeps_nobody_waiting() {
    let mut stacks = Stacks::start();
    let raw = |sequence| Raw {
        sequence,
        head: StackRecord::new_zeroed(),
        bytes: Box::default(),
        python: Box::default(),
    };
    stacks.push(raw(1));
    let failed = stacks.answer(|_| -> u32 { panic!("on purpose") });
    assert_eq!(failed.wait(), None);
    let ended = &stacks.thread.as_ref().unwrap().ended;
    assert_eq!(ended.recv(), Err(std::sync::mpsc::RecvError));
    let answer = stacks.answer(|resolver| resolver.stack(1));
    assert_eq!(answer.wait(), Some(None));
    stacks.push(raw(2));
    assert!(stacks.later(2).wait().flatten().is_some());
}

/// A resolver that hangs holds neither a report nor the end up.
#[test]
fn nobody_waits_for_ever() {
    let mut stacks = Stacks::start();
    let (release, released) = channel::<()>();
    stacks.ask(move |_| released.recv().unwrap_or_default());
    let start = Instant::now();
    let (one, other) = (stacks.later(1), stacks.later(2));
    assert_eq!(one.wait(), None);
    assert_eq!(other.wait(), None);
    drop(stacks);
    let took = start.elapsed();
    assert!(took < bounds::WAIT * 2, "{took:?}");
    drop(release);
}

#[test]
fn too_many_that_wait_are_dropped_and_counted() {
    let mut stacks = Stacks::start();
    let (sender, receiver) = channel::<()>();
    // Nothing is done before everything has been pushed.
    stacks.ask(move |_| receiver.recv().unwrap_or_default());
    let raw = Raw {
        sequence: 0,
        head: StackRecord::new_zeroed(),
        bytes: vec![0; 1 << 20].into(),
        python: Box::default(),
    };
    for sequence in 1..=20 {
        stacks.push(Raw {
            sequence,
            ..raw.clone()
        });
    }
    assert_eq!(stacks.dropped(), 13);
    drop(sender);
    assert!(stacks.later(1).wait().flatten().is_some());
    assert!(stacks.later(20).wait().flatten().is_none());
    stacks.push(Raw {
        sequence: 21,
        ..raw
    });
    assert_eq!(stacks.dropped(), 13);
}

/// One for all generated stacks: it is the resolver's work that is tried, not its start.
static STACKS: LazyLock<Mutex<Stacks>> = LazyLock::new(Mutex::default);

#[cfg(target_arch = "x86_64")]
proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Registers and stacks are whatever a process has put there.
    #[test]
    fn no_stack_makes_it_panic_or_go_on_for_ever(
        mut words in prop::collection::vec(any::<u64>(), 0..512),
        spread in prop::collection::vec((0..512_usize, -4096..4096_i64), 0..64),
        others: [u64; REGISTERS],
    ) {
        let own = innermost(1, 0);
        let code = own.head.registers[REGISTER_IP];
        // Some of it looks like return addresses, some like frames.
        for (at, distance) in spread {
            if let Some(word) = words.get_mut(at) {
                *word = if at % 2 == 0 {
                    code.wrapping_add_signed(distance)
                } else {
                    others[REGISTER_SP].wrapping_add_signed(distance & !7)
                };
            }
        }
        let mut registers = others;
        registers[REGISTER_IP] = code.wrapping_add(others[REGISTER_IP] % 4096);
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let mut stacks = STACKS.lock().unwrap();
        stacks.push(Raw {
            head: StackRecord { registers, ..own.head },
            bytes: bytes.into(),
            python: Box::default(),
            ..own
        });
        let stack = stacks.later(1).wait().flatten().unwrap();
        prop_assert!(!stack.frames.is_empty() && stack.frames.len() <= 96 * 33);
    }
}
