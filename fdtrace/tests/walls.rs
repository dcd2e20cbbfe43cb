//! Who may name what: walls between the rooms of the program, held by a look at its source.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Who may name the replayed model: it itself, what feeds it (records live and recorded, passes), and the format of
/// recordings, which tells what its passes were for. Everybody else reads tables, and knows `engine` alone.
const FEEDS: [&str; 5] = [
    "model/",
    "tracker.rs",
    "commands/follow.rs",
    "commands/replay.rs",
    "stream/recording/note.rs",
];

#[test]
fn readers_of_tables_know_the_engine_and_not_the_model() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&source, &mut files);
    assert!(files.len() > 100, "{} files", files.len());
    let mut feeding = 0;
    for path in files {
        let name = path.strip_prefix(&source).unwrap().to_str().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let names_it = names_model(without_tests(&text));
        if name == "model/mod.rs" || FEEDS[1..].contains(&name) {
            feeding += usize::from(names_it.is_some());
        } else if !name.starts_with(FEEDS[0]) {
            assert_eq!(names_it, None, "in {name}");
        }
    }
    // Who does not name it any more has no place in the list.
    assert_eq!(feeding, FEEDS.len() - 1);
}

/// The layers, from the ground up: a file names its own layer and those before it.
const LAYERS: [&str; 14] = [
    "child", "timers", "ground", "stream", "probe", "engine", "joined", "model", "tracker",
    "diagnose", "enrich", "report", "cli", "commands",
];

/// Arrows that still run up, file by file. The list only gets shorter.
const UP: [(&str, &[&str]); 3] = [
    // Its rows are told apart by code path, and stacks are enrich's.
    ("diagnose/outstanding/rows.rs", &["enrich"]),
    // A recording keeps what is above it.
    (
        "stream/recording/note.rs",
        &["enrich", "model", "probe", "report"],
    ),
    // Paths and stacks are asked for as records come.
    ("tracker.rs", &["enrich"]),
];

#[test]
fn no_layer_names_one_above_it() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&source, &mut files);
    let rank = |layer: &str| LAYERS.iter().position(|name| *name == layer);
    let mut up: Vec<(String, Vec<String>)> = Vec::new();
    for path in files {
        let name = path.strip_prefix(&source).unwrap().to_str().unwrap();
        let own = name.split('/').next().unwrap().trim_end_matches(".rs");
        let Some(own) = rank(own) else {
            assert!(["lib", "main"].contains(&own), "{name} is in no layer");
            continue;
        };
        let text = fs::read_to_string(&path).unwrap();
        let named = named_layers(&code(without_tests(&text)));
        let above = named.into_iter().filter(|layer| rank(layer) > Some(own));
        let above: Vec<_> = above.collect();
        if !above.is_empty() {
            up.push((name.to_owned(), above));
        }
    }
    up.sort();
    let known = UP.map(|(file, layers)| {
        let layers = layers.iter().map(|layer| (*layer).to_owned());
        (file.to_owned(), layers.collect::<Vec<_>>())
    });
    assert_eq!(up, known);
}

/// Which layers code names, each once, in order.
fn named_layers(code: &str) -> Vec<String> {
    let paths = code.split("crate::").skip(1);
    let parts = paths.flat_map(|rest| {
        let end = rest.find(';').unwrap_or(rest.len());
        let is_list = rest.starts_with('{');
        let path = if is_list { &rest[..end] } else { rest };
        let first = |part: &str| {
            let end = part.find(|letter: char| !letter.is_alphanumeric() && letter != '_');
            part[..end.unwrap_or(part.len())].to_owned()
        };
        let parts = if is_list {
            first_parts(path)
        } else {
            vec![path]
        };
        parts.into_iter().map(first).collect::<Vec<_>>()
    });
    let layers: BTreeSet<_> = parts
        .filter(|part| LAYERS.contains(&part.as_str()))
        .collect();
    layers.into_iter().collect()
}

/// All source files but those of tests, which may play records through whatever they like.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.file_stem().is_some_and(|stem| stem == "tests") {
            continue;
        }
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// What comes before the tests at a file's end.
fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]").next().unwrap()
}

/// Where the model is named, by path or as a field.
fn names_model(text: &str) -> Option<String> {
    let code = code(text);
    let imports = code.split("use crate::").skip(1);
    let imported = imports
        .filter_map(|rest| rest.split(';').next())
        .find(|import| first_parts(import).contains(&"model"));
    let named = ["crate::model::", ".tracker.model", "tracker.model."];
    let named = named.into_iter().find(|path| code.contains(path));
    imported.or(named).map(str::to_owned)
}

/// Without the lines that are comments.
fn code(text: &str) -> String {
    let code = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    code.collect::<Vec<_>>().join("\n")
}

/// The first parts of the paths that an import names: `a` and `b` of `{a::{c, d}, b}`.
fn first_parts(import: &str) -> Vec<&str> {
    let import = import.trim();
    let (mut depth, mut start, mut parts) = (0_u32, 0, Vec::new());
    let is_list = import.starts_with('{');
    for (at, letter) in import.char_indices() {
        match letter {
            '{' => {
                depth += 1;
                if depth == 1 && is_list {
                    start = at + 1;
                }
            }
            '}' => depth -= 1,
            ',' if depth == 1 && is_list => {
                parts.push(&import[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(import[start..].trim_end_matches(['}', '\n', ' ', ',']));
    let first = |part: &&str| !part.trim().is_empty();
    let parts = parts.into_iter().filter(first);
    parts
        .map(|part| part.split("::").next().unwrap().trim())
        .collect()
}

#[test]
fn a_name_is_found_wherever_it_is() {
    for text in [
        "use crate::model::Model;",
        "use crate::model;",
        "use crate::{diagnose::call, model::{tables::Tables, names}};",
        "use crate::{\n    diagnose::{a, b},\n    model::{\n        Model,\n    },\n};",
        "fn f(model: &crate::model::Model) {}",
        "    follow.tracker.model.tables.open()",
    ] {
        assert!(names_model(text).is_some(), "{text}");
    }
    for text in [
        "use crate::{diagnose::model, engine::{Engine, table::Table}};",
        "// use crate::model::Model;",
        "/// As [`crate::model::Model`].",
        "model: difference.model.as_deref(),",
        "use crate::modelling;",
    ] {
        assert_eq!(names_model(text), None, "{text}");
    }
    let layers =
        "use crate::{\n    diagnose::{a, report},\n    enrich,\n};\nfn f() -> crate::probe::X {}";
    assert_eq!(named_layers(layers), ["diagnose", "enrich", "probe"]);
    assert!(named_layers("use crate::{ground::{stream, b}};") == ["ground"]);
    assert_eq!(without_tests("a\n#[cfg(test)]\nmod tests;"), "a\n");
}
