//! Text that a traced process controls, made harmless for a terminal.

use std::fmt::Write;

/// Escapes what could steer a terminal, break a line or hide text: control characters, direction
/// overrides, line separators, characters that are not seen, invalid UTF-8.
#[must_use]
pub fn printable(bytes: &[u8]) -> String {
    if let Ok(text) = str::from_utf8(bytes)
        && bytes
            .iter()
            .all(|byte| matches!(byte, b' '..=b'~') && *byte != b'\\')
    {
        return text.to_owned();
    }
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if !is_hostile(character) && character != '\\' {
                text.push(character);
            } else {
                escape(&mut text, character);
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// A line of fdtrace's own, which may hold untrusted text, of whatever number of lines it was made: line
/// breaks and tabs become spaces, the rest is escaped as by [`printable`]. Backslashes stay as they are: parts
/// of it may be escaped already.
#[must_use]
pub fn one_line(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    for character in line.trim_end().chars() {
        match character {
            '\n' | '\r' | '\t' => text.push(' '),
            _ if is_hostile(character) => escape(&mut text, character),
            _ => text.push(character),
        }
    }
    text
}

fn escape(text: &mut String, character: char) {
    let code = u32::from(character);
    // Writing to a string cannot fail.
    let _ = if character.is_ascii() {
        write!(text, "\\x{code:02x}")
    } else {
        write!(text, "\\u{{{code:x}}}")
    };
}

/// Ranges of characters that steer text or are not seen, by number.
///
/// The general categories Cf (format), Zl and Zp (line and paragraph separators), Zs (spaces) but for the space
/// itself; the property `Default_Ignorable_Code_Point`, which has variation selectors, fillers and tags; and the
/// braille pattern without a dot, which looks like a space. Of Unicode 16; noncharacters are worked out.
const UNSEEN: &[(u32, u32)] = &[
    (0x00a0, 0x00a0),
    (0x00ad, 0x00ad),
    (0x034f, 0x034f),
    (0x0600, 0x0605),
    (0x061c, 0x061c),
    (0x06dd, 0x06dd),
    (0x070f, 0x070f),
    (0x0890, 0x0891),
    (0x08e2, 0x08e2),
    (0x115f, 0x1160),
    (0x1680, 0x1680),
    (0x17b4, 0x17b5),
    (0x180b, 0x180f),
    (0x2000, 0x200f),
    (0x2028, 0x202f),
    (0x205f, 0x206f),
    (0x2800, 0x2800),
    (0x3000, 0x3000),
    (0x3164, 0x3164),
    (0xfe00, 0xfe0f),
    (0xfeff, 0xfeff),
    (0xffa0, 0xffa0),
    (0xfff0, 0xfffb),
    (0x1_10bd, 0x1_10bd),
    (0x1_10cd, 0x1_10cd),
    (0x1_3430, 0x1_343f),
    (0x1_bca0, 0x1_bca3),
    (0x1_d173, 0x1_d17a),
    (0xe_0000, 0xe_0fff),
];

/// Can it steer a terminal, break a line or hide text?
pub(super) fn is_hostile(character: char) -> bool {
    if character.is_ascii() {
        return character.is_ascii_control();
    }
    let code = u32::from(character);
    let after = UNSEEN.partition_point(|(first, _)| *first <= code);
    let range = after.checked_sub(1).and_then(|index| UNSEEN.get(index));
    let is_nonchar = code & 0xfffe == 0xfffe || matches!(code, 0xfdd0..=0xfdef);
    character.is_control() || range.is_some_and(|(_, last)| code <= *last) || is_nonchar
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_steers_a_terminal_is_spelled_out() {
        assert_eq!(printable(b"nginx: worker"), "nginx: worker");
        assert_eq!(printable(b"\x1b[2Jx\n\r\t"), "\\x1b[2Jx\\x0a\\x0d\\x09");
        assert_eq!(
            printable("käfer\u{202e}gpj.exe".as_bytes()),
            "käfer\\u{202e}gpj.exe"
        );
        assert_eq!(printable(b"a\xff\xfeb"), "a\\xff\\xfeb");
        assert_eq!(printable("\u{9b}31m".as_bytes()), "\\u{9b}31m");
        assert_eq!(printable(b"C:\\x1b"), "C:\\x5cx1b");
    }

    /// The table against Unicode's own, as `regex` has it.
    #[test]
    fn every_character_of_these_classes_is_escaped_and_no_other() {
        let classes = r"^[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Zs}\p{Default_Ignorable_Code_Point}\p{NChar}\x{2800}&&[^ ]]$";
        let classes = regex::Regex::new(classes).unwrap();
        let mut buffer = [0; 4];
        let wrong: Vec<_> = ('\0'..=char::MAX)
            .filter(|character| {
                is_hostile(*character) != classes.is_match(character.encode_utf8(&mut buffer))
            })
            .map(u32::from)
            .collect();
        assert_eq!(wrong, [0_u32; 0], "{wrong:x?}");
    }

    #[test]
    fn what_is_not_seen_is_spelled_out() {
        for code in [
            0xad, 0x180e, 0x3164, 0xe_0000, 0xe_0041, 0xe_007f, 0x115f, 0xffa0, 0xfe0f,
        ] {
            let character = char::from_u32(code).unwrap();
            let text = format!("a{character}b");
            let expected = format!("a\\u{{{code:x}}}b");
            assert_eq!(printable(text.as_bytes()), expected);
            assert_eq!(one_line(&text), expected);
        }
    }

    #[test]
    fn a_line_stays_one_and_what_is_escaped_is_so_once() {
        assert_eq!(one_line("bad:\n\tline two\n"), "bad:  line two");
        assert_eq!(one_line("a\\x1b\x1b[2J"), "a\\x1b\\x1b[2J");
    }

    proptest! {
        #[test]
        fn no_bytes_leave_a_control_character(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let text = printable(&bytes);
            prop_assert!(!text.contains(is_hostile));
            prop_assert!(!one_line(&String::from_utf8_lossy(&bytes)).contains(is_hostile));
        }
    }
}
