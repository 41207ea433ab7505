//! What an example leaves behind: a table for the eye, a file for the machine.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use anyhow::{Context, Result};
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

/// A table whose first column is text and whose other columns are numbers.
pub fn table<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_header(header);
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// Writes a value as indented JSON.
///
/// # Errors
/// The file cannot be written.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let write = || -> Result<()> {
        Ok(serde_json::to_writer_pretty(BufWriter::new(File::create(path)?), value)?)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// A whole number with commas: 19,226.
pub fn commas(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A share as a percentage: 97.22 %.
pub fn percent(share: f64) -> String {
    format!("{:.2} %", 100. * share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        let texts = [0, 999, 1000, 19_226, 1_234_567].map(commas);
        assert_eq!(texts, ["0", "999", "1,000", "19,226", "1,234,567"]);
        assert_eq!(percent(0.97222), "97.22 %");
    }
}
