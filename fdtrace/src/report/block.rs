//! Labelled lines below a report: a label once, its lines below each other, wrapped where the page ends.

use std::io::{self, Write};

use anstyle::Style;
use textwrap::{Options, WordSeparator, WordSplitter, WrapAlgorithm};

use super::page::{FAINT, Page};

/// Columns before the text of every line.
const INDENT: usize = 11;

/// Lines, in the order in which they were added.
#[derive(Debug, Default)]
pub(super) struct Block {
    lines: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    label: &'static str,
    /// What stands before the text, in a column of its own.
    column: String,
    text: String,
    /// The first word of the text has this style, or all of what is to be typed.
    style: Style,
    /// It is to be typed: as it stands, in one line.
    is_command: bool,
}

impl Block {
    /// A sentence.
    pub(super) fn say(&mut self, label: &'static str, text: impl Into<String>) {
        self.row(label, String::new(), text);
    }

    /// A sentence whose first word matters.
    pub(super) fn call(&mut self, label: &'static str, style: Style, text: impl Into<String>) {
        self.say(label, text);
        if let Some(line) = self.lines.last_mut() {
            line.style = style;
        }
    }

    /// A column and a sentence behind it.
    pub(super) fn row(&mut self, label: &'static str, column: String, text: impl Into<String>) {
        self.lines.push(Line {
            label,
            column,
            text: text.into(),
            style: Style::new(),
            is_command: false,
        });
    }

    /// What is to be typed: it is never wrapped, since half a command must not be run by a line break that was copied.
    pub(super) fn command(&mut self, label: &'static str, style: Style, text: impl Into<String>) {
        self.call(label, style, text);
        if let Some(line) = self.lines.last_mut() {
            line.is_command = true;
        }
    }

    /// Writes all of them.
    pub(super) fn write(&self, output: &mut impl Write, page: Page) -> io::Result<()> {
        let mut before = "";
        for line in &self.lines {
            let label = if line.label == before { "" } else { line.label };
            before = line.label;
            let pad = INDENT.saturating_sub(2 + label.len());
            let first = format!("  {}{:pad$}{}", page.paint(FAINT, label), "", line.column);
            line.write(output, page, &first)?;
        }
        Ok(())
    }
}

impl Line {
    fn write(&self, output: &mut impl Write, page: Page, first: &str) -> io::Result<()> {
        let text = self.painted(page);
        let Some(width) = page.width.filter(|_| !self.is_command) else {
            return writeln!(output, "{}", format!("{first}{text}").trim_end());
        };
        let hang = " ".repeat(INDENT + textwrap::core::display_width(&self.column));
        let options = Options::new(width)
            .initial_indent(first)
            .subsequent_indent(&hang)
            .break_words(false)
            .word_separator(WordSeparator::AsciiSpace)
            .word_splitter(WordSplitter::NoHyphenation)
            .wrap_algorithm(WrapAlgorithm::FirstFit);
        for line in textwrap::wrap(&text, options) {
            writeln!(output, "{}", line.trim_end())?;
        }
        Ok(())
    }

    fn painted(&self, page: Page) -> String {
        if self.is_command {
            return page.paint(self.style, &self.text).into_owned();
        }
        match self.text.split_once(' ') {
            Some((word, rest)) => format!("{} {rest}", page.paint(self.style, word)),
            None => page.paint(self.style, &self.text).into_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::page::BAD;

    fn written(block: &Block, width: Option<usize>, colour: bool) -> String {
        let mut output = Vec::new();
        block.write(&mut output, Page { width, colour }).unwrap();
        String::from_utf8(output).unwrap()
    }

    fn block() -> Block {
        let mut block = Block::default();
        block.call("verdict", BAD, "LEAK of char /dev/null, 20 a second");
        block.row(
            "holds",
            format!("{:>6}  ", 146),
            "file /etc/a-name/that-is/not/broken and more",
        );
        block.row("holds", format!("{:>6}  ", 2), "char /dev/null");
        block.command(
            "now",
            Style::new(),
            "prlimit --pid 18337 --nofile=4096: # in one line",
        );
        block
    }

    #[test]
    fn lines_are_as_long_as_they_are_where_there_is_no_width() {
        assert_eq!(
            written(&block(), None, false),
            "  verdict  LEAK of char /dev/null, 20 a second
  holds       146  file /etc/a-name/that-is/not/broken and more
                2  char /dev/null
  now      prlimit --pid 18337 --nofile=4096: # in one line
"
        );
    }

    #[test]
    fn lines_wrap_at_the_width_never_in_a_word_and_commands_never() {
        assert_eq!(
            written(&block(), Some(40), false),
            "  verdict  LEAK of char /dev/null, 20 a
           second
  holds       146  file
                   /etc/a-name/that-is/not/broken
                   and more
                2  char /dev/null
  now      prlimit --pid 18337 --nofile=4096: # in one line
"
        );
    }

    #[test]
    fn colour_takes_no_place() {
        let coloured = written(&block(), Some(40), true);
        assert!(
            coloured.contains("\x1b[1m\x1b[31mLEAK\x1b[0m of"),
            "{coloured:?}"
        );
        let plain = regex::Regex::new("\x1b\\[[0-9]*m").unwrap();
        assert_eq!(
            plain.replace_all(&coloured, ""),
            written(&block(), Some(40), false)
        );
    }
}
