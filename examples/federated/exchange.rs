//! How the server reaches the clients: in this process, or over ranks.

use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use hypernn::FixedTarget as _;
use hypernn::parallel::AllReduce;

use crate::run::Run;
use crate::{Net, client};

/// What a round asks of some clients.
pub struct Jobs {
    /// The round, or what else tells its random numbers from others'.
    pub round: u64,
    /// Steps that each client takes.
    pub steps: usize,
    /// The clients by number.
    pub clients: Vec<usize>,
    /// What each is sent, `[k, P]`.
    pub sent: Tensor,
}

/// What came back from a client.
pub struct Answer {
    /// Its number.
    pub client: usize,
    /// How its parameters have changed, `[P]`; or why there is nothing.
    pub change: Result<Tensor, String>,
}

/// All clients.
pub trait Clients {
    /// Asks some of them. Answers are in the order of the jobs, whatever the order in which they came.
    ///
    /// # Errors
    /// The way to the clients is broken. A client that dies is no error.
    fn train(&mut self, jobs: &Jobs) -> Result<Vec<Answer>>;
}

/// Clients that this process computes, one after the other.
pub struct InProcess<'a> {
    /// All that they have.
    pub run: &'a Run,
}

impl Clients for InProcess<'_> {
    fn train(&mut self, jobs: &Jobs) -> Result<Vec<Answer>> {
        (0..jobs.clients.len()).map(|index| answer(self.run, jobs, index)).collect()
    }
}

fn answer(run: &Run, jobs: &Jobs, index: usize) -> Result<Answer> {
    let (client, sent) = (jobs.clients[index], jobs.sent.get(index)?);
    let change = client::train(run, jobs, client, &sent).map_err(|err| err.to_string());
    Ok(Answer { client, change })
}

/// Clients that are shared out among ranks, of which this is the first.
///
/// An all-reduce brings every rank all changes, though the server alone needs them: it is what every engine
/// has. Over a network of its own a client would be sent its parameters and send back its change, no more.
pub struct OverRanks<'a> {
    /// The engine.
    pub rank: &'a dyn AllReduce,
    /// What the clients of this rank have.
    pub run: &'a Run,
}

impl OverRanks<'_> {
    /// Lets the other ranks go.
    pub fn end(self) -> Result<()> {
        announce(self.rank, [0, 0, 0]).map(drop)
    }
}

impl Clients for OverRanks<'_> {
    fn train(&mut self, jobs: &Jobs) -> Result<Vec<Answer>> {
        let count = jobs.clients.len();
        announce(self.rank, [jobs.round.cast_signed(), jobs.steps as i64, count as i64])?;
        let clients: Vec<_> = jobs.clients.iter().map(|&client| client as i64).collect();
        self.rank.broadcast(&mut [Tensor::new(clients, &Device::Cpu)?, jobs.sent.clone()], 0)?;
        let (changes, died) = together(self.rank, self.run, jobs)?;
        let answers = jobs.clients.iter().enumerate().map(|(index, &client)| {
            let change = match died[index] {
                0. => Ok(changes.get(index)?),
                _ => Err(format!("it died on rank {}", client % self.rank.size())),
            };
            Ok(Answer { client, change })
        });
        answers.collect()
    }
}

/// What a rank does that is not the server: it trains its clients whenever the server asks.
pub fn serve(rank: &dyn AllReduce, run: &Run) -> Result<()> {
    loop {
        let [round, steps, count] = announce(rank, [0; 3])?;
        if count == 0 {
            return Ok(());
        }
        let count = usize::try_from(count)?;
        let mut tensors = [
            Tensor::zeros(count, DType::I64, &Device::Cpu)?,
            Tensor::zeros((count, Net::NUM_PARAMS), DType::F32, &run.device)?,
        ];
        rank.broadcast(&mut tensors, 0)?;
        let [clients, sent] = tensors;
        let clients = clients.to_vec1::<i64>()?.into_iter().map(usize::try_from);
        let clients = clients.collect::<Result<_, _>>().context("a client's number")?;
        let (round, steps) = (round.cast_unsigned(), usize::try_from(steps)?);
        together(rank, run, &Jobs { round, steps, clients, sent })?;
    }
}

/// The numbers of the first rank: a round, the steps and the number of clients, of which none is the end.
fn announce(rank: &dyn AllReduce, own: [i64; 3]) -> Result<[i64; 3]> {
    let mut numbers = [Tensor::new(&own, &Device::Cpu)?];
    rank.broadcast(&mut numbers, 0)?;
    numbers[0].to_vec1()?.try_into().ok().context("three numbers were announced")
}

/// Each rank trains the clients that are its own. All changes, `[k, P]`, with zeros for clients that died, and
/// who did.
fn together(rank: &dyn AllReduce, run: &Run, jobs: &Jobs) -> Result<(Tensor, Vec<f64>)> {
    let nothing = Tensor::zeros(Net::NUM_PARAMS, DType::F32, &run.device)?;
    let (mut changes, mut died) = (Vec::new(), Vec::new());
    for (index, &client) in jobs.clients.iter().enumerate() {
        let own = client % rank.size() == rank.rank();
        let change = own.then(|| answer(run, jobs, index)).transpose()?.map(|own| own.change);
        died.push(f64::from(u8::from(matches!(change, Some(Err(_))))));
        changes.push(change.and_then(Result::ok).unwrap_or_else(|| nothing.clone()));
    }
    let mut sums = [Tensor::stack(&changes, 0)?, Tensor::new(died, &Device::Cpu)?];
    rank.all_reduce(&mut sums)?;
    let [changes, died] = sums;
    Ok((changes, died.to_vec1()?))
}
