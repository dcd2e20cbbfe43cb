//! Stacks as text: a function a line, the innermost first.

use std::io::{self, Write};

use super::{
    page::{FAINT, Page},
    sanitize::printable,
};
use crate::enrich::stacks::{Frame, Runtime, Stack};

/// What stands below the last function that could be found.
const CUT: &str = "...";

/// One string a function, `function (file:line)`; hostile text in them is as it was.
#[must_use]
pub fn lines(stack: &Stack) -> Vec<String> {
    stack.frames.iter().map(ToString::to_string).collect()
}

/// Functions in a line, the innermost first, as far as it has room for them; those of libraries are faint.
#[must_use]
pub(super) fn line(stack: &Stack, page: Page) -> String {
    let shown = stack.shown();
    let mut words: Vec<_> = shown
        .iter()
        .map(|frame| painted(stack, frame, page))
        .collect();
    let is_longer = stack.from_caller().len() > shown.len() || stack.is_cut;
    if is_longer && !stack.is_of_script_only() {
        words.push(CUT.to_owned());
    }
    with_script(stack, words.join(" < "))
}

/// What an interpreter runs stands before the functions that it runs it with.
pub(super) fn with_script(stack: &Stack, functions: String) -> String {
    match &stack.script {
        // The functions of its language name their files themselves.
        Some(script) if !stack.is_interpreted() => {
            let script = printable(script.as_bytes());
            if functions.is_empty() {
                script
            } else {
                format!("{script}: {functions}")
            }
        }
        _ => functions,
    }
}

fn painted(stack: &Stack, frame: &Frame, page: Page) -> String {
    let text = printable(frame.to_string().as_bytes());
    if stack.is_of_library(frame) {
        page.paint(FAINT, &text).into_owned()
    } else {
        text
    }
}

/// What would give names to the functions of a process that have none in this stack.
#[must_use]
pub(super) fn names(stack: &Stack, pid: u32) -> Option<String> {
    let how = match stack.nameless? {
        Runtime::Node => {
            "start node with --perf-basic-prof-only-functions --interpreted-frames-native-stack to see functions of \
             JavaScript here"
                .to_owned()
        }
        Runtime::Java => format!(
            "run jcmd {pid} Compiler.perfmap (JDK 17 and newer) to see functions of Java here from then on"
        ),
        Runtime::JavaWithoutFrames => format!(
            "start the JVM with -XX:+PreserveFramePointer, then run jcmd PID Compiler.perfmap (JDK 17 and newer) to see \
             functions of Java here; without the option, jcmd {pid} Compiler.perfmap names only the innermost ones"
        ),
        Runtime::DotNet => {
            "start it with DOTNET_PerfMapEnabled=1 to see functions of .NET here".to_owned()
        }
        Runtime::Python => {
            "fdtrace cannot read functions of this Python, which is free-threaded or of a version that it does not know: \
             from 3.12 on, start it with PYTHONPERFSUPPORT=1"
                .to_owned()
        }
    };
    Some(how)
}

/// Lines below another one, from the first function on that is none of a library's ways into the kernel.
pub(super) fn write_text(
    output: &mut impl Write,
    stack: &Stack,
    pid: u32,
    page: Page,
) -> io::Result<()> {
    const INDENT: &str = "                     ";
    if let Some(script) = stack.script.as_ref().filter(|_| !stack.is_interpreted()) {
        writeln!(output, "{INDENT}{}", printable(script.as_bytes()))?;
    }
    for frame in stack.from_caller() {
        let inlined = if frame.is_inlined { " inlined" } else { "" };
        let text = painted(stack, frame, page);
        writeln!(output, "{INDENT}{text}{inlined}")?;
    }
    if stack.is_cut {
        writeln!(output, "{INDENT}{CUT}")?;
    }
    if let Some(how) = names(stack, pid) {
        writeln!(output, "{INDENT}({how})")?;
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
            ..Stack::default()
        };
        let mut text = Vec::new();
        write_text(&mut text, &stack, 7, Page::PLAIN).unwrap();
        let text = String::from_utf8(text).unwrap();
        let lines: Vec<_> = text.lines().map(str::trim).collect();
        assert_eq!(lines, ["/srv/app.py", "a\\x1b[2Jb\\x0ac", "main", "..."]);
        assert_eq!(super::lines(&stack).len(), 3);
    }

    #[test]
    fn functions_of_libraries_are_faint_where_there_is_colour() {
        let frame = |function: &str, file: &str| Frame {
            function: Some(function.to_owned()),
            file: Some(file.to_owned()),
            is_interpreted: true,
            ..Frame::default()
        };
        let stack = Stack {
            frames: vec![
                frame("urlopen", "/usr/lib/python3.11/urllib/request.py"),
                frame("fetch", "/srv/app.py"),
                frame("run", "/usr/lib/python3.11/threading.py"),
                frame("get", "/v/lib/python3.11/site-packages/flask/app.py"),
            ],
            ..Stack::default()
        };
        let page = Page {
            colour: true,
            ..Page::PLAIN
        };
        let expected = "fetch (/srv/app.py) < \x1b[2mrun (/usr/lib/python3.11/threading.py)\x1b[0m \
                        < \x1b[2mget (/v/lib/python3.11/site-packages/flask/app.py)\x1b[0m";
        assert_eq!(line(&stack, page), expected);
        assert!(!line(&stack, Page::PLAIN).contains('\x1b'));
    }

    /// What is to be typed names the process.
    #[test]
    fn what_would_give_names_can_be_typed() {
        let stack = |nameless| Stack {
            nameless,
            ..Stack::default()
        };
        assert_eq!(names(&stack(None), 7), None);
        let java = names(&stack(Some(Runtime::Java)), 7).unwrap();
        assert!(java.starts_with("run jcmd 7 Compiler.perfmap "), "{java}");
        let java = names(&stack(Some(Runtime::JavaWithoutFrames)), 7).unwrap();
        assert!(java.contains(" jcmd 7 Compiler.perfmap names "), "{java}");
        let mut text = Vec::new();
        write_text(&mut text, &stack(Some(Runtime::Node)), 7, Page::PLAIN).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(
            text.trim()
                .starts_with("(start node with --perf-basic-prof"),
            "{text}"
        );
    }
}
