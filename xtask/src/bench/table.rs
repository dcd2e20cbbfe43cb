//! The rows as text and as Markdown.

use std::fmt::Write as _;

use super::row::{Measure, Row, Unit};

const COLUMNS: [&str; 6] = ["what", "fdtrace", "peer", "ratio", "goal", "verdict"];

/// For a terminal: aligned, each further peer on a line of its own.
pub(crate) fn text(rows: &[Row]) -> String {
    let mut lines = vec![COLUMNS.map(str::to_owned)];
    for row in rows {
        let mut cells = cells(row);
        let mut peers = peers(row).into_iter();
        cells[2] = peers.next().unwrap_or_default();
        lines.push(cells);
        for peer in peers {
            let mut line = [const { String::new() }; COLUMNS.len()];
            line[2] = peer;
            lines.push(line);
        }
    }
    let width = |column: usize| {
        let cells = lines.iter().map(|line| line[column].chars().count());
        cells.max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..COLUMNS.len()).map(width).collect();
    let mut text = String::from("\n");
    for line in &lines {
        let cells = line.iter().zip(&widths);
        let padded: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        let _ = writeln!(text, "{}", padded.join("  ").trim_end());
    }
    text
}

/// For the documentation.
pub(crate) fn markdown(rows: &[Row]) -> String {
    let mut text = format!("| {} |\n|", COLUMNS.join(" | "));
    text.push_str(&"---|".repeat(COLUMNS.len()));
    text.push('\n');
    for row in rows {
        let mut cells = cells(row);
        cells[2] = peers(row).join("; ");
        let escaped = cells.map(|cell| cell.replace('|', "\\|"));
        let _ = writeln!(text, "| {} |", escaped.join(" | "));
    }
    text
}

/// All but the peers.
fn cells(row: &Row) -> [String; COLUMNS.len()] {
    [
        row.what.clone(),
        measure(&row.fdtrace, row.unit),
        String::new(),
        row.ratio.map_or("-".to_owned(), two_digits),
        row.goal().map_or("-", |goal| goal.words).to_owned(),
        verdict(row),
    ]
}

/// With the range, where there is one.
fn verdict(row: &Row) -> String {
    let range = row
        .range
        .map(|(low, high)| format!(" ({low:.2} to {high:.2})"));
    format!("{}{}", row.verdict(), range.unwrap_or_default())
}

fn peers(row: &Row) -> Vec<String> {
    if row.peers.is_empty() {
        return vec!["-".to_owned()];
    }
    let peers = row.peers.iter();
    peers
        .map(|(name, figure)| format!("{name}: {}", measure(figure, row.unit)))
        .collect()
}

fn measure(measure: &Measure, unit: Unit) -> String {
    match measure {
        Measure::Figure(figure) => in_unit(*figure, unit),
        Measure::NotMeasured(reason) => format!("not measured ({reason})"),
        Measure::NotAvailable(reason) => format!("not available: {reason}"),
        Measure::Failed(reason) => format!("failed: {reason}"),
    }
}

fn in_unit(figure: f64, unit: Unit) -> String {
    match unit {
        Unit::MoreInstructions => {
            let sign = if figure.round() < 0.0 { '-' } else { '+' };
            format!("{sign}{}", grouped(figure.abs()))
        }
        Unit::Instructions => grouped(figure),
        Unit::Times => format!("{figure:.3} ×"),
        Unit::Milliseconds => format!("{} ms", grouped(figure)),
        Unit::Bytes => format!("{figure:.1} bytes"),
        Unit::Megabytes => format!("{figure:.1} MB"),
    }
}

/// Without the sign that something just below nothing has.
fn two_digits(ratio: f64) -> String {
    format!("{ratio:.2}").replace("-0.00", "0.00")
}

/// A whole number with its thousands apart.
fn grouped(figure: f64) -> String {
    let digits = format!("{figure:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Row> {
        let row = Row {
            what: "open+close, 6.1".to_owned(),
            unit: Unit::MoreInstructions,
            fdtrace: Measure::Figure(1_000.4),
            peers: vec![
                ("a | b".to_owned(), Measure::Figure(12_000.0)),
                (
                    "c".to_owned(),
                    Measure::NotAvailable("no such package".to_owned()),
                ),
            ],
            ..Row::failed("open_close", "")
        };
        vec![row.compared(), Row::failed("getppid", "no guest")]
    }

    #[test]
    fn text_has_every_peer_on_a_line() {
        let text = text(&rows());
        let lines: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(
            lines[0].split_whitespace().collect::<Vec<_>>().join(" "),
            "open+close, 6.1 +1 000 a | b: +12 000 0.08 at most +1 100, then +800 met, the first"
        );
        assert_eq!(lines[1].trim(), "c: not available: no such package");
        assert!(lines[2].contains("failed: no guest"), "{text}");
        assert_eq!(lines[0].find("a | b"), lines[1].find("c: not"));
    }

    #[test]
    fn markdown_has_a_row_each_and_as_many_cells() {
        let markdown = markdown(&rows());
        let cells: Vec<usize> = markdown
            .lines()
            .map(|line| line.replace("\\|", "").matches('|').count())
            .collect();
        assert_eq!(cells, [7; 4], "{markdown}");
    }

    #[test]
    fn figures_in_their_units() {
        assert_eq!(in_unit(-0.2, Unit::MoreInstructions), "+0");
        assert_eq!(in_unit(-17.0, Unit::MoreInstructions), "-17");
        assert_eq!(in_unit(1_234_567.0, Unit::Instructions), "1 234 567");
        assert_eq!(in_unit(999.0, Unit::Milliseconds), "999 ms");
        assert_eq!(in_unit(0.9712, Unit::Times), "0.971 ×");
        assert_eq!([two_digits(-0.001), two_digits(-0.02)], ["0.00", "-0.02"]);
    }
}
