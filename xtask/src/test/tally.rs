//! Counts and names, taken from what the tests print.

use std::fmt;

/// What became of the tests.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) passed: u32,
    pub(super) failed: u32,
    pub(super) skipped: u32,
    failures: Vec<String>,
    reasons: Vec<String>,
}

impl Tally {
    /// One failure.
    pub(super) fn failure(name: String) -> Self {
        Self {
            failed: 1,
            failures: vec![name],
            ..Self::default()
        }
    }

    /// Takes another one's in.
    pub(super) fn add(&mut self, other: Self) {
        let Self {
            passed,
            failed,
            skipped,
            failures,
            reasons,
        } = other;
        self.passed += passed;
        self.failed += failed;
        self.skipped += skipped;
        self.failures.extend(failures);
        self.reasons.extend(reasons);
    }

    /// Looks at one line of a test's output, which came from the place named.
    pub(super) fn line(&mut self, place: &str, line: &str) {
        if let Some(counts) = line.strip_prefix("test result: ") {
            self.passed += count(counts, "passed");
            self.failed += count(counts, "failed");
            self.skipped += count(counts, "ignored");
        } else if let Some(reason) = line.strip_prefix("skipped: ") {
            self.reasons.push(format!("{place}: {reason}"));
        } else if let Some((name, outcome)) = line
            .strip_prefix("test ")
            .and_then(|line| line.split_once(" ... "))
        {
            let name = name.trim_end();
            if outcome == "FAILED" {
                self.failures.push(format!("{place}: {name}"));
            } else if let Some(reason) = outcome.strip_prefix("ignored, ") {
                self.reasons.push(format!("{place}: {name}: {reason}"));
            }
        }
    }
}

/// The number before the word, as in `ok. 3 passed; 1 failed; 0 ignored`.
fn count(counts: &str, word: &str) -> u32 {
    let part = counts
        .split([';', '.'])
        .find_map(|part| part.strip_suffix(word));
    part.and_then(|number| number.trim().parse().ok())
        .unwrap_or(0)
}

/// The end of a run: what failed, what was skipped and why, and as the last line the counts.
impl fmt::Display for Tally {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (title, names) in [("failed", &self.failures), ("skipped", &self.reasons)] {
            if !names.is_empty() {
                writeln!(formatter, "\n{title}:")?;
            }
            for name in names {
                writeln!(formatter, "    {name}")?;
            }
        }
        let Self {
            passed,
            failed,
            skipped,
            ..
        } = self;
        writeln!(
            formatter,
            "\n{passed} passed, {failed} failed, {skipped} skipped"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_several_executables_add_up() {
        let mut tally = Tally::default();
        for line in [
            "running 3 tests",
            "test btf::bitfield   ... ok",
            "test alarm::storm ... FAILED",
            "skipped: io_uring: no such call",
            "test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 7 filtered out; finished in 0.01s",
            "test result: ok. 4 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s",
        ] {
            tally.line("6.1 kprobe", line);
        }
        assert_eq!(
            tally.to_string(),
            "\nfailed:\n    6.1 kprobe: alarm::storm\n\nskipped:\n    \
             6.1 kprobe: io_uring: no such call\n\n5 passed, 1 failed, 1 skipped\n"
        );
    }

    #[test]
    fn ignored_test_keeps_its_reason() {
        let mut tally = Tally::default();
        tally.line("unit tests", "test slow ... ignored, takes an hour");
        assert!(
            tally
                .to_string()
                .contains("unit tests: slow: takes an hour")
        );
    }
}
