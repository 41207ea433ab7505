//! After the training: a table, a picture, a file.

use anyhow::Result;
use hypernn::FixedTarget as _;
use hypernn_examples::args::device_name;
use hypernn_examples::plot::{Chart, Line, charts};
use hypernn_examples::report::{commas, percent, table, write_json};
use hypernn_examples::train::mean;
use serde::Serialize;

use crate::run::Run;
use crate::server::{Course, LeftOut, Served};
use crate::{CLIENTS, HyperNet, LATE, Net};

/// Bytes of the parameters that a client is sent, and of the change that it sends back.
pub const BYTES_SENT: u64 = 4 * Net::NUM_PARAMS as u64;

/// What `summary.json` holds of one way of learning.
#[derive(Serialize)]
struct Way {
    name: &'static str,
    /// The mean over the clients that were there from the start.
    accuracy: f64,
    /// That of the client that has the lowest.
    lowest: f64,
    /// The mean over those that came later.
    late: f64,
    /// Of a client in a round, both ways.
    bytes: u64,
    clients: Vec<f64>,
}

#[derive(Serialize)]
struct Summary<'a> {
    dataset: &'static str,
    seed: u64,
    device: String,
    quick: bool,
    rounds: usize,
    num_params: usize,
    num_target_params: usize,
    /// Of all rounds with the first clients.
    bytes: u64,
    left_out: &'a [LeftOut],
    measured: &'a [(usize, f64)],
    ways: &'a [Way],
}

/// Writes everything to the output folder and prints what matters.
pub fn finish(
    run: &Run,
    served: &Served,
    alone: &[f64],
    (averaged, course): &(Vec<f64>, Course),
) -> Result<()> {
    let of_server = [&served.accuracies[..], &served.late].concat();
    let both = 2 * BYTES_SENT;
    let ways = [
        way("hypernetwork", &of_server, both),
        way("by themselves", alone, 0),
        way("FedAvg", averaged, both),
    ];
    print(&ways);
    draw(run, &served.course, course)?;
    served.hyper.save(run.out.join("hypernetwork.safetensors"))?;
    let summary = Summary {
        dataset: run.args.dataset.name(),
        seed: run.args.common.seed,
        device: device_name(&run.device),
        quick: run.args.common.quick,
        rounds: run.rounds(),
        num_params: HyperNet::NUM_PARAMS,
        num_target_params: Net::NUM_PARAMS,
        bytes: served.course.bytes,
        left_out: &served.course.left_out,
        measured: &served.course.measured,
        ways: &ways,
    };
    write_json(&run.out.join("summary.json"), &summary)?;
    println!("A picture, the hypernetwork and summary.json are in {}.", run.out.display());
    Ok(())
}

fn way(name: &'static str, clients: &[f64], bytes: u64) -> Way {
    let (first, late) = clients.split_at(CLIENTS);
    let lowest = first.iter().copied().fold(1., f64::min);
    let mean = |accuracies: &[f64]| mean(accuracies.iter().copied());
    Way { name, accuracy: mean(first), lowest, late: mean(late), bytes, clients: clients.to_vec() }
}

fn print(ways: &[Way]) {
    let rows: Vec<_> = ways
        .iter()
        .map(|way| {
            let bytes = commas(usize::try_from(way.bytes).unwrap_or(usize::MAX));
            let [mean, lowest, late] = [way.accuracy, way.lowest, way.late].map(percent);
            [way.name.to_owned(), mean, lowest, late, bytes]
        })
        .collect();
    let late = format!("{LATE} that came later");
    let header = ["", "mean accuracy", "lowest", &late, "bytes of a client in a round"];
    println!("{}", table(header, &rows));
}

/// The mean accuracy, round by round.
fn draw(run: &Run, served: &Course, averaged: &Course) -> Result<()> {
    let line = |name, course: &Course| {
        let points = course.measured.iter().map(|&(round, share)| (round as f64, 100. * share));
        Line { name, points: points.collect() }
    };
    let lines = vec![line("hypernetwork", served), line("FedAvg", averaged)];
    let title = "mean accuracy of the clients, %";
    charts(&run.out.join("rounds.png"), &[Chart { title, x: "round", logarithmic: false, lines }])
}
