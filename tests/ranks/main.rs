//! A rank of the tests over MPI: `mpiexec -n 2 ranks WHAT …`.

use std::path::{Path, PathBuf};
use std::process::Command;

use candle_core::{DType, Error, Result, bail};
use hypernn::nn::{AdamW, SGD, linear};
use hypernn::parallel::{AllReduce, DataParallel, Mpi};
use hypernn_tests::parallel::{Settings, Training, go_on, trained};
use hypernn_tests::variables;

fn main() -> Result<()> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    Mpi::run(|rank| match arguments[..] {
        ["trained", optimizer, dtype, out] => {
            let dtype = if dtype == "f32" { DType::F32 } else { DType::F64 };
            let values = match optimizer {
                "sgd" => trained::<SGD>(rank, dtype, 50)?,
                _ => trained::<AdamW>(rank, dtype, 50)?,
            };
            write(rank, out, &values)
        }
        ["goes-on", load, last, save, out] => {
            let (load, last) = (PathBuf::from(load), last.parse().map_err(Error::wrap)?);
            let values = go_on(rank, load.exists().then_some(&load), last, Path::new(save))?;
            write(rank, out, &values)
        }
        ["fails", how] => fail(rank, how),
        ["operations"] => operations(rank),
        _ => bail!("no such test: {arguments:?}"),
    })
}

/// The values of a rank, for the test to read.
fn write(rank: &Mpi, out: &str, values: &[f64]) -> Result<()> {
    let bytes: Vec<_> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Ok(std::fs::write(Path::new(out).join(rank.rank().to_string()), bytes)?)
}

/// Three steps, then the last rank fails in one way or another, and the others would go on.
fn fail(rank: &Mpi, how: &str) -> Result<()> {
    let last = rank.rank() + 1 == rank.size();
    if last && how == "early" {
        bail!("failed early");
    }
    let training = Training::new(7, DType::F32)?;
    let mut optimizer = training.optimizer::<AdamW, _>(rank)?;
    for step in 0..1000 {
        match (last && step == 3, how) {
            (true, "killed") => killed()?,
            (true, "late") => bail!("failed late"),
            (true, "silently") => return Ok(()),
            (true, "finished") => return optimizer.finish(),
            #[allow(clippy::panic, reason = "what is tested")]
            (true, "panic") => panic!("a panic that is meant"),
            (true, "shape") => return other_shape(rank),
            _ => {}
        }
        optimizer.backward_step(2, || match (last && step == 3, how) {
            (true, "loss") => bail!("failed in its loss"),
            _ => training.loss(&[0, 1]),
        })?;
        if !last && how == "shape" && step == 2 {
            return other_shape(rank);
        }
    }
    optimizer.finish()
}

/// Ends this process as the system would where memory is short.
fn killed() -> Result<()> {
    Command::new("kill").args(["-9", &std::process::id().to_string()]).status()?;
    bail!("it is still there")
}

/// Another training, whose variables the ranks do not agree on.
fn other_shape(rank: &Mpi) -> Result<()> {
    let (vars, vb) = variables(1, DType::F32);
    linear(3 + rank.rank(), 2, vb.pp("fc"))?;
    DataParallel::<AdamW, _>::new(rank, &vars, vars.all_vars(), AdamW::settings()).map(drop)
}

/// Each dtype, by sum and by broadcast from the last rank.
fn operations(rank: &Mpi) -> Result<()> {
    use candle_core::{Device, Tensor};

    let (own, size) = (rank.rank() as f64, rank.size() as f64);
    let tensor = |dtype| Tensor::new(&[[own, 1.], [2., own]], &Device::Cpu)?.to_dtype(dtype);
    let values = |tensor: &Tensor| tensor.to_dtype(DType::F64)?.to_vec2::<f64>();
    let all = size * (size - 1.) / 2.;
    let mut sums = [tensor(DType::F32)?, tensor(DType::F64)?];
    rank.all_reduce(&mut sums)?;
    for sum in &sums {
        if values(sum)? != [[all, size], [2. * size, all]] {
            bail!("a wrong sum: {sum}");
        }
    }
    let last = rank.size() - 1;
    for dtype in [DType::F32, DType::F64, DType::U8, DType::U32, DType::I64] {
        let mut sent = [tensor(dtype)?];
        rank.broadcast(&mut sent, last)?;
        if values(&sent[0])? != [[size - 1., 1.], [2., size - 1.]] || sent[0].dtype() != dtype {
            bail!("a wrong broadcast: {}", sent[0]);
        }
    }
    let text = |result: Result<()>| result.err().map(|err| err.to_string()).unwrap_or_default();
    let unsummable = text(rank.all_reduce(&mut [tensor(DType::U32)?]));
    let from_nobody = text(rank.broadcast(&mut [tensor(DType::F32)?], rank.size()));
    let again = text(Mpi::run(|_| Ok(())));
    for (found, expected) in [
        (unsummable, "a sum over ranks of U32, expected f32 or f64".to_owned()),
        (from_nobody, format!("a broadcast from rank {size}, expected one below {size}")),
        (again, "MPI has been started in this process before".to_owned()),
    ] {
        if found.lines().next() != Some(&expected) {
            bail!("found `{found}`, expected `{expected}`");
        }
    }
    println!("{rank:?}: all operations");
    Ok(())
}
