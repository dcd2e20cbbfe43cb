//! Which function of JavaScript or Java has opened an fd, as far as the runtime tells; and what to do where it does not.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use libtest_mimic::Trial;
use serde_json::Value;

use super::{
    Setting, ensure, languages,
    script::{Script, is_new, stack, trace},
    tracer::Tracer,
    trial,
};

const NODE: &str = "/usr/bin/node";
const JAVA: &str = "/usr/bin/java";
/// What makes Node tell its functions.
const TELLS: [&str; 2] = [
    "--perf-basic-prof-only-functions",
    "--interpreted-frames-native-stack",
];

/// What makes a JVM keep frame pointers.
const KEEPS_FRAMES: &str = "-XX:+PreserveFramePointer";

pub(crate) fn trials(setting: &Setting) -> Vec<Trial> {
    let test = |name: &str, test: fn(&Setting) -> Result<(), String>| {
        let setting = setting.clone();
        trial(format!("runtimes::{name}"), move || test(&setting))
    };
    let mut trials = Vec::new();
    let has_scripts = languages::scripts(setting).exists();
    if has_scripts && Path::new(NODE).exists() {
        trials.push(test("of_node", of_node));
        trials.push(test(
            "of_node_that_does_not_tell",
            of_node_that_does_not_tell,
        ));
    } else {
        println!("skipped: runtimes::of_node: there is no Node here");
    }
    if has_scripts && Path::new(JAVA).exists() {
        trials.push(test("of_java", of_java));
    } else {
        println!("skipped: runtimes::of_java: there is no Java here");
    }
    trials
}

/// Events of this file, which the script has opened.
fn opens<'a>(objects: &'a [Value], file: &str) -> Vec<&'a Value> {
    let is_it = |object: &&Value| {
        let target = object["target"].as_str().unwrap_or_default();
        is_new(object) && target.ends_with(file)
    };
    objects.iter().filter(is_it).collect()
}

/// The first frame of the script itself.
fn own<'a>(event: &'a Value, source: &str) -> Option<&'a str> {
    let frames = stack(event).into_iter();
    frames.into_iter().find(|frame| frame.contains(source))
}

fn wait_for(tracer: &Tracer, fd: Option<u64>) -> Result<(), String> {
    let told = tracer.wait_for(|object| is_new(object) && object["fd"].as_u64() == fd);
    told.map(drop)
}

/// The functions of Node's own map, each with the line where it begins; none is another one's.
fn of_node(setting: &Setting) -> Result<(), String> {
    let mut command = Command::new(NODE);
    command.args(TELLS);
    let objects = node(setting, command)?;
    let opens = opens(&objects, "filesystems");
    let count = |place: &str| {
        let mut of_it = opens.clone();
        of_it.retain(|event| own(event, "opens.js:").is_some_and(|own| own.ends_with(place)));
        let is_named = |event: &&&Value| {
            let name = place.split(' ').next().unwrap_or_default();
            own(event, "opens.js:").is_some_and(|own| own.starts_with(name))
        };
        (of_it.len(), of_it.iter().filter(is_named).count())
    };
    let (load, peek) = (count("opens.js:4)"), count("opens.js:7)"));
    // What is compiled anew while it is called may have no name yet.
    let (most_of_80, most_of_40) = (72..=80, 36..=40);
    ensure(
        most_of_80.contains(&load.0) && most_of_40.contains(&peek.0),
        || format!("load {load:?}, peek {peek:?}: {opens:#?}"),
    )?;
    let is_wrong = |event: &&&Value| {
        let own = own(event, "opens.js:").unwrap_or_default();
        own.starts_with("load ") && !own.ends_with(":4)")
            || own.starts_with("peek ") && !own.ends_with(":7)")
    };
    let wrong: Vec<_> = opens.iter().filter(is_wrong).collect();
    ensure(wrong.is_empty(), || format!("{wrong:#?}"))
}

/// It is said how it would tell.
fn of_node_that_does_not_tell(setting: &Setting) -> Result<(), String> {
    let objects = node(setting, Command::new(NODE))?;
    let opens = opens(&objects, "filesystems");
    let says_how = |event: &&&Value| {
        let names = event["names"].as_str().unwrap_or_default();
        TELLS.iter().all(|option| names.contains(option))
    };
    let told = opens.iter().filter(says_how).count();
    ensure(told == opens.len() && told >= 100, || format!("{opens:#?}"))
}

fn node(setting: &Setting, mut command: Command) -> Result<Vec<Value>, String> {
    command.arg(languages::scripts(setting).join("opens.js"));
    let mut script = Script::start(command)?;
    let tracer = trace(setting, script.id())?;
    script.release()?;
    let fds = script.line()?;
    let last = fds.split_whitespace().filter_map(|fd| fd.parse().ok());
    wait_for(&tracer, last.max())?;
    script.end()?;
    Ok(tracer.stop()?.objects)
}

/// The methods that the JVM has compiled, when it has been asked to tell; before that, it is said how to ask.
fn of_java(setting: &Setting) -> Result<(), String> {
    let folder = std::env::temp_dir().join(format!("fdtrace-java-{}", std::process::id()));
    let source = languages::scripts(setting).join("Leak.java");
    let mut compiler = Command::new("javac");
    run(compiler.arg("-d").arg(&folder).arg(source))?;
    let start = |options: &[&str]| {
        let mut command = Command::new(JAVA);
        command.args(["-Xmx64m", "-cp"]);
        let address = languages::server()?.to_string();
        command.arg(&folder).args(options).args(["Leak", &address]);
        Script::start(command)
    };
    let silent = java(setting, start(&[KEEPS_FRAMES])?, false)?;
    let lost = java(setting, start(&[])?, true)?;
    let asked = java(setting, start(&[KEEPS_FRAMES])?, true);
    // Nobody wants the classes any more, whatever became of it.
    let _ = std::fs::remove_dir_all(&folder);
    let says_how = |event: &&Value| {
        let names = event["names"].as_str().unwrap_or_default();
        names.starts_with(&format!("run jcmd {} Compiler.perfmap ", event["pid"]))
    };
    let told = opens(&silent, "filesystems");
    ensure(told.len() >= 20 && told.iter().all(says_how), || {
        format!("{told:#?}")
    })?;
    // Who calls what it has compiled cannot be found there, and it is said why.
    let says_why = |event: &&Value| {
        let names = event["names"].as_str().unwrap_or_default();
        names.contains(KEEPS_FRAMES)
    };
    let told = opens(&lost, "filesystems");
    ensure(told.len() >= 20 && told.iter().all(says_why), || {
        format!("{told:#?}")
    })?;
    let asked = asked?;
    let of = |method: &str, events: &[&Value]| {
        let is_of_it = |event: &&&Value| stack(event).iter().any(|it| it.contains(method));
        events.iter().filter(is_of_it).count()
    };
    let files = opens(&asked, "filesystems");
    let mut sockets = Vec::from_iter(&asked);
    sockets.retain(|event| is_new(event) && event["kind"] == "tcp");
    let counts = (
        of(" Leak.load(", &files),
        of(" Leak.fetch(", &files),
        of(" Leak.fetch(", &sockets),
        of(" Leak.load(", &sockets),
    );
    ensure(counts == (20, 0, 20, 0), || {
        format!("{counts:?}: {sockets:#?} {files:#?}")
    })
}

fn java(setting: &Setting, mut script: Script, asks: bool) -> Result<Vec<Value>, String> {
    if asks {
        let pid = script.id().to_string();
        run(Command::new("jcmd").args([&pid, "Compiler.perfmap"]))?;
    }
    let tracer = trace(setting, script.id())?;
    script.release()?;
    let line = script.line()?;
    ensure(line == "done\n", || line.clone())?;
    tracer.wait_for(|object| {
        let target = object["target"].as_str().unwrap_or_default();
        is_new(object) && target.ends_with("version")
    })?;
    let map = format!("/tmp/perf-{}.map", script.id());
    script.end()?;
    // The JVM leaves it there.
    let _ = std::fs::remove_file(map);
    Ok(tracer.stop()?.objects)
}

fn run(command: &mut Command) -> Result<(), String> {
    let command = command.stdin(Stdio::null()).stdout(Stdio::null());
    let status = command.status().map_err(|error| error.to_string())?;
    ensure(status.success(), || format!("{command:?}: {status}"))
}
