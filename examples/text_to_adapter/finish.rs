//! After the training: what is answered right, tables, picture, summary.

use std::path::Path;

use anyhow::Result;
use hypernn_examples::args::device_name;
use hypernn_examples::plot::{self, Chart, HeatMap, Line};
use hypernn_examples::report::{percent, table, write_json};
use hypernn_examples::training::History;
use serde::Serialize;

use crate::adapter::TextAdapter;
use crate::classifier::Base;
use crate::results::{self, Group, Sentence};
use crate::run::Run;
use crate::score::{self, Score};

/// What came of it.
#[derive(Serialize)]
struct Results {
    groups: Vec<Group>,
    /// New sets in new wordings, by how they are described.
    kinds: Vec<(&'static str, usize, Score)>,
    by_hand: Vec<Sentence>,
    digits_read: f64,
}

/// What `summary.json` holds.
#[derive(Serialize)]
struct Summary<'a> {
    #[serde(flatten)]
    results: &'a Results,
    num_params: usize,
    num_adapter_values: usize,
    training_descriptions: usize,
    test_images: usize,
    dataset: &'a str,
    encoder: &'a str,
    steps: usize,
    batch_size: u32,
    images: u32,
    learning_rate: f64,
    noise: f64,
    seed: u64,
    device: String,
    quick: bool,
    seconds: f64,
    history: &'a History,
}

/// Writes everything to the output folder and prints what matters.
pub fn finish(run: &Run, base: &Base, hyper: &TextAdapter, history: &History) -> Result<()> {
    let (tests, pictures) = (&run.tests, &run.pictures);
    let groups =
        tests.groups().map(|(name, tasks)| results::group(name, run, (base, hyper), tasks));
    let groups = groups.into_iter().collect::<Result<Vec<_>>>()?;
    let kinds = results::kinds(hyper, &tests.new_both, pictures)?;
    let by_hand = results::sentences(hyper, &tests.by_hand, pictures)?;
    print_tables(&groups, &kinds, &by_hand);
    draw_answers(&run.out.join("answers.png"), &by_hand)?;
    draw_history(&run.out.join("learning_curve.png"), history)?;
    hyper.save(run.out.join("hypernetwork.safetensors"))?;
    let digits_read = score::digits_read(base, pictures)?;
    let results = Results { groups, kinds, by_hand, digits_read };
    write_json(&run.out.join("summary.json"), &summary(run, hyper, &results, history))?;
    println!("Pictures, checkpoints and summary.json are in {}.", run.out.display());
    Ok(())
}

fn summary<'a>(
    run: &'a Run,
    hyper: &TextAdapter,
    results: &'a Results,
    history: &'a History,
) -> Summary<'a> {
    let (args, network) = (&run.args, hyper);
    Summary {
        results,
        num_params: network.num_params(),
        num_adapter_values: network.num_target_params(),
        training_descriptions: run.train.tasks.len(),
        test_images: run.pictures.len(),
        dataset: args.dataset.name(),
        encoder: args.encoder.name(),
        steps: run.steps(),
        batch_size: args.batch_size,
        images: args.images,
        learning_rate: args.learning_rate,
        noise: args.noise,
        seed: args.run.common.seed,
        device: device_name(&run.device),
        quick: args.run.common.quick,
        seconds: history.seconds,
        history,
    }
}

fn print_tables(groups: &[Group], kinds: &[(&str, usize, Score)], sentences: &[Sentence]) {
    let balanced = |score: &Score| percent(score.balanced);
    let rows = groups.iter().map(|group| {
        let ways = [&group.unadapted, &group.nearest, &group.adapted, &group.understood];
        let [unadapted, nearest, adapted, understood] = ways.map(balanced);
        let count = group.descriptions.to_string();
        [group.name.to_owned(), count, unadapted, nearest, adapted, understood]
    });
    let header =
        ["descriptions", "number", "unadapted", "nearest known", "adapted", "if understood"];
    println!("Balanced accuracy on test images:\n{}", table(header, &rows.collect::<Vec<_>>()));
    let rows = kinds
        .iter()
        .map(|(kind, count, score)| [(*kind).to_owned(), count.to_string(), balanced(score)]);
    let header = ["new set in a new wording", "number", "adapted"];
    println!("{}", table(header, &rows.collect::<Vec<_>>()));
    let rows = sentences.iter().map(|sentence| {
        let Sentence { text, described, answered, balanced, .. } = sentence;
        [text.clone(), described.clone(), answered.clone(), percent(*balanced)]
    });
    let header = ["written by hand", "means", "yes to", "balanced"];
    println!("{}", table(header, &rows.collect::<Vec<_>>()));
}

fn draw_answers(path: &Path, sentences: &[Sentence]) -> Result<()> {
    let rows: Vec<_> = sentences
        .iter()
        .map(|sentence| format!("{} [{}]", sentence.text, sentence.described))
        .collect();
    let columns: Vec<_> = (0..10).map(|digit| digit.to_string()).collect();
    let values: Vec<_> = sentences.iter().map(|sentence| sentence.yes.clone()).collect();
    let title = "share of test images of each digit that are answered yes";
    plot::heat_map(
        path,
        &HeatMap { title, rows: &rows, columns: &columns, values: &values, numbers: false },
    )
}

fn draw_history(path: &Path, history: &History) -> Result<()> {
    let round = history.steps as f64 / history.loss.len().max(1) as f64;
    let chart = |title, name, values| Chart {
        title,
        x: "step",
        logarithmic: false,
        lines: vec![Line::by_step(name, round, values)],
    };
    let loss = chart("training loss", "training", &history.loss);
    let accuracy = chart("balanced accuracy", "validation", &history.measured);
    plot::charts(path, &[loss, accuracy])
}
