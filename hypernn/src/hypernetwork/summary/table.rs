//! A summary as Markdown, aligned for a terminal.

use std::fmt::{Display, Formatter, Result};

use super::{Summary, TensorSummary};
use crate::flow::{Network, Node};

impl Display for Summary {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let Self { name, target, embedding, generator, mode, .. } = self;
        if let Some(network) = &self.network {
            write_table(f, &step_table(target, network))?;
            writeln!(f)?;
        }
        write_table(f, &target_table(target, &self.tensors))?;
        writeln!(f)?;
        write_table(f, &variable_table(name, &self.variables))?;
        writeln!(f)?;
        write!(f, "embedding: {embedding}, generator: {generator}, mode: {mode}")?;
        writeln!(f, ", init: {}", self.init.name())?;
        let (rows, chunk) = (grouped(self.chunks.rows()), grouped(self.chunks.chunk()));
        writeln!(f, "{rows} chunks of {chunk}, surplus {}", grouped(self.chunks.surplus()))?;
        writeln!(f, "{target}: {}", self.counts())?;
        let (trained, generated) = (self.num_trained(), self.num_generated());
        let ratio = percent(trained as f64 / generated as f64);
        writeln!(f, "{name}: {} trained, {ratio} of what it generates", grouped(trained))
    }
}

impl Summary {
    /// How many of the target's parameters are generated, trained and frozen, where there are such.
    fn counts(&self) -> String {
        let counts = [
            (self.num_generated(), "generated"),
            (self.num_of_role("train"), "trained"),
            (self.num_of_role("freeze"), "frozen"),
        ];
        let counts = counts.iter().filter(|(count, _)| *count > 0);
        counts
            .map(|(count, what)| format!("{} {what}", grouped(*count)))
            .collect::<Vec<_>>()
            .join(", ")
    }
}

/// Titles, each with whether its column is aligned to the right, and rows of cells.
struct Table {
    titles: Vec<(String, bool)>,
    rows: Vec<Vec<String>>,
}

fn step_table(target: &str, network: &Network) -> Table {
    let titles = [format!("step of {target}"), String::new(), "shape".to_owned()];
    let row =
        |node: &Node| vec![node.name.to_owned(), node.what.to_owned(), node.shape.to_string()];
    Table {
        titles: titles.map(|title| (title, false)).into(),
        rows: network.nodes().iter().map(row).collect(),
    }
}

fn target_table(target: &str, tensors: &[TensorSummary]) -> Table {
    let titles = [
        (format!("tensor of {target}"), false),
        ("shape".to_owned(), false),
        ("role".to_owned(), false),
        ("rows".to_owned(), false),
        ("parameters".to_owned(), true),
        ("share".to_owned(), true),
    ];
    let row = |tensor: &TensorSummary| {
        let rows = tensor.rows.as_ref().map(|rows| format!("{}..{}", rows.start, rows.end));
        let [name, shape, role, params, share] = cells(tensor);
        vec![name, shape, role, rows.unwrap_or_default(), params, share]
    };
    Table { titles: titles.into(), rows: with_total(tensors, 6, row) }
}

fn variable_table(name: &str, variables: &[TensorSummary]) -> Table {
    let titles = [
        (format!("variable of {name}"), false),
        ("shape".to_owned(), false),
        ("role".to_owned(), false),
        ("parameters".to_owned(), true),
        ("share".to_owned(), true),
    ];
    Table { titles: titles.into(), rows: with_total(variables, 5, |row| cells(row).into()) }
}

/// Name, shape, role, number of parameters and share.
fn cells(tensor: &TensorSummary) -> [String; 5] {
    let name = match &tensor.same_as {
        Some(first) => format!("{} = {first}", tensor.name),
        None => tensor.name.clone(),
    };
    let (params, share) = match tensor.num_params {
        0 => (String::new(), String::new()),
        count => (grouped(count), percent(tensor.share)),
    };
    [name, format!("{:?}", tensor.shape), tensor.role.to_owned(), params, share]
}

/// The rows, and one with the sum of their parameters.
fn with_total(
    tensors: &[TensorSummary],
    columns: usize,
    row: impl Fn(&TensorSummary) -> Vec<String>,
) -> Vec<Vec<String>> {
    let total: usize = tensors.iter().map(|tensor| tensor.num_params).sum();
    let mut last = vec![String::new(); columns];
    last[0] = "total".to_owned();
    last[columns - 2] = grouped(total);
    last[columns - 1] = percent(if total == 0 { 0. } else { 1. });
    tensors.iter().map(row).chain([last]).collect()
}

fn write_table(f: &mut Formatter<'_>, table: &Table) -> Result {
    let width = |column: usize| {
        let cells = table.rows.iter().map(|row| row[column].chars().count());
        cells.max().unwrap_or(0).max(table.titles[column].0.chars().count())
    };
    let widths: Vec<_> = (0..table.titles.len()).map(width).collect();
    let titles: Vec<_> = table.titles.iter().map(|(title, _)| title.clone()).collect();
    write_row(f, table, &widths, &titles)?;
    for (width, (_, right)) in widths.iter().zip(&table.titles) {
        let line = "-".repeat(width + 1);
        write!(f, "|{}", if *right { format!("{line}:") } else { format!(":{line}") })?;
    }
    writeln!(f, "|")?;
    table.rows.iter().try_for_each(|row| write_row(f, table, &widths, row))
}

fn write_row(f: &mut Formatter<'_>, table: &Table, widths: &[usize], row: &[String]) -> Result {
    for ((cell, width), (_, right)) in row.iter().zip(widths).zip(&table.titles) {
        if *right {
            write!(f, "| {cell:>width$} ")?;
        } else {
            write!(f, "| {cell:width$} ")?;
        }
    }
    writeln!(f, "|")
}

/// `12,345`.
pub(super) fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100. * share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_grouped_by_three() {
        let texts = [0, 7, 999, 1000, 12_345, 1_234_567].map(grouped);
        assert_eq!(texts, ["0", "7", "999", "1,000", "12,345", "1,234,567"]);
    }
}
