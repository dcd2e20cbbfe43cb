//! Text that a traced process controls, made harmless for a terminal.

use std::fmt::Write;

/// Escapes what could steer a terminal, break a line or hide text: control characters, direction
/// overrides, line separators, invalid UTF-8.
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
            } else if character.is_ascii() {
                let _ = write!(text, "\\x{:02x}", u32::from(character));
            } else {
                let _ = write!(text, "\\u{{{:x}}}", u32::from(character));
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// Can it steer a terminal, break a line or hide text?
pub(super) fn is_hostile(character: char) -> bool {
    let steers_text = matches!(
        character,
        '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
    );
    character.is_control() || steers_text
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

    proptest! {
        #[test]
        fn no_bytes_leave_a_control_character(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let text = printable(&bytes);
            prop_assert!(text.chars().all(|character| !character.is_control()));
        }
    }
}
