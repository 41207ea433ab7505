//! The table of docs/model-gradients.md is what the example `model_gradients` prints.

#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../../examples/model_gradients/configs.rs"]
mod configs;
#[path = "../../examples/model_gradients/measure.rs"]
mod measure;
#[path = "../../examples/model_gradients/models.rs"]
mod models;

const DOCS: &str = include_str!("../../docs/model-gradients.md");

#[test]
#[ignore = "takes minutes"]
fn the_table_is_what_is_measured() {
    let rows = models::all().unwrap();
    let table = measure::table_of(&rows);
    let names = rows.iter().map(|row| format!("{}, {}: {}\n\n", row.model, row.batch, row.text));
    assert!(DOCS.contains(&table), "{table}\n{}", names.collect::<String>());
}
