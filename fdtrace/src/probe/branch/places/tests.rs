use super::*;

const EMFILE: i32 = 24;
const ALLOC: u64 = 0xffff_ffff_8100_0004;
const EXPAND: u64 = 0xffff_ffff_8100_1000;
const TABLE: u64 = 0xffff_ffff_8100_2000;
const LOCK: u64 = 0xffff_ffff_8100_3000;
const LOAD: &[u8] = &[0xb8, 0xe8, 0xff, 0xff, 0xff];
const RET: &[u8] = &[0xc3];
const INDIRECT: &[u8] = &[0xff, 0xe0];

/// A piece of a function: some bytes, or a call.
enum Part {
    Bytes(&'static [u8]),
    Call(u64),
}
use Part::{Bytes, Call};

fn function(start: u64, parts: &[Part]) -> (u64, Vec<u8>) {
    // What a tracer's call would take the place of.
    let mut code = vec![0x0f, 0x1f, 0x44, 0x00, 0x00, 0x90];
    for part in parts {
        match part {
            Bytes(bytes) => code.extend(*bytes),
            Call(target) => {
                let behind = start + code.len() as u64 + 5;
                code.push(0xe8);
                code.extend(&target.wrapping_sub(behind).to_le_bytes()[..4]);
            }
        }
    }
    code.extend([0xcc; 32]);
    (start, code)
}

fn found(hands_on: bool, functions: &[(u64, Vec<u8>)]) -> Result<Places, String> {
    let mut read = |address: u64| {
        let code = functions.iter().find_map(|(start, code)| {
            let offset = usize::try_from(address.checked_sub(*start)?).ok()?;
            code.get(offset..)
        });
        code.map(<[u8]>::to_vec).ok_or_else(String::new)
    };
    find(ALLOC, EMFILE, hands_on, &mut read)
}

fn as_in_6_1() -> [(u64, Vec<u8>); 4] {
    [
        function(
            ALLOC,
            &[
                Call(LOCK),
                Call(EXPAND),
                Call(LOCK),
                Bytes(LOAD),
                Bytes(RET),
            ],
        ),
        function(
            EXPAND,
            &[Call(LOCK), Call(TABLE), Bytes(LOAD), Call(LOCK), Bytes(RET)],
        ),
        function(TABLE, &[Bytes(LOAD), Bytes(LOAD), Bytes(RET)]),
        function(LOCK, &[Bytes(RET)]),
    ]
}

#[test]
fn what_is_handed_on_has_places_too() {
    let places = found(true, &as_in_6_1()).unwrap();
    let wanted = Places {
        start: ALLOC - 4,
        own: ALLOC + 6 + 15,
        handed_on: Some(EXPAND + 6 + 10),
        behind: vec![EXPAND + 6 + 10],
    };
    assert_eq!(places, wanted);
    assert_eq!(places.offset(), 4 + 6 + 15);
    let places = found(false, &as_in_6_1()).unwrap();
    assert_eq!((places.handed_on, places.behind), (None, vec![]));
}

#[test]
fn none_or_more_are_refused_with_the_reason() {
    let cases: [(usize, &[Part], &str); 7] = [
        (0, &[Call(EXPAND), Bytes(RET)], "no instruction loads"),
        (
            0,
            &[Call(EXPAND), Bytes(LOAD), Bytes(LOAD), Bytes(RET)],
            "more than one",
        ),
        (
            0,
            &[Call(EXPAND), Bytes(LOAD), Bytes(INDIRECT)],
            "only a register",
        ),
        (0, &[Bytes(LOAD), Bytes(RET)], "no function that it calls"),
        (1, &[Call(TABLE), Bytes(RET)], "no function that it calls"),
        (
            1,
            &[Bytes(LOAD), Bytes(LOAD), Bytes(RET)],
            "it calls: more than one",
        ),
        (3, &[Bytes(LOAD), Bytes(RET)], "several functions"),
    ];
    for (index, parts, reason) in cases {
        let mut functions = as_in_6_1();
        functions[index] = function(functions[index].0, parts);
        let error = found(true, &functions).unwrap_err();
        assert!(error.contains(reason), "{error}");
    }
}
