//! Which models of candle-transformers 0.11 learn through what, as targets by constructor.
//!
//! Each is built in a tiny configuration, and audited over one sample and over two: several operations of
//! candle have a backward for a view and none for contiguous tensors, which samples by one are.
//! `--names` also prints what the audits say of each tensor.

mod configs;
mod measure;
mod models;

fn main() -> candle_core::Result<()> {
    let rows = models::all(measure::Measure::All)?;
    print!("{}", measure::table_of(&rows));
    if std::env::args().any(|arg| arg == "--names") {
        for row in &rows {
            println!("\n{}, {} samples: {}", row.model, row.batch, row.text);
        }
    }
    Ok(())
}
