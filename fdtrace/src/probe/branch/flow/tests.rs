use proptest::{collection::vec, prelude::*};

use super::*;

const EMFILE: i32 = 24;
const ENTRY: u64 = 0xffff_ffff_8137_1a40;
const ELSEWHERE: u64 = 0xffff_ffff_819d_31df;
const LOAD: &[u8] = &[0xb8, 0xe8, 0xff, 0xff, 0xff];
const RET: &[u8] = &[0xc3];

/// Memory with these pieces in it, each with what lies between functions behind it.
fn of(pieces: &[(u64, &[u8])]) -> Result<Flow, String> {
    let mut read = |address: u64| {
        let rest = pieces.iter().find_map(|(start, bytes)| {
            let offset = usize::try_from(address.checked_sub(*start)?).ok()?;
            bytes.get(offset..)
        });
        let rest = rest.ok_or("nothing is there")?;
        Ok([rest, &[0xcc; 32]].concat())
    };
    follow(ENTRY, EMFILE, &mut read)
}

fn loads(code: &[&[u8]]) -> Result<Vec<u64>, String> {
    let flow = of(&[(ENTRY, &code.concat())])?;
    Ok(flow.loads.iter().map(|place| place - ENTRY).collect())
}

/// A jump of five bytes, or a call.
fn leads(code: u8, from: u64, to: u64) -> Vec<u8> {
    let distance = to.wrapping_sub(from.wrapping_add(5)).to_le_bytes();
    [&[code][..], &distance[..4]].concat()
}

fn jump(from: u64, to: u64) -> Vec<u8> {
    leads(0xe9, from, to)
}

#[test]
fn each_way_to_load_it_is_found_where_it_begins() {
    // As in alloc_fd of 6.1 and 5.10, in alloc_empty_file of 6.12 and 5.10, and in dup_fd of 5.10.
    let ways: [&[u8]; 5] = [
        LOAD,
        &[0x41, 0xb8, 0xe8, 0xff, 0xff, 0xff],
        &[0x48, 0xc7, 0xc3, 0xe8, 0xff, 0xff, 0xff],
        &[0x49, 0xc7, 0xc4, 0xe8, 0xff, 0xff, 0xff],
        &[0x41, 0xc7, 0x45, 0x00, 0xe8, 0xff, 0xff, 0xff],
    ];
    for way in ways {
        // cmp %esi, %edi; jb over it.
        let over = [0x39, 0xf7, 0x72, u8::try_from(way.len()).unwrap()];
        assert_eq!(loads(&[&over, way, RET]), Ok(vec![4]), "{way:x?}");
    }
    assert_eq!(loads(&[LOAD, LOAD, RET]), Ok(vec![0, 5]));
}

#[test]
fn what_only_looks_like_it_is_none() {
    let others: [&[u8]; 4] = [
        // movabs $0xffffffe8, %rax: these bytes, and another number.
        &[0x48, 0xb8, 0xe8, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00],
        // mov $-23, %eax
        &[0xb8, 0xe9, 0xff, 0xff, 0xff],
        // cmp $-24, %eax
        &[0x83, 0xf8, 0xe8],
        // Behind the end.
        &[0xc3, 0xb8, 0xe8, 0xff, 0xff, 0xff],
    ];
    for other in others {
        assert_eq!(loads(&[other, RET]), Ok(vec![]), "{other:x?}");
    }
}

#[test]
fn an_errno_without_a_branch_is_refused() {
    // sbb %eax, %eax; and $-24, %eax
    let error = loads(&[&[0x1b, 0xc0, 0x83, 0xe0, 0xe8], RET]).unwrap_err();
    assert!(error.contains("computed"), "{error}");
    let error = loads(&[&[0x1b, 0xc0, 0x25, 0xe8, 0xff, 0xff, 0xff], RET]).unwrap_err();
    assert!(error.contains("computed"), "{error}");
}

#[test]
fn parts_that_lie_elsewhere_are_looked_at() {
    let main = jump(ENTRY, ELSEWHERE);
    let flow = of(&[(ENTRY, &main), (ELSEWHERE, &[0x90, 0xc3])]).unwrap();
    assert_eq!(flow, Flow::default());
    let cold = [LOAD, RET].concat();
    let error = of(&[(ENTRY, &main), (ELSEWHERE, &cold)]).unwrap_err();
    assert!(error.contains("elsewhere"), "{error}");
    let error = of(&[(ENTRY, &main)]).unwrap_err();
    assert!(error.contains("nothing is there"), "{error}");
}

#[test]
fn a_load_with_a_probe_on_it_is_found() {
    for (length, probed) in [
        (5, &[0xcc, 0xe8, 0xff, 0xff, 0xff][..]),
        (6, &[0xcc, 0xb8, 0xe8, 0xff, 0xff, 0xff]),
        (7, &[0xcc, 0xc7, 0xc3, 0xe8, 0xff, 0xff, 0xff]),
    ] {
        // What is behind it shows its length.
        let wanted = Ok(vec![1, 1 + length]);
        assert_eq!(loads(&[&[0x90], probed, LOAD, RET]), wanted, "{probed:x?}");
    }
    let error = loads(&[&[0xcc, 0x89, 0xd8], LOAD, RET]).unwrap_err();
    assert!(error.contains("probe"), "{error}");
}

#[test]
fn a_load_that_a_probe_has_copied_is_found() {
    let slot = |back: u64| {
        // pushf; popf; what has been copied; and back.
        let copy = [&[0x9c, 0x9d], LOAD].concat();
        [&copy[..], &jump(ELSEWHERE + copy.len() as u64, back)].concat()
    };
    let main = [&[0x90][..], &jump(ENTRY + 1, ELSEWHERE), &[0xc3]].concat();
    let flow = of(&[(ENTRY, &main), (ELSEWHERE, &slot(ENTRY + 6))]).unwrap();
    assert_eq!(flow.loads, [ENTRY + 1]);
    // Back to somewhere else: a part of its own.
    let error = of(&[(ENTRY, &main), (ELSEWHERE, &slot(ENTRY))]).unwrap_err();
    assert!(error.contains("elsewhere"), "{error}");
}

#[test]
fn calls_are_told_but_for_a_tracers() {
    let tracer = leads(0xe8, ENTRY, ELSEWHERE);
    let call = leads(0xe8, ENTRY + 7, ELSEWHERE);
    // endbr is no longer than a nop of two bytes here.
    let flow = of(&[(ENTRY, &[&tracer, &[0x66, 0x90][..], &call, RET].concat())]).unwrap();
    let call = Call {
        target: ELSEWHERE,
        behind: ENTRY + 12,
    };
    assert_eq!(flow.calls, [call]);
    assert!(!flow.is_indirect);
    // jmp *%rax
    let flow = of(&[(ENTRY, &[0xff, 0xe0])]).unwrap();
    assert!(flow.is_indirect);
}

#[test]
fn a_call_that_does_not_return_ends_a_function() {
    // At the end of expand_files of 6.12: the call, what fills 16 bytes, and alloc_fd.
    let code = |fills: &[u8], begins: &[u8]| {
        let call = leads(0xe8, ENTRY + 16, ELSEWHERE);
        [&[0x90; 16][..], &call, fills, begins, LOAD, RET].concat()
    };
    let fills = [
        0x66, 0x66, 0x2e, 0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x90,
    ];
    let begins = [0x0f, 0x1f, 0x44, 0x00, 0x00];
    assert_eq!(loads(&[&code(&fills, &begins)]), Ok(vec![]));
    let traced = leads(0xe8, ENTRY + 32, ELSEWHERE);
    assert_eq!(loads(&[&code(&fills, &traced)]), Ok(vec![]));
    // It goes on where nothing has been filled, or other instructions come.
    assert_eq!(loads(&[&code(&[], &begins)]), Ok(vec![26]));
    assert_eq!(loads(&[&code(&fills, &[0x50])]), Ok(vec![33]));
}

#[test]
fn what_does_not_end_is_given_up() {
    let mut read = |_| Ok(vec![0x90; 1_024]);
    let error = follow(ENTRY, EMFILE, &mut read).unwrap_err();
    assert!(error.contains("long") || error.contains("many"), "{error}");
    let mut read = |_| Ok(Vec::new());
    follow(ENTRY, EMFILE, &mut read).unwrap_err();
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(entry: u64, bytes in vec(any::<u8>(), 0..256)) {
        let mut read = |address: u64| {
            let turn = (address % 7) as usize;
            Ok(bytes.iter().cycle().skip(turn).take(64).copied().collect())
        };
        let _ = follow(entry, EMFILE, &mut read);
        let _ = follow(u64::MAX - entry % 64, EMFILE, &mut read);
    }
}
