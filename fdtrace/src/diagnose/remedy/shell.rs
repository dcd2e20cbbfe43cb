//! Words for sh.

use std::borrow::Cow;

/// One word, whatever it holds, quoted where it must be.
pub(super) fn quote(word: &str) -> Cow<'_, str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-:@=+,".contains(&byte);
    if !word.is_empty() && word.bytes().all(is_plain) {
        Cow::Borrowed(word)
    } else {
        Cow::Owned(format!("'{}'", word.replace('\'', "'\\''")))
    }
}

/// Writes lines of a file that is made anew. They hold neither a quote, a backslash nor a percent sign.
pub(super) fn write_file(lines: &[&str], path: &str) -> String {
    format!("printf '{}\\n' > {path}", lines.join("\\n"))
}
