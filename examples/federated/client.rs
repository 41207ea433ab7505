//! What a client does with the network that it is sent. It knows nothing of a hypernetwork.

use anyhow::{Result, bail, ensure};
use candle_core::{DType, Tensor, Var};
use hypernn::GeneratedParams;
use hypernn::nn::{Optimizer, SGD, loss};
use hypernn_examples::random::rng_of;
use rand::Rng;
use rand::seq::index;

use crate::Net;
use crate::data::{Client, rows};
use crate::exchange::Jobs;
use crate::run::Run;

/// Trains the parameters that were sent, `[P]`, on the client's own images, and returns how they have changed.
///
/// Its batches follow from the seed, the round and its number: not from when it is asked, nor by whom.
pub fn train(run: &Run, jobs: &Jobs, number: usize, sent: &Tensor) -> Result<Tensor> {
    let (args, client) = (&run.args, &run.clients[number]);
    let mut rng = rng_of([args.common.seed, jobs.round, number as u64, 3]);
    if rng.random::<f64>() < args.deaths {
        bail!("the client is gone");
    }
    let own = Var::from_tensor(&sent.detach())?;
    let mut optimizer = SGD::new(vec![own.clone()], args.client_rate)?;
    for _ in 0..jobs.steps {
        let batch = batch(client, args.batch_size as usize, &mut rng);
        let batch = rows(&client.train, &batch)?;
        let logits =
            GeneratedParams::<Net>::from_flat(&(), own.as_tensor())?.forward(&batch.images)?;
        optimizer.backward_step(&loss::cross_entropy(&logits, &batch.labels)?)?;
    }
    let change = (own.as_tensor() - sent)?;
    ensure!(is_finite(&change)?, "what the client learned is not finite");
    Ok(change)
}

fn batch(client: &Client, size: usize, rng: &mut impl Rng) -> Vec<u32> {
    let all = client.train.len();
    let rows = index::sample(rng, all, size.min(all)).into_iter();
    rows.filter_map(|row| u32::try_from(row).ok()).collect()
}

fn is_finite(tensor: &Tensor) -> Result<bool> {
    let squares = tensor.sqr()?.sum_all()?.to_dtype(DType::F64)?;
    Ok(squares.to_scalar::<f64>()?.is_finite())
}
