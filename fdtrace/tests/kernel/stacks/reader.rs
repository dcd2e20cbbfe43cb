//! The process that reads programs: it may be killed, it ends with fdtrace, and what is huge takes no memory.

use std::{
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use libtest_mimic::Trial;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{
    super::{Setting, ensure, tracer::Tracer, trial},
    VICTIMS, end, has, in_c, is_null, trace,
};

/// Bytes that neither of the two processes comes near.
const MEMORY: u64 = 100 << 20;
/// Bytes of the sections of a program that has been made larger.
const HUGE: u64 = 700 << 20;

pub(super) fn trials(setting: &Setting) -> Vec<Trial> {
    let test = |name: &str, test: fn(&Setting) -> Result<(), String>| {
        let setting = setting.clone();
        trial(format!("stacks::{name}"), move || test(&setting))
    };
    vec![
        test("reader_is_killed", killed),
        test("reader_ends_with_fdtrace", ends_with_fdtrace),
        test("of_program_with_huge_sections", huge_sections),
    ]
}

fn field(pid: u32, name: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().to_owned())
}

/// The process that reads programs for this fdtrace.
fn reader_of(tracer: &Tracer) -> Result<u32, String> {
    let parent = tracer.pid().to_string();
    let folder = fs::read_dir("/proc").map_err(|error| error.to_string())?;
    let mut pids = folder.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let reader = pids.find(|pid| {
        field(*pid, "PPid:").as_ref() == Some(&parent)
            && field(*pid, "Name:").as_deref() == Some("fdtrace-elf")
            && field(*pid, "State:").is_some_and(|state| !state.starts_with('Z'))
    });
    reader.ok_or_else(|| "fdtrace has no process that reads programs".to_owned())
}

fn kill(pid: u32) -> Result<(), String> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    kill_process(pid.ok_or("no pid")?, Signal::KILL).map_err(|error| error.to_string())
}

/// What a new run of the program opens has its names.
fn is_named(tracer: &Tracer, program: &Path) -> Result<(), String> {
    let victim = start(program)?;
    let pid = victim.id();
    let event = tracer.wait_for(|object| object["pid"] == pid && is_null(object))?;
    end(victim)?;
    has(&event, &in_c())
}

fn start(program: &Path) -> Result<Child, String> {
    let mut command = Command::new(program);
    command
        .arg("1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    command
        .spawn()
        .map_err(|error| format!("{command:?}: {error}"))
}

/// Another one takes its place, which is said, and neither of them shows.
fn killed(setting: &Setting) -> Result<(), String> {
    // In scope as those two are.
    let program = Copied::new("fdtrace-victim")?;
    let tracer = trace(setting, &["--stacks", "always", "--comm", "fdtrace"])?;
    is_named(&tracer, &program.path)?;
    let first = reader_of(&tracer)?;
    kill(first)?;
    is_named(&tracer, &program.path)?;
    tracer.wait_until_said("another one has taken its place")?;
    let second = reader_of(&tracer)?;
    ensure(first != second, || format!("{first} is still there"))?;
    let ended = tracer.stop()?;
    ensure(ended.stderr.matches("has ended").count() == 1, || {
        ended.stderr.clone()
    })?;
    let mut objects = ended.objects.iter();
    let own =
        objects.find(|object| object["type"] == "fd_event" && object["comm"] != "fdtrace-victim");
    ensure(own.is_none(), || format!("it shows: {own:?}"))?;
    ensure(field(second, "PPid:").is_none(), || "it is left".to_owned())
}

fn ends_with_fdtrace(setting: &Setting) -> Result<(), String> {
    let tracer = trace(setting, &["--stacks", "always", "--comm", "plain"])?;
    is_named(&tracer, &Path::new(VICTIMS).join("plain"))?;
    let reader = reader_of(&tracer)?;
    let own = field(reader, "Name:");
    tracer.kill()?;
    let start = Instant::now();
    while field(reader, "Name:") == own
        && field(reader, "State:").is_some_and(|state| !state.starts_with('Z'))
    {
        ensure(start.elapsed() < Duration::from_secs(10), || {
            "it is left".to_owned()
        })?;
        sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// A victim of another name; removed when dropped.
struct Copied {
    path: PathBuf,
}

impl Copied {
    fn new(name: &str) -> Result<Self, String> {
        let folder = format!("fdtrace-copied-{}-{name}", std::process::id());
        let folder = std::env::temp_dir().join(folder);
        let copied = Self {
            path: folder.join(name),
        };
        let copy = || {
            fs::create_dir_all(&folder)?;
            fs::copy(format!("{VICTIMS}/plain"), &copied.path)
        };
        copy().map_err(|error| format!("{}: {error}", folder.display()))?;
        Ok(copied)
    }

    /// Sections with symbols, unwind and debug information are as large as the file.
    fn make_sparse(&self) -> std::io::Result<()> {
        let bytes = fs::read(&self.path)?;
        let word = |at: usize| {
            let word = bytes.get(at..at + 8).unwrap_or(&[0; 8]);
            usize::from_le_bytes(word.try_into().unwrap_or_default())
        };
        // `e_shoff`, `e_shnum`; `sh_type`, `sh_size`: elf(5).
        let (table, count) = (word(40), word(60) & 0xffff);
        let file = fs::OpenOptions::new().write(true).open(&self.path)?;
        for section in (0..count).map(|index| table + index * 64) {
            let (kind, place) = (word(section + 4) & 0xffff_ffff, word(section + 24));
            // All but notes, relocations and what is in memory alone; names of sections come last.
            let is_read =
                [1, 2, 3, 11].contains(&kind) && place != 0 && section != table + (count - 1) * 64;
            if is_read {
                file.write_all_at(&HUGE.to_le_bytes(), section as u64 + 32)?;
            }
        }
        file.set_len(2 * HUGE)
    }
}

impl Drop for Copied {
    fn drop(&mut self) {
        let _ = self.path.parent().map(fs::remove_dir_all);
    }
}

/// It goes without names, and the next one has them.
fn huge_sections(setting: &Setting) -> Result<(), String> {
    let program = Copied::new("plain")?;
    program.make_sparse().map_err(|error| error.to_string())?;
    let tracer = trace(setting, &["--stacks", "always", "--comm", "plain"])?;
    let sparse = start(&program.path)?;
    let pid = sparse.id();
    let event = tracer.wait_for(|object| object["pid"] == pid && is_null(object))?;
    let stack = event["stack"].as_array().map_or(&[][..], Vec::as_slice);
    let of_program = |frame: &Value| {
        frame
            .as_str()
            .is_some_and(|frame| frame.contains("leak_one"))
    };
    ensure(!stack.is_empty() && !stack.iter().any(of_program), || {
        event.to_string()
    })?;
    is_named(&tracer, &Path::new(VICTIMS).join("plain"))?;
    let memory = tracer.memory()?;
    let reader = field(reader_of(&tracer)?, "RssAnon:").unwrap_or_default();
    let of_reader = reader
        .strip_suffix(" kB")
        .and_then(|kilobytes| kilobytes.parse::<u64>().ok());
    let of_reader = of_reader.ok_or(reader)? << 10;
    ensure(memory < MEMORY && of_reader < MEMORY, || {
        format!("{memory} and {of_reader} bytes")
    })?;
    end(sparse)?;
    tracer.stop().map(drop)
}
