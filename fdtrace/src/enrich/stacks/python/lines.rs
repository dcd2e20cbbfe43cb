//! Tables of lines: which line an instruction is of. Any bytes are one.

/// How a table is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `co_lnotab`, up to 3.9: `Objects/lnotab_notes.txt`.
    Lnotab,
    /// `co_linetable` of 3.10: the same file there.
    Ranges,
    /// `co_linetable` since 3.11: `Objects/locations.md`.
    Locations,
}

/// The line of the instruction that lies so many bytes behind the code's beginning; `None` where the table says none.
#[must_use]
pub fn line(format: Format, first: u32, table: &[u8], instruction: u32) -> Option<u32> {
    let (first, at) = (i64::from(first), u64::from(instruction));
    let line = match format {
        Format::Lnotab => Some(lnotab(first, table, at)),
        Format::Ranges => ranges(first, table, at),
        Format::Locations => locations(first, table, at),
    };
    line.and_then(|line| u32::try_from(line).ok())
        .filter(|line| *line > 0)
}

/// Pairs: bytes of code until the line changes, and by how much.
fn lnotab(first: i64, table: &[u8], at: u64) -> i64 {
    let (mut line, mut address) = (first, 0_u64);
    let (pairs, _) = table.as_chunks::<2>();
    for [bytes, lines] in pairs {
        address += u64::from(*bytes);
        if address > at {
            break;
        }
        line += i64::from(lines.cast_signed());
    }
    line
}

/// Pairs: bytes of code that a line has, and by how much it differs from the line before; -128: they have none.
fn ranges(first: i64, table: &[u8], at: u64) -> Option<i64> {
    const NO_LINE: i8 = -128;
    let (mut line, mut end) = (first, 0_u64);
    let (pairs, _) = table.as_chunks::<2>();
    for [bytes, lines] in pairs {
        let lines = lines.cast_signed();
        if lines != NO_LINE {
            line += i64::from(lines);
        }
        end += u64::from(*bytes);
        if end > at {
            return (lines != NO_LINE).then_some(line);
        }
    }
    None
}

/// Entries: a byte with how it goes on and for how much code it stands, then what belongs to it.
fn locations(first: i64, table: &[u8], at: u64) -> Option<i64> {
    let (mut line, mut end) = (first, 0_u64);
    let mut rest = table;
    while let Some((head, after)) = rest.split_first() {
        rest = after;
        let units = u64::from(head & 7) + 1;
        let mut has_line = true;
        match (head >> 3) & 15 {
            // Short and one-line forms: columns follow, one byte or two.
            0..=9 => rest = rest.get(1..)?,
            kind @ 10..=12 => {
                line += i64::from(kind) - 10;
                rest = rest.get(2..)?;
            }
            kind @ (13 | 14) => {
                line = line.checked_add(signed(varint(&mut rest)?))?;
                if kind == 14 {
                    for _ in 0..3 {
                        varint(&mut rest)?;
                    }
                }
            }
            _ => has_line = false,
        }
        end += units * 2;
        if end > at {
            return has_line.then_some(line);
        }
    }
    None
}

/// Six bits a byte, the lowest first; the seventh says that there are more.
fn varint(rest: &mut &[u8]) -> Option<u64> {
    let (mut value, mut shift) = (0_u64, 0_u32);
    loop {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 63) << shift;
        shift += 6;
        if byte & 64 == 0 {
            return Some(value);
        }
        if shift > 36 {
            return None;
        }
    }
}

/// The lowest bit is the sign.
fn signed(value: u64) -> i64 {
    let half = (value >> 1).cast_signed();
    if value & 1 == 1 { -half } else { half }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    // As the interpreters have compiled it: `def f():` at line 5, then a call at 6 and, after a gap, at 300.
    #[test]
    fn each_format_says_the_line() {
        let lnotab = |at| {
            line(
                Format::Lnotab,
                5,
                &[0, 1, 8, 127, 0, 127, 0, 40, 8, 0xf6],
                at,
            )
        };
        assert_eq!(
            [0, 7, 8, 15, 16].map(lnotab),
            [6, 6, 300, 300, 290].map(Some)
        );
        let ranges = |at| line(Format::Ranges, 5, &[0, 1, 8, 0, 4, 0x80, 4, 2], at);
        assert_eq!(
            [0, 7, 8, 12, 16].map(ranges),
            [Some(6), Some(6), None, Some(8), None]
        );
        // RESUME at the first line; a call one line on; none; a long form 300 on; back by 2 without columns.
        let table = [
            0x80, 0x00, 0xdb, 0x04, 0x10, 0xf8, 0xf0, 0x58, 0x09, 0x00, 0x00, 0x00, 0xe8, 0x05,
        ];
        let locations = |at| line(Format::Locations, 5, &table, at);
        let found = [0, 2, 9, 10, 12, 14].map(locations);
        assert_eq!(
            found,
            [Some(5), Some(6), Some(6), None, Some(306), Some(304)]
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_table(bytes: Vec<u8>, first: u32, at: u32) {
            for format in [Format::Lnotab, Format::Ranges, Format::Locations] {
                let _ = line(format, first, &bytes, at);
            }
        }
    }
}
