//! What an interpreter runs, from its command line.
//!
//! Each interpreter has options that take the next word for their value. Without knowing them, the value of
//! `java -cp` or `python3 -W` looks like the script. What is not in a table here takes no value.

use std::{ffi::OsStr, fs::File, io::Read, path::Path, rc::Rc};

use self::Takes::{Code, Module, Next, Nothing, Rest, Script, Value};
use super::bounds;

/// Bytes of the answer that are kept.
const NAME_MAX: usize = 1_024;

/// What an option does with what follows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Takes {
    /// A flag.
    Nothing,
    /// Its value is the rest of the word, if there is one.
    Rest,
    /// Its value is the rest of the word, or the next word.
    Value,
    /// Its value is the next word, whatever follows in this one.
    Next,
    /// The program itself is on the command line. It is not shown: it may be long, or secret.
    Code,
    /// What runs is found by this name.
    Module,
    /// What runs is this file.
    Script,
}

/// How an interpreter reads its command line.
struct Interpreter {
    /// The executable's name; a version may follow.
    names: &'static [&'static str],
    /// Options of one letter, several of which can share a word.
    letters: &'static [(&'static str, Takes)],
    /// Options that are a word. A value can also follow after `=`.
    words: &'static [(&'static [&'static str], Takes)],
}

const INTERPRETERS: [Interpreter; 7] = [
    Interpreter {
        names: &["python", "pypy"],
        letters: &[("WX", Value), ("c", Code), ("m", Module)],
        words: &[(&["--check-hash-based-pycs"], Value)],
    },
    // Its letters cannot share a word, but for one pair.
    Interpreter {
        names: &["node", "nodejs"],
        letters: &[],
        words: &[
            (&["-e", "--eval", "-p", "--print", "-pe"], Code),
            (&["--run"], Module),
            (
                &[
                    "-r",
                    "--require",
                    "--import",
                    "--loader",
                    "--experimental-loader",
                    "-C",
                    "--conditions",
                    "--env-file",
                    "--env-file-if-exists",
                    "--title",
                    "--inspect-port",
                    "--debug-port",
                    "--input-type",
                    "--icu-data-dir",
                    "--openssl-config",
                    "--redirect-warnings",
                    "--disable-warning",
                    "--diagnostic-dir",
                    "--report-dir",
                    "--report-directory",
                    "--report-filename",
                    "--report-signal",
                    "--heapsnapshot-signal",
                    "--cpu-prof-dir",
                    "--cpu-prof-name",
                    "--cpu-prof-interval",
                    "--heap-prof-dir",
                    "--heap-prof-name",
                    "--heap-prof-interval",
                    "--trace-event-categories",
                    "--trace-event-file-pattern",
                    "--unhandled-rejections",
                    "--dns-result-order",
                    "--max-http-header-size",
                    "--tls-cipher-list",
                    "--tls-keylog",
                    "--watch-path",
                    "--localstorage-file",
                ],
                Value,
            ),
        ],
    },
    Interpreter {
        names: &["ruby"],
        letters: &[("ICErX", Value), ("FiKTWx", Rest), ("e", Code)],
        words: &[(
            &["--encoding", "--external-encoding", "--internal-encoding"],
            Value,
        )],
    },
    Interpreter {
        names: &["perl"],
        letters: &[("I", Value), ("CDFMVdimx", Rest), ("eE", Code)],
        words: &[],
    },
    Interpreter {
        names: &["php"],
        letters: &[("BERr", Code), ("Scdtz", Value), ("Ff", Script)],
        words: &[
            (
                &[
                    "--run",
                    "--process-begin",
                    "--process-code",
                    "--process-end",
                ],
                Code,
            ),
            (&["--file", "--process-file"], Script),
            (
                &[
                    "--php-ini",
                    "--define",
                    "--server",
                    "--docroot",
                    "--zend-extension",
                ],
                Value,
            ),
        ],
    },
    // The launcher's own list: IsWhiteSpaceOption in src/java.base/share/native/libjli/java.c.
    Interpreter {
        names: &["java"],
        letters: &[],
        words: &[
            (&["-jar"], Script),
            (&["-m", "--module"], Module),
            (
                &[
                    "-cp",
                    "-classpath",
                    "--class-path",
                    "-p",
                    "--module-path",
                    "--upgrade-module-path",
                    "--add-modules",
                    "--enable-native-access",
                    "--limit-modules",
                    "--add-exports",
                    "--add-opens",
                    "--add-reads",
                    "--patch-module",
                    "--describe-module",
                    "-d",
                    "--source",
                ],
                Value,
            ),
        ],
    },
    Interpreter {
        names: &["bash", "dash"],
        letters: &[("oO", Next), ("c", Code)],
        words: &[(&["--rcfile", "--init-file"], Value)],
    },
];

/// The script of a process in /proc, if an interpreter runs it: a file's name, a class or jar, `-m` and a
/// module, or the option that the code itself follows.
pub(in crate::enrich) fn of_process(folder: &Path) -> Option<Rc<str>> {
    let program = folder.join("exe").read_link().ok()?;
    let interpreter = Interpreter::named(program.file_name()?)?;
    let mut line = Vec::new();
    let file = File::open(folder.join("cmdline")).ok()?;
    file.take(bounds::ARGUMENTS).read_to_end(&mut line).ok()?;
    let words = line.split(|byte| *byte == 0).skip(1);
    interpreter.script(words).map(Rc::from)
}

impl Interpreter {
    /// The one that an executable of this name is.
    fn named(program: &OsStr) -> Option<&'static Self> {
        let program = program.to_str()?;
        // An upgrade has put another file in its place.
        let program = program.strip_suffix(" (deleted)").unwrap_or(program);
        let is_version = |rest: &str| {
            matches!(rest, "" | "-dbg" | "-static")
                || rest.starts_with(|c: char| c.is_ascii_digit())
        };
        INTERPRETERS.iter().find(|interpreter| {
            let mut names = interpreter.names.iter();
            names.any(|name| program.strip_prefix(name).is_some_and(is_version))
        })
    }

    /// What it runs, given the words behind its name.
    fn script<'a>(&self, mut words: impl Iterator<Item = &'a [u8]>) -> Option<String> {
        let mut arguments_file = None;
        while let Some(word) = words.next() {
            let text = String::from_utf8_lossy(&word[..word.len().min(NAME_MAX)]);
            if text == "--" {
                return words.next().and_then(kept);
            }
            if text == "-" || text.is_empty() {
                // Read from standard input.
                return None;
            }
            if text.starts_with('@') && self.names == ["java"] {
                // Options and perhaps the main class are in that file.
                arguments_file.get_or_insert(word);
                continue;
            }
            if !(text.starts_with('-') || text.starts_with('+') && self.is_shell()) {
                return kept(word);
            }
            let (option, takes, rest) = self.option(&text);
            let value = rest.map(str::as_bytes).filter(|rest| !rest.is_empty());
            match takes {
                Nothing | Rest => {}
                Next => drop(words.next()),
                Value => drop(value.or_else(|| words.next())),
                Code => return Some(option),
                Script => return value.or_else(|| words.next()).and_then(kept),
                Module => {
                    let name = value.or_else(|| words.next()).and_then(kept)?;
                    return Some(format!("{option} {name}"));
                }
            }
        }
        arguments_file.and_then(kept)
    }

    /// `set` options of a shell are turned off with a plus.
    fn is_shell(&self) -> bool {
        self.names.contains(&"bash")
    }

    /// The first option in a word that does something with what follows, and the rest of the word.
    fn option<'a>(&self, word: &'a str) -> (String, Takes, Option<&'a str>) {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word, None),
        };
        let mut known = self.words.iter();
        if let Some((_, takes)) = known.find(|(names, _)| names.contains(&name)) {
            return (name.to_owned(), *takes, value);
        }
        if word.starts_with("--") {
            return (name.to_owned(), Nothing, None);
        }
        for (at, letter) in word.char_indices().skip(1) {
            let mut known = self.letters.iter();
            if let Some((_, takes)) = known.find(|(letters, _)| letters.contains(letter)) {
                return (format!("-{letter}"), *takes, word.get(at + 1..));
            }
        }
        (name.to_owned(), Nothing, None)
    }
}

/// A word of the command line as it is shown, cut where it is too long.
fn kept(word: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(&word[..word.len().min(NAME_MAX)]);
    (!text.is_empty()).then(|| text.into_owned())
}

#[cfg(test)]
mod tests;
