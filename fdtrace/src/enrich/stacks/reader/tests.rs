use std::{fs, os::unix::fs::FileExt, rc::Rc};

use fdtrace_common::stack::{REGISTER_IP, REGISTER_SP};
use object::elf::{SHT_DYNSYM, SHT_PROGBITS, SHT_STRTAB, SHT_SYMTAB};
use rustix::net::sockopt::socket_type;

use super::{
    super::{
        elf::tests::{CODE, Content, Made, Program},
        image::Mapping,
        imports::Imports,
        module::Modules,
    },
    *,
};

/// No test: the reader process of the others, which is started from their executable.
#[test]
fn process() {
    let stdin = io::stdin();
    if socket_type(&stdin) == Ok(SocketType::SEQPACKET) {
        serve::serve(&stdin.as_fd().try_clone_to_owned().unwrap());
    }
}

fn module(program: &Program) -> Rc<Module> {
    Modules::default()
        .find(&program.0, "program", None)
        .unwrap()
}

/// The program, mapped where it wants to be.
fn image(module: &Rc<Module>) -> Image {
    Image::of(vec![Mapping {
        start: CODE,
        end: 2 * CODE,
        offset: CODE,
        module: Some(Rc::clone(module)),
        bias: 0,
    }])
}

fn shell() -> Rc<Module> {
    // A small one: debug information of the tests' own program is large.
    let shell = fs::canonicalize("/bin/sh").unwrap();
    Modules::default().find(&shell, "sh", None).unwrap()
}

/// Names are found as ever after a failure.
fn still_works(reader: &mut Reader) {
    let shell = Module {
        id: 1_000_000,
        ..Rc::into_inner(shell()).unwrap()
    };
    assert!(reader.names(&shell, 0).is_some());
}

fn uleb(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(value & 0x7f).unwrap();
        value >>= 7;
        if value == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

/// What it used before it was asked is not looked at, and does not count.
#[test]
fn time_counts_from_when_an_answer_does_not_come_at_once() {
    let mut patience = Patience::begins();
    assert_eq!(patience.until_used, None);
    let before = bounds::PATIENCE * 3;
    assert!(!patience.is_used_up(before));
    assert!(!patience.is_used_up(before + bounds::PATIENCE));
    assert!(patience.is_used_up(before + bounds::PATIENCE + Duration::from_millis(1)));
}

/// A process that is busy for too long, or waits for too long, costs what it was asked about.
#[test]
fn one_that_does_not_answer_in_time_is_ended() {
    let mut reader = Reader::default();
    let shell = shell();
    assert!(reader.names(&shell, 0).is_some());
    let running = reader.running.as_mut().unwrap();
    let pid = rustix::process::Pid::from_child(&running.child);
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    let stat = format!("/proc/{}/stat", running.child.id());
    while !fs::read_to_string(&stat).unwrap().contains(") T ") {
        std::thread::yield_now();
    }
    let request = Request::Names {
        module: shell.id,
        address: 0,
    };
    let far = Patience {
        until: Instant::now() + bounds::PATIENCE_WALL * 100,
        until_used: Some(bounds::PATIENCE * 100),
    };
    running.send(&request, &[], None).unwrap();
    let mut waits = Patience {
        until: Instant::now(),
        ..far
    };
    assert_eq!(running.wait(PollFlags::IN, &mut waits), Err(Failure::Slow));
    // It has used some time to start.
    let mut is_busy = Patience {
        until_used: Some(Duration::ZERO),
        ..far
    };
    if running.used() > Duration::ZERO {
        assert_eq!(
            running.wait(PollFlags::IN, &mut is_busy),
            Err(Failure::Slow)
        );
    }
    let first = running.child.id();
    let failure = reader.fail(Failure::Slow);
    let judged: Option<()> = reader.judge(Err(failure), |reader, _| {
        reader.refused_modules.insert(shell.id);
    });
    assert_eq!(judged, None);
    assert_eq!(reader.strikes.len(), 1);
    assert!(
        !fs::exists(format!("/proc/{first}")).unwrap(),
        "it is left over"
    );
    assert_eq!(reader.names(&shell, 0), None);
    still_works(&mut reader);
}

/// Debug information in which a function is inlined into itself, so many times.
fn nested(depth: usize) -> [Vec<u8>; 3] {
    // Compile unit: low and high address, lines. Function: the same addresses. Inlined: nothing.
    let abbreviations = [
        &[1, 0x11, 1, 0x11, 1, 0x12, 7, 0x10, 0x17, 0, 0][..],
        &[2, 0x2e, 1, 0x11, 1, 0x12, 7, 0, 0],
        &[3, 0x1d, 1, 0, 0, 0],
    ];
    let range = [CODE, CODE].map(u64::to_le_bytes);
    let mut unit = vec![4, 0, 0, 0, 0, 0, 8, 1];
    unit.extend(range.as_flattened());
    unit.extend([0; 4]);
    unit.push(2);
    unit.extend(range.as_flattened());
    unit.extend(std::iter::repeat_n(3, depth));
    unit.extend(std::iter::repeat_n(0, depth + 2));
    // Version 2: one instruction is one byte long, lines from -5 on, 10 opcodes and their lengths, no folder, one file.
    let mut head = vec![1, 1, 0xfb, 14, 10, 0, 1, 1, 1, 1, 0, 0, 0, 1, 0];
    head.extend(b"a.c\0\0\0\0\0");
    let mut lines = vec![2, 0];
    lines.extend(u32::try_from(head.len()).unwrap().to_le_bytes());
    lines.extend(head);
    // Set the address, copy a row, advance, end of the sequence.
    lines.extend([0, 9, 2]);
    lines.extend(CODE.to_le_bytes());
    lines.push(1);
    lines.push(2);
    lines.extend(uleb(CODE));
    lines.extend([0, 1, 1]);
    let with_length = |bytes: Vec<u8>| {
        let length = u32::try_from(bytes.len()).unwrap();
        [&length.to_le_bytes()[..], &bytes].concat()
    };
    [
        abbreviations.concat(),
        with_length(unit),
        with_length(lines),
    ]
}

fn debug_program(name: &str, depth: usize) -> Program {
    let [abbreviations, unit, lines] = nested(depth);
    let section = |name, bytes| (name, SHT_PROGBITS, 0, Content::Bytes(bytes));
    Program::new(
        name,
        &[
            section(".debug_abbrev", &abbreviations),
            section(".debug_info", &unit),
            section(".debug_line", &lines),
        ],
    )
}

#[cfg(feature = "symbols")]
#[test]
fn a_file_that_ends_the_process_costs_its_own_names_alone() {
    let mut reader = Reader::default();
    let program = debug_program("shallow", 3);
    let frames = reader.names(&module(&program), CODE + 1).unwrap();
    let has_line = frames.iter().any(|frame| frame.line == Some(1));
    assert!(has_line, "the program is not what it is to be: {frames:?}");
    // The library that reads it calls itself for each level.
    let program = debug_program("deep", 20_000_000);
    let deep = Module {
        id: 2,
        ..Rc::into_inner(module(&program)).unwrap()
    };
    assert_eq!(reader.names(&deep, CODE + 1), None);
    assert!(reader.refused_modules.contains(&deep.id));
    still_works(&mut reader);
}

/// An expression that jumps back to itself, where others say how a function's caller is found.
#[test]
fn a_file_that_never_ends_costs_its_own_stacks_alone() {
    // Version 1, "zR", factors 1 and -8, return address in column 16; addresses are absolute.
    let common = [0, 0, 0, 0, 1, b'z', b'R', 0, 1, 0x78, 16, 1, 0, 0, 0, 0];
    let mut frames = 16_u32.to_le_bytes().to_vec();
    frames.extend(common);
    // Its distance to that; where the function is; the return address is below the frame's; DW_CFA_def_cfa_expression
    // of DW_OP_skip by -3.
    let mut function = 24_u32.to_le_bytes().to_vec();
    function.extend([CODE, CODE].map(u64::to_le_bytes).as_flattened());
    function.extend([0, 0x90, 1, 0x0f, 3, 0x2f, 0xfd, 0xff]);
    frames.extend(u32::try_from(function.len()).unwrap().to_le_bytes());
    frames.extend(function);
    frames.extend([0; 4]);
    let section = (".eh_frame", SHT_PROGBITS, 0, Content::Bytes(&frames));
    let program = Program::new("loop", &[section]);
    let module = module(&program);
    let mut image = image(&module);
    let mut registers = [0; REGISTERS];
    (registers[REGISTER_IP], registers[REGISTER_SP]) = (CODE + 0x10, 0x7000);
    let mut reader = Reader::default();
    assert_eq!(reader.unwind(&mut image, &registers, &[0; 64]), None);
    assert_eq!(reader.strikes.len(), 1, "it has come to an end");
    assert!(reader.refused_images.contains(&image.key));
    let start = Instant::now();
    assert_eq!(reader.unwind(&mut image, &registers, &[0; 64]), None);
    assert!(start.elapsed() < Duration::from_secs(1), "asked again");
    still_works(&mut reader);
}

/// A few hundred letters that stand for terabytes: each type has the one before twice.
#[cfg(feature = "symbols")]
#[test]
fn a_name_that_unfolds_costs_its_own_file_alone() {
    let digits = ('0'..='9').chain('A'..='Z');
    let doubled = digits.map(|digit| format!("S_IS{digit}_S{digit}_E"));
    let name = format!("_Z1f1AIiiE{}", doubled.collect::<Vec<_>>().concat());
    let mut symbols = vec![0; 24];
    // Name; a function, in some section; where, and how long.
    symbols.extend(1_u32.to_le_bytes());
    symbols.extend([2, 0, 1, 0]);
    symbols.extend([CODE, CODE].map(u64::to_le_bytes).as_flattened());
    let frames = |name: &str| {
        let names = format!("\0{name}\0");
        let program = Program::new(
            "unfolds",
            &[
                (".symtab", SHT_SYMTAB, 0, Content::Bytes(&symbols)),
                (".strtab", SHT_STRTAB, 0, Content::Bytes(names.as_bytes())),
            ],
        );
        let mut reader = Reader::default();
        let module = module(&program);
        let frames = reader.names(&module, CODE + 1);
        still_works(&mut reader);
        frames
    };
    let short = frames("_Z1f1AIiiE").unwrap();
    assert_eq!(short[0].function.as_deref(), Some("f(A<int, int>)"));
    assert_eq!(frames(&name), None);
}

#[test]
fn it_has_little_and_may_do_little() {
    let mut reader = Reader::default();
    assert!(reader.names(&shell(), 0).is_some());
    let pid = reader.running.as_ref().unwrap().child.id();
    assert!(is_reader(pid));
    let read = |name| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap();
    let limits = read("limits");
    let soft = |name: &str| {
        let line = limits.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap()
            .split_ascii_whitespace()
            .next()
            .unwrap()
            .to_owned()
    };
    assert_eq!(soft("Max data size"), bounds::MEMORY.to_string());
    assert_eq!(soft("Max stack size"), (8 << 20).to_string());
    assert_eq!(soft("Max core file size"), "0");
    // Of the tests' program it is one thread.
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let mut statuses =
        tasks.map(|task| fs::read_to_string(task.unwrap().path().join("status")).unwrap());
    let status = statuses
        .find(|status| status.starts_with("Name:\tfdtrace-elf\n"))
        .unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().trim().to_owned()
    };
    assert_eq!(field("NoNewPrivs:"), "1");
    // CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH.
    let capabilities = u64::from_str_radix(&field("CapPrm:"), 16).unwrap();
    assert_eq!(capabilities & !0b110, 0);
    drop(reader);
    assert!(is_reader(pid), "what it did at its end is told later");
}

/// One that was killed from outside, as for want of memory, is started again.
#[test]
fn a_process_that_has_ended_is_replaced() {
    let mut reader = Reader::default();
    let shell = shell();
    assert!(reader.names(&shell, 0).is_some());
    let running = reader.running.as_mut().unwrap();
    let first = running.child.id();
    assert!(is_reader(first) || cfg!(test), "tests have several");
    running.child.kill().unwrap();
    running.child.wait().unwrap();
    assert!(reader.names(&shell, 0).is_some());
    assert_ne!(reader.running.as_ref().unwrap().child.id(), first);
    assert_eq!(reader.strikes.len(), 1, "it counts, and is told");
}

#[test]
fn one_that_fails_again_and_again_is_left_alone_for_a_while() {
    let mut reader = Reader {
        strikes: std::iter::repeat_n(Instant::now(), bounds::STRIKES).collect(),
        ..Reader::default()
    };
    assert_eq!(reader.names(&shell(), 0), None);
    assert!(reader.running.is_none() && reader.refused_modules.is_empty());
    reader.strikes.clear();
    assert!(reader.names(&shell(), 0).is_some());
}

/// Bytes of a process's own memory, of all that is in memory of its mappings.
fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let sum = ["RssAnon:", "RssFile:"].map(|field| {
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let kilobytes: u64 = line
            .unwrap()
            .trim()
            .trim_end_matches(" kB")
            .parse()
            .unwrap();
        kilobytes << 10
    });
    sum.iter().sum()
}

/// Sparse files of 700 MB: reading any of these sections would show.
#[test]
fn sections_that_are_huge_take_no_memory() {
    const HUGE: u64 = 700 << 20;
    let huge = |name, kind| (name, kind, 0, Content::Hole(HUGE));
    let program = Program::new(
        "huge",
        &[
            huge(".eh_frame", SHT_PROGBITS),
            huge(".symtab", SHT_SYMTAB),
            huge(".strtab", SHT_STRTAB),
            huge(".debug_info", SHT_PROGBITS),
        ],
    );
    let mut reader = Reader::default();
    let module = module(&program);
    let mut image = image(&module);
    let mut registers = [0; REGISTERS];
    (registers[REGISTER_IP], registers[REGISTER_SP]) = (CODE + 0x10, 0x7000);
    assert!(reader.unwind(&mut image, &registers, &[0; 64]).is_some());
    let frames = reader.names(&module, CODE).unwrap();
    assert!(frames.iter().all(|frame| frame.function.is_none()));
    let held = resident(reader.running.as_ref().unwrap().child.id());
    assert!(held < HUGE / 4, "{held} bytes");
}

/// What a program says of files that its debug information is in leads nowhere.
#[test]
fn links_to_other_files_are_not_followed() {
    let link: Made<'_> = (
        ".gnu_debuglink",
        SHT_PROGBITS,
        0,
        Content::Bytes(b"other\0\0\0sum."),
    );
    let program = Program::new("link", &[link]);
    let fifo = program.0.with_file_name("other");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, mode).unwrap();
    let mut reader = Reader::default();
    let start = Instant::now();
    assert!(reader.names(&module(&program), CODE).is_some());
    assert!(start.elapsed() < bounds::PATIENCE_WALL);
    let flags = rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::NONBLOCK;
    let writer = rustix::fs::open(&fifo, flags, rustix::fs::Mode::empty());
    assert_eq!(writer.unwrap_err(), rustix::io::Errno::NXIO);
}

/// It is mapped by the process that reads it; who cuts it off there ends nobody.
#[test]
fn a_file_that_becomes_shorter_while_it_is_read_ends_nothing() {
    let program = debug_program("short", 50);
    let module = module(&program);
    let mut reader = Reader::default();
    assert!(reader.names(&module, CODE + 1).is_some());
    let file = fs::OpenOptions::new().write(true).open(&program.0).unwrap();
    file.set_len(CODE).unwrap();
    let _ = file.write_at(b"x", 0);
    let _ = reader.names(&module, CODE + 2);
    still_works(&mut reader);
}

/// Tables of symbols that are damaged, or larger than anybody's, say nothing.
#[test]
fn imports_are_read_within_bounds() {
    let mut reader = Reader::default();
    let of_shell = Found {
        imports: Imports::Nothing,
        is_go: false,
    };
    assert_eq!(
        reader.imports(&shell()),
        Some(of_shell),
        "it waits for nobody"
    );
    let huge = bounds::IMPORTS + 1;
    for (name, content) in [
        ("huge", Content::Hole(huge)),
        ("odd", Content::Bytes(&[1; 23])),
        ("wild", Content::Bytes(&[0xff; 240])),
    ] {
        let program = Program::new(name, &[(".dynsym", SHT_DYNSYM, 0, content)]);
        let imports = reader.imports(&module(&program));
        let imports = imports.map(|found| found.imports);
        assert_ne!(imports, Some(Imports::Select), "{name}");
        still_works(&mut reader);
    }
}
