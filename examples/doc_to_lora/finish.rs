//! The run: both trainings, the ways to answer, table, pictures and summary.

use anyhow::Result;
use hypernn::nn::VarMap;
use hypernn_examples::plot::{self, Chart, Line};
use hypernn_examples::report::{commas, percent, table, write_json};
use hypernn_examples::training::History;
use serde::Serialize;

use crate::batch::Batch;
use crate::language::{Document, text};
use crate::model::Reader;
use crate::run::{LONGEST, Purpose, Run};
use crate::test::Tested;

/// What `summary.json` holds.
#[derive(Serialize)]
struct Summary<'a> {
    /// The courses of both trainings.
    histories: &'a [History],
    /// The longest document of the training, in tokens.
    trained_tokens: usize,
    /// What documents of each length show.
    tested: &'a [Tested],
    /// The number of the hypernetwork's parameters.
    num_params: usize,
    options: String,
}

/// Trains and compares.
///
/// # Errors
/// A training fails, or a file can't be written.
pub fn run(run: &Run) -> Result<()> {
    let (model, taught) = run.teach()?;
    let vars = VarMap::new();
    let vb = run.args.run.common.variables(&vars, &run.device);
    let reader = Reader::new(&model, vb, &run.device)?;
    println!("{:#?}", reader.hyper);
    let distilled = run.distil(&reader, &vars)?;
    reader.hyper.save(run.out.join("hypernetwork.safetensors"))?;
    show(run, &reader)?;
    report(run, &reader, &[taught, distilled], &run.test(&reader)?)
}

/// One document, and the answers to questions about it.
fn show(run: &Run, reader: &Reader) -> Result<()> {
    let documents = run.documents(Purpose::Test, 1, 1, (LONGEST, LONGEST));
    let document: &Document = &documents[0];
    println!("A document:\n{}", text(&document.tokens()));
    let adapted = reader.read(&[document])?.detach().unpack()?;
    let batch = Batch::new(vec![document], document.needles.len(), &run.device);
    let answers = batch.alone(&adapted)?.argmax(candle_core::D::Minus1)?.to_vec1::<u32>()?;
    for (needle, answer) in document.needles.iter().zip(answers) {
        println!("{} … {}", text(&needle.question()), text(&[answer]));
    }
    Ok(())
}

fn report(run: &Run, reader: &Reader, histories: &[History], tested: &[Tested]) -> Result<()> {
    let row = |name: &str, value: fn(&Tested) -> String| {
        let [first, second, third] =
            [0, 1, 2].map(|at| tested.get(at).map_or_else(String::new, value));
        [name.to_owned(), first, second, third]
    };
    let rows = [
        row("without the document", |of| percent(of.without)),
        row("with the document in the prompt", |of| percent(of.prompted)),
        row("with an adapter of the document", |of| percent(of.adapted)),
        row("with an adapter of another document", |of| percent(of.adapted_by_another)),
        row("seconds to read it and to write its adapter", |of| format!("{:.4}", of.seconds)),
        row("bytes of the adapter", |of| commas(of.adapter_bytes as usize)),
        row("bytes of keys and values saved", |of| commas(of.cache_bytes as usize)),
    ];
    let header = [1, 2, 4].map(|times| format!("{} tokens", times * LONGEST));
    let [first, second, third] = header.each_ref().map(String::as_str);
    println!(
        "Right answers, by length of the document:\n{}",
        table(["", first, second, third], &rows)
    );
    let summary = Summary {
        histories,
        trained_tokens: LONGEST,
        tested,
        num_params: reader.hyper.num_params(),
        options: format!("{:?}", run.args),
    };
    write_json(&run.out.join("summary.json"), &summary)?;
    draw(run, histories)?;
    println!("Pictures, checkpoints and summary.json are in {}.", run.out.display());
    Ok(())
}

fn draw(run: &Run, histories: &[History]) -> Result<()> {
    let chart = |title, of: fn(&History) -> &Vec<f64>| {
        let line = |history| {
            let history: &History = history;
            let round = history.steps as f64 / history.loss.len().max(1) as f64;
            Line::by_step(&history.name, round, of(history))
        };
        Chart { title, x: "step", logarithmic: false, lines: histories.iter().map(line).collect() }
    };
    plot::charts(
        &run.out.join("learning_curves.png"),
        &[
            chart("training loss", |history| &history.loss),
            chart("right answers", |history| &history.measured),
        ],
    )
}
