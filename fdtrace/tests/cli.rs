//! The command line as people and scripts meet it: help, bad usage, bad conditions.
//!
//! What is said where it goes well is the kernel tests' business.

use std::{
    fs,
    io::{Write, stdout},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use insta::assert_snapshot;

const FDTRACE: &str = env!("CARGO_BIN_EXE_fdtrace");
/// nobody's, everywhere.
const NOBODY: u32 = 65_534;

fn run(arguments: &[&str]) -> Output {
    output(Command::new(FDTRACE).args(arguments))
}

fn output(command: &mut Command) -> Output {
    // Help is as wide as the terminal that COLUMNS tells of.
    command
        .env_remove("COLUMNS")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// `fdtrace`, with stdout redirected as a shell does it.
fn redirected(arguments: &str, redirection: &str) -> Output {
    let script = format!("exec \"$0\" {arguments} {redirection}");
    output(Command::new("sh").args(["-c", &script, FDTRACE]))
}

/// What stands on stdout of a success.
fn answer(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The one line of an error.
fn complaint(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(text.lines().count(), 1, "{text:?}");
    assert!(
        text.ends_with('\n') && !text.trim_end().contains(char::is_control),
        "{text:?}"
    );
    let line = text.trim_end().strip_prefix("fdtrace: ");
    line.unwrap_or_else(|| panic!("{text:?}")).to_owned()
}

fn refused(arguments: &[&str]) -> String {
    complaint(&run(arguments))
}

/// May this test load programs? Says so where not.
fn is_root(test: &str) -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        // Past the test harness, which would keep it to itself.
        let _ = writeln!(stdout(), "skipped: cli: {test}: needs root");
    }
    is_root
}

/// A copy of fdtrace that nobody may run, wherever the build lies; removed when dropped.
struct Copy(PathBuf);

impl Copy {
    fn new(test: &str) -> Self {
        let name = format!("fdtrace-{test}-{}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir(&directory).unwrap();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
        fs::copy(FDTRACE, directory.join("fdtrace")).unwrap();
        Self(directory)
    }

    /// Runs it as a user without any right.
    fn run_as_nobody(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(self.0.join("fdtrace"));
        output(
            command
                .args(arguments)
                .current_dir("/")
                .uid(NOBODY)
                .gid(NOBODY),
        )
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn help_in_full() {
    assert_snapshot!(answer(&["--help"]));
}

#[test]
fn help_in_short() {
    assert_snapshot!(answer(&["-h"]));
}

#[test]
fn help_of_watch() {
    assert_snapshot!(answer(&["watch", "--help"]));
}

#[test]
fn help_of_doctor() {
    assert_snapshot!(answer(&["doctor", "--help"]));
}

#[test]
fn version_is_one_line() {
    let expected = format!("fdtrace {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(answer(&["--version"]), expected);
    assert_eq!(answer(&["-V"]), expected);
}

#[test]
fn man_page_has_every_section() {
    let page = answer(&["--man-page"]);
    let sections: Vec<_> = page
        .lines()
        .filter(|line| line.starts_with(".SH"))
        .collect();
    assert_snapshot!(sections.join("\n"));
    for flag in ["\\-\\-pid", "\\-\\-once", "\\-\\-backend"] {
        assert!(page.contains(flag), "{flag}");
    }
}

#[test]
fn every_command_has_a_page() {
    let help = answer(&["--help"]);
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let commands = commands.take_while(|line| !line.is_empty());
    let names = commands.filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    let names: Vec<_> = names.filter(|name| !["", "help"].contains(name)).collect();
    assert!(names.contains(&"watch") && names.contains(&"ls"), "{help}");
    for name in names {
        let page = answer(&[&format!("--man-page={name}")]);
        let title = format!(".TH fdtrace-{name} 1");
        assert!(page.contains(&title), "{page}");
        assert!(
            page.contains(&format!("fdtrace {name}"))
                || page.contains(&format!("fdtrace\\-{name}")),
            "{page}"
        );
    }
    let refusal = refused(&["--man-page=nonsense"]);
    assert!(
        refusal.starts_with("no command nonsense: there are watch, "),
        "{refusal}"
    );
}

#[test]
fn bad_usage() {
    let long_name = "x".repeat(16);
    let cases: [&[&str]; 31] = [
        &["-d", "0"],
        &["-d", "soon"],
        &["-d"],
        &["-p", "abc"],
        &["-p", "0"],
        &["-p", "-1"],
        &["-p", ""],
        &["-p", "1,,2"],
        &["-u", "www-data"],
        &["-n", ""],
        &["-n", &long_name],
        &["--follow"],
        &["--backend", "uprobe"],
        &["--nonsense"],
        &["nonsense"],
        &["wach"],
        &["--jsn"],
        &["ls", "--kind", "foo"],
        &["ls", "--kind", "pip"],
        &["trace", "--op", "shut"],
        &["record", "-o", "x", "--stacks", "some"],
        &["watch", "nonsense"],
        &["doctor", "-p", "1"],
        &["-p", "1", "watch"],
        &["-q", "-v"],
        &["--once", "--once"],
        &["-p", "a\nb"],
        &["-p", "\u{1b}[2J"],
        &["\u{1b}[2J"],
        &["leaks", "--"],
        &["leaks", "--fail", "--"],
    ];
    let lines = cases.map(|arguments| {
        let typed: Vec<_> = arguments
            .iter()
            .map(|text| text.escape_debug().to_string())
            .collect();
        format!("{}\n    {}", typed.join(" "), refused(arguments))
    });
    assert_snapshot!(lines.join("\n"));
}

#[test]
fn processes_and_cgroups_that_are_not_there() {
    if !is_root("processes_and_cgroups_that_are_not_there") {
        return;
    }
    // Beyond the largest pid_max.
    let line = refused(&["-p", "4194305"]);
    assert_eq!(
        line,
        "no process 4194305: it has ended, or the number is not one of this pid namespace"
    );
    let line = refused(&["--cgroup", "/no/such/cgroup"]);
    assert!(line.contains("cgroup") && line.contains("give"), "{line}");
    // `complaint` looks for control characters.
    refused(&["--cgroup", "/\u{1b}[2J\u{7f}\n"]);
    // Whether or not there is a v2 hierarchy: a directory, but none of it.
    let line = refused(&["--cgroup", "/usr"]);
    assert!(line.contains("cgroup"), "{line}");
}

#[test]
fn a_thread_is_no_process() {
    if !is_root("a_thread_is_no_process") {
        return;
    }
    let own = std::process::id();
    let thread = rustix::thread::gettid().as_raw_nonzero().get().to_string();
    // Tests run on threads of their own.
    assert_ne!(thread, own.to_string());
    let line = refused(&["-p", &thread]);
    assert_eq!(
        line,
        format!("{thread} is a thread of process {own}: give --pid {own}")
    );
}

#[test]
fn types_from_a_file_that_is_none() {
    if !is_root("types_from_a_file_that_is_none") {
        return;
    }
    let line = refused(&["--btf", "/no/such/file"]);
    assert!(line.contains("/no/such/file: No such file"), "{line}");
    for garbage in ["/etc/passwd", "/dev/null", FDTRACE] {
        let line = refused(&["--btf", garbage]);
        assert!(line.contains(garbage), "{line}");
    }
}

#[test]
fn stdout_that_takes_nothing() {
    let closed = "stdout is closed, nothing could be reported: redirect it to a file or a pipe";
    let full = "writing to stdout: No space left on device (os error 28)";
    for arguments in [
        "--help",
        "--version",
        "--man-page",
        "",
        "-d 1",
        "doctor",
        "doctor --json",
    ] {
        assert_eq!(
            complaint(&redirected(arguments, ">&-")),
            closed,
            "{arguments}"
        );
    }
    for arguments in [
        "--help",
        "--version",
        "--man-page",
        "doctor",
        "doctor --json",
    ] {
        assert_eq!(
            complaint(&redirected(arguments, ">/dev/full")),
            full,
            "{arguments}"
        );
    }
    if is_root("stdout_that_takes_nothing") {
        for arguments in ["-q -d 10", "-q -d 1 --json"] {
            assert_eq!(
                complaint(&redirected(arguments, ">/dev/full")),
                full,
                "{arguments}"
            );
        }
    }
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let mut commands = vec![
        "--help",
        "--version",
        "--man-page",
        "doctor",
        "doctor --json",
    ];
    if is_root("a_reader_that_leaves_is_no_error") {
        commands.extend(["-q -d 10", "-q -d 1 --json"]);
    }
    for arguments in commands {
        // A pipe without a reader: what `| true` becomes a moment later.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let arguments: Vec<_> = arguments.split(' ').collect();
        let mut command = Command::new(FDTRACE);
        let output = command.args(&arguments).stdin(Stdio::null()).stdout(writer);
        let output = output
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
            .wait_with_output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {output:?}");
        assert!(output.stderr.is_empty(), "{arguments:?}: {output:?}");
    }
}

#[test]
fn without_rights_it_says_which_and_how_to_get_them() {
    if !is_root("without_rights_it_says_which_and_how_to_get_them") {
        return;
    }
    let fdtrace = Copy::new("rights");
    let line = complaint(&fdtrace.run_as_nobody(&[]));
    assert_eq!(
        line,
        format!(
            "CAP_BPF and CAP_PERFMON missing: run fdtrace as root (sudo fdtrace …), or allow it to \
             everybody who can run the program (sudo setcap cap_bpf,cap_perfmon=ep {}/fdtrace)",
            fdtrace.0.display()
        )
    );
    // What is wrong for everybody is said first.
    for (arguments, expected) in [
        (["-d", "0"], "--duration"),
        (["-p", "abc"], "--pid"),
        (["-n", "0123456789abcdef"], "--comm"),
        (["-f", "-q"], "--follow"),
    ] {
        let line = complaint(&fdtrace.run_as_nobody(&arguments));
        assert!(line.contains(expected) && !line.contains("CAP_"), "{line}");
    }
    let help = fdtrace.run_as_nobody(&["--help"]);
    assert_eq!((help.status.code(), help.stderr.len()), (Some(0), 0));
    let doctor = fdtrace.run_as_nobody(&["doctor"]);
    let text = String::from_utf8_lossy(&doctor.stdout);
    assert_eq!(doctor.status.code(), Some(1), "{doctor:?}");
    assert!(text.contains("missing CAP_BPF, CAP_PERFMON"), "{text}");
}

#[test]
fn a_forced_backend_that_does_not_work_says_why() {
    let test = "a_forced_backend_that_does_not_work_says_why";
    if !is_root(test) {
        return;
    }
    let doctor = run(&["doctor", "--json"]);
    let findings: serde_json::Value = serde_json::from_slice(&doctor.stdout).unwrap();
    let backends = findings["backends"].as_array().unwrap();
    let mut refused_ones = 0;
    for backend in backends.iter().filter(|backend| backend["works"] == false) {
        refused_ones += 1;
        let name = backend["name"].as_str().unwrap();
        let reason = backend["reason"].as_str().unwrap();
        let line = refused(&["--backend", name]);
        assert_eq!(line, format!("{name} does not work here: {reason}"));
        assert!(!reason.is_empty());
    }
    if refused_ones == 0 {
        let _ = writeln!(stdout(), "skipped: cli: {test}: every backend works here");
    }
}

#[test]
fn what_is_no_recording_is_refused_in_one_line() {
    for command in ["watch", "trace", "audit"] {
        let refused = |path: &str| complaint(&run(&[command, "--replay", path]));
        let elf = refused(FDTRACE);
        assert!(elf.ends_with("this is no recording of fdtrace's"), "{elf}");
        let empty = refused("/dev/null");
        assert!(
            empty.ends_with("this is no recording of fdtrace's"),
            "{empty}"
        );
        let nothing = refused("/nowhere/web.fdtrace");
        assert!(
            nothing.contains("opening /nowhere/web.fdtrace"),
            "{nothing}"
        );
    }
    let later = std::env::temp_dir().join(format!("fdtrace-later-{}", std::process::id()));
    fs::write(&later, "fdtrace recording 2\n\0\0\0").unwrap();
    let refused = complaint(&run(&["--replay", later.to_str().unwrap()]));
    fs::remove_file(&later).unwrap();
    assert!(
        refused.ends_with("a recording of version 2, and this fdtrace reads version 1"),
        "{refused}"
    );
}

#[test]
fn filters_that_no_recording_answers_are_refused() {
    let refused = complaint(&run(&["--replay", "x", "--cgroup", "system.slice"]));
    assert!(
        refused.contains("--cgroup to `fdtrace record`"),
        "{refused}"
    );
}
