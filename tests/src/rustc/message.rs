//! What the compiler says of a file, in a form that does not change with the machine, nor with the library's lines.

use std::io::Result;
use std::path::Path;

use super::{Compiler, Crates};

/// The width that messages are wrapped at.
const WIDTH: &str = "--diagnostic-width=140";

/// How many other types a message lists; the compiler's own number is its version's.
const OTHER_TYPES: usize = 8;

/// What the compiler says of a program that uses hypernn and candle; None where it compiles.
///
/// The file is named from the folder of this package.
///
/// # Errors
/// The compiler or the crates are not there.
pub fn of_file(file: &Path, crates: &Crates) -> Result<Option<String>> {
    let Some(mut command) = Compiler::Rustc.command()? else { return Ok(None) };
    let folder = tempfile::tempdir()?;
    command.args(["--edition=2024", "--crate-type=bin", "--emit=metadata", "--error-format=json"]);
    command.args(["--verbose", "-Adead_code", WIDTH, "--out-dir"]).arg(folder.path());
    // The library's own files are named from there, as cargo named them to the compiler.
    command.current_dir(workspace());
    let output = command.args(crates.arguments()).arg(Path::new(TESTS).join(file)).output()?;
    let said = messages(&super::text(&output.stderr));
    Ok((!output.status.success()).then(|| said.join("\n")))
}

/// The messages of a run, each once.
fn messages(json: &str) -> Vec<String> {
    let mut lines: Vec<&str> = Vec::new();
    for line in json.lines() {
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines.into_iter().filter_map(rendered).filter(|said| !said.trim().is_empty()).collect()
}

fn rendered(json: &str) -> Option<String> {
    let message: serde_json::Value = serde_json::from_str(json).ok()?;
    let summary = message["level"] == "failure-note";
    let text = message["rendered"].as_str().filter(|_| !summary)?;
    Some(unindented(&without_places(text)))
}

/// This package's folder in that of the workspace.
const TESTS: &str = "tests";

fn workspace() -> &'static Path {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests)
}

/// A message without the machine's paths, the library's line numbers, and counts of types that are not listed.
fn without_places(message: &str) -> String {
    let lines: Vec<&str> = message.lines().collect();
    let mut kept = Vec::new();
    let mut foreign = 0..0;
    let mut types = OtherTypes::default();
    for (at, line) in lines.iter().enumerate() {
        if line.starts_with("error: aborting due to ") || names_a_file_of_types(line) {
            continue;
        }
        let mut line = line.trim_end().to_owned();
        if is_location(&line) {
            if place(&mut line) {
                foreign = at + 1..at + 1 + snippet_length(&lines[at + 1..]);
            }
        } else if foreign.contains(&at) {
            hide_number(&mut line);
        }
        if types.keeps(&mut line, lines.get(at + 1)) {
            kept.push(line);
        }
    }
    kept.join("\n").trim_end().to_owned() + "\n"
}

fn names_a_file_of_types(line: &str) -> bool {
    line.contains("the full type name has been written to")
        || line.contains("the full name for the type has been written to")
}

fn is_location(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("--> ") || line.starts_with("::: ")
}

/// Names the file of a location from this package's folder; true where it is another's, whose lines may move.
fn place(line: &mut String) -> bool {
    let start = indent(line) + "--> ".len();
    let path = line.split_off(start);
    match path.strip_prefix("tests/") {
        Some(own) => line.push_str(own),
        None => {
            *line += "$WORKSPACE/";
            *line += &path;
            hide_position(line);
        }
    }
    !path.starts_with("tests/")
}

/// The lines of source that follow a location.
fn snippet_length(lines: &[&str]) -> usize {
    let of_source = |line: &&&str| {
        line.trim_start().starts_with(|first: char| first.is_ascii_digit() || "|.".contains(first))
    };
    lines.iter().take_while(of_source).count()
}

/// `linear.rs:3:5` becomes `linear.rs`.
fn hide_position(line: &mut String) {
    for _ in 0..2 {
        let digits = line.len() - line.trim_end_matches(|last: char| last.is_ascii_digit()).len();
        let Some(rest) = line[..line.len() - digits].strip_suffix(':').filter(|_| digits > 0)
        else {
            return;
        };
        line.truncate(rest.len());
    }
}

/// `12 | pub trait` becomes `   | pub trait`.
fn hide_number(line: &mut String) {
    let rest = line.trim_start_matches(|first: char| first == ' ' || first.is_ascii_digit());
    *line = " ".repeat(line.len() - rest.len()) + rest;
}

/// The list of the types that implement a trait, cut at a length of our own.
#[derive(Default)]
struct OtherTypes {
    listed: Option<usize>,
}

impl OtherTypes {
    /// False where a line is left out; the first of those says so instead.
    fn keeps(&mut self, line: &mut String, next: Option<&&str>) -> bool {
        let text = line.trim_start();
        if text.starts_with("and ") && text.ends_with(" others") {
            *line = " ".repeat(line.len() - text.len()) + "and $N others";
        }
        let indent = indent(line);
        let starts = [
            "= help: the following types implement",
            "= help: the following other types implement",
        ];
        if starts.iter().any(|start| line.trim_start().starts_with(start)) {
            self.listed = Some(0);
            return true;
        }
        let Some(listed) = &mut self.listed else { return true };
        if indent < 12 || line.ends_with("and $N others") {
            self.listed = None;
            return true;
        }
        *listed += 1;
        if *listed == OTHER_TYPES + 1 && next.is_some_and(|next| self::indent(next) == indent) {
            line.replace_range(indent - 2.., "and $N others");
        }
        *listed <= OTHER_TYPES + 1
    }
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// What a line is for the width of the column of line numbers.
enum Line {
    /// Where an error, a warning or a note begins.
    Heading,
    /// Source, or a location: the spaces that it could lose.
    Source(usize),
    /// Text that stands at the margin.
    Text,
    /// Any other: its spaces.
    Other(usize),
}

impl Line {
    fn of(line: &str, first: bool) -> Self {
        let heading = ["error:", "error[", "warning:", "warning["];
        if heading.iter().any(|start| line.starts_with(start))
            || first && line.starts_with("note: ")
        {
            return Self::Heading;
        }
        if ["note:", "help:"].iter().any(|start| line.starts_with(start)) || line == "..." {
            return Self::Text;
        }
        Self::numbered(line)
    }

    fn numbered(line: &str) -> Self {
        let (rest, before) = after(line.strip_prefix("...").unwrap_or(line), ' ');
        if line.starts_with("... ") {
            return Self::Source(before - 1);
        }
        let digits =
            rest.len() - rest.trim_start_matches(|first: char| first.is_ascii_digit()).len();
        let (rest, behind) = after(&rest[digits..], ' ');
        let spaces = before + behind;
        let is = |mark: &str| rest == mark || rest.starts_with(&format!("{mark} "));
        let changed = digits > 0 && (is("~") || is("+") || is("-"));
        let located = digits == 0 && (is_location(rest) || rest.starts_with("= "));
        match spaces > 0 && (is("|") || changed || located) {
            true => Self::Source(spaces - 1),
            false => Self::Other(if digits == 0 { spaces } else { 0 }),
        }
    }
}

/// The rest behind a run of one character, and the run's length.
fn after(line: &str, character: char) -> (&str, usize) {
    let rest = line.trim_start_matches(character);
    (rest, line.len() - rest.len())
}

/// A message whose column of line numbers is as wide as the file's own numbers need, and not as hidden ones.
fn unindented(message: &str) -> String {
    let lines: Vec<&str> = message.lines().collect();
    let mut text = String::new();
    let mut at = 0;
    while at < lines.len() {
        text += &format!("{}\n", lines[at]);
        at += 1;
        if matches!(Line::of(lines[at - 1], true), Line::Heading) {
            let block = Block::below(&lines[at..]);
            block.lines.iter().for_each(|(line, moves)| text += &block.moved(line, *moves));
            at += block.lines.len();
        }
    }
    text
}

/// The lines below a heading that share a column of line numbers.
#[derive(Default)]
struct Block<'a> {
    /// Each with whether it moves as the column becomes narrower.
    lines: Vec<(&'a str, bool)>,
    /// The spaces that all lines of source could lose.
    surplus: usize,
}

impl<'a> Block<'a> {
    fn below(lines: &[&'a str]) -> Self {
        let located = lines.first().is_some_and(|line| line.trim_start().starts_with("--> "));
        let Some(Line::Source(surplus)) = lines.first().map(|line| Line::of(line, false)) else {
            return Self::default();
        };
        let mut block = Self { lines: Vec::new(), surplus };
        let mut noted = false;
        for line in lines.iter().take_while(|_| located) {
            noted = match Line::of(line, false) {
                _ if noted && line.starts_with("      ") => true,
                Line::Text => true,
                Line::Source(spaces) => {
                    block.surplus = block.surplus.min(spaces);
                    false
                }
                Line::Other(11..) => false,
                Line::Heading | Line::Other(_) => break,
            };
            block.lines.push((line, !noted));
        }
        block
    }

    fn moved(&self, line: &str, moves: bool) -> String {
        let space = line.find(' ').filter(|_| moves);
        match space {
            Some(at) => format!("{}{}\n", &line[..at], &line[at + self.surplus..]),
            None => format!("{line}\n"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_librarys_lines_have_no_numbers() {
        let message = "error[E0277]: no\n   --> tests/tests/a.rs:9:12\n    |\n  9 |     block: Block,\n    |\n   ::: hypernn/src/lib.rs:101:1\n    |\n101 | pub trait T {\n    | ^^^\nnote: more";
        let expected = "error[E0277]: no\n --> tests/a.rs:9:12\n  |\n9 |     block: Block,\n  |\n ::: $WORKSPACE/hypernn/src/lib.rs\n  |\n  | pub trait T {\n  | ^^^\nnote: more\n";
        assert_eq!(unindented(&without_places(message)), expected);
    }

    #[test]
    fn a_message_is_said_once_and_a_summary_not_at_all() {
        let json =
            |level: &str| format!("{{\"level\":\"{level}\",\"rendered\":\"{level}: x\\n\"}}\n");
        let output = json("error") + &json("error") + &json("failure-note") + "no message\n";
        assert_eq!(messages(&output), ["error: x\n"]);
    }

    #[test]
    fn long_lists_of_types_are_cut() {
        let types: Vec<_> = (0..12).map(|n| format!("             T{n}\n")).collect();
        let said =
            format!("  = help: the following other types implement trait `X`:\n{}", types.concat());
        let cut = without_places(&said);
        assert_eq!(cut.lines().count(), 10, "{cut}");
        assert!(cut.ends_with("             T7\n           and $N others\n"), "{cut}");
    }
}
