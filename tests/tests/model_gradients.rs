//! The table of docs/model-gradients.md is what the example `model_gradients` prints.

#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../../examples/model_gradients/configs.rs"]
mod configs;
#[path = "../../examples/model_gradients/measure.rs"]
mod measure;
#[path = "../../examples/model_gradients/models.rs"]
mod models;

const DOCS: &str = include_str!("../../docs/model-gradients.md");

/// But for the last column, whose differences take minutes: the example prints it.
#[test]
fn the_table_is_what_is_measured() {
    let rows = models::all(measure::Measure::Audit).unwrap();
    let table = measure::table_of(&rows);
    let texts: Vec<_> = rows.iter().map(|row| row.text.as_str()).collect();
    let all_but_the_last = |line: &str| line.rsplit_once(" | ").unwrap().0.to_owned() + " | ";
    for line in table.lines().skip(2).map(all_but_the_last) {
        assert!(
            DOCS.lines().any(|of_docs| of_docs.starts_with(&line)),
            "{line}\n{table}\n{texts:#?}"
        );
    }
}
