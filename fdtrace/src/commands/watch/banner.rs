//! What is said before the first report.

use std::io::{IsTerminal, stderr};

use crate::{
    cli::{ScopeArgs, Watch},
    commands::{say, what_runs::say_what_runs},
    diagnose::fullest::{self, Fullness},
    probe::{attach::Session, census},
    report::{sanitize::printable, words},
};

/// Tables that the banner shows.
const FULLEST: usize = 5;

/// Says what runs, what is missing, and on a terminal which tables are the fullest now.
pub(super) fn show(args: &Watch, session: &mut Session) {
    let whom = if args.scope == ScopeArgs::default() {
        "all processes"
    } else {
        "filtered"
    };
    say(&format!(
        "watching fd exhaustion, {whom}, {} backend. Hit Ctrl-C to end.",
        session.backend
    ));
    say_what_runs(session, &args.run);
    for feature in session
        .coverage
        .absent
        .iter()
        .filter(|_| args.run.verbose > 0)
    {
        say(&format!("not looked for here: {feature}"));
    }
    if stderr().is_terminal() {
        let tasks = match census::read_again(session) {
            Ok(tasks) => tasks,
            Err(error) => {
                return say(&format!(
                    "cannot see how full the tables are now: {error:#}"
                ));
            }
        };
        say("fullest tables now:");
        for table in fullest::fullest(&tasks, FULLEST) {
            say(&full_line(&table));
        }
    }
}

fn full_line(table: &Fullness) -> String {
    format!(
        "{:>9} {:<15} {:>7} of {:>7} {:>4} %",
        table.tgid,
        printable(&table.comm),
        table.used,
        words::limit(table.soft),
        table.percent(),
    )
}
