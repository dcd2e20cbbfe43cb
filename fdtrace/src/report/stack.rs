//! Stacks as text: a function a line, the innermost first.

use std::io::{self, Write};

use super::sanitize::printable;
use crate::enrich::stacks::Stack;

/// What stands below the last function that could be found.
const CUT: &str = "...";

/// One string a function, `function (file:line)`; hostile text in them is as it was.
#[must_use]
pub fn lines(stack: &Stack) -> Vec<String> {
    stack.frames.iter().map(ToString::to_string).collect()
}

/// Lines below another one, from the first function on that is none of a library's ways into the kernel.
pub fn write_text(output: &mut impl Write, stack: &Stack) -> io::Result<()> {
    const INDENT: &str = "                     ";
    if let Some(script) = &stack.script {
        writeln!(output, "{INDENT}{}", printable(script.as_bytes()))?;
    }
    for frame in stack.from_caller() {
        let inlined = if frame.is_inlined { " inlined" } else { "" };
        let text = printable(frame.to_string().as_bytes());
        writeln!(output, "{INDENT}{text}{inlined}")?;
    }
    if stack.is_cut {
        writeln!(output, "{INDENT}{CUT}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::enrich::stacks::Frame;

    #[test]
    fn the_caller_comes_first_and_hostile_text_stays_in_its_line() {
        let frame = |function: &str, is_wrapper| Frame {
            function: Some(function.to_owned()),
            is_wrapper,
            ..Frame::default()
        };
        let stack = Stack {
            frames: vec![
                frame("open64", true),
                frame("a\x1b[2Jb\nc", false),
                frame("main", false),
            ],
            is_cut: true,
            script: Some("/srv/app.py".to_owned()),
        };
        let mut text = Vec::new();
        write_text(&mut text, &stack).unwrap();
        let text = String::from_utf8(text).unwrap();
        let lines: Vec<_> = text.lines().map(str::trim).collect();
        assert_eq!(lines, ["/srv/app.py", "a\\x1b[2Jb\\x0ac", "main", "..."]);
        assert_eq!(super::lines(&stack).len(), 3);
    }
}
