//! Data-parallel training over threads: the numbers of one process, and an end for all where one fails.

#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::atomic::{AtomicUsize, Ordering};

use candle_core::{DType, Device, Result, Tensor, Var, bail};
use candle_nn::VarMap;
use hypernn::nn::{AdamW, BatchNorm, Linear, ModuleT, Optimizer, SGD, VarBuilder, linear};
use hypernn::parallel::{AllReduce, DataParallel, Sharded, Threads};
use hypernn::{Error, HyperTarget, hypernetwork};
use hypernn_tests::parallel::{
    Alone, BATCH, ROWS, Settings, Training, go_on, largest_difference, trained, trained_alone,
};
use hypernn_tests::{by_name, message, variables};

/// Values of each rank after 50 steps are those of one process on joint batches.
fn assert_as_one<O: Settings>(dtype: DType, tolerance: f64) {
    let alone = trained_alone::<O>(dtype, 50).unwrap();
    for size in [1, 2, 3, 11] {
        let ranks = Threads::run(size, |rank| trained::<O>(rank, dtype, 50)).unwrap();
        assert!(ranks.iter().all(|values| values == &ranks[0]), "{size} ranks differ");
        let difference = largest_difference(&ranks[0], &alone);
        let tolerance = if size == 1 { 0. } else { tolerance };
        assert!(difference <= tolerance, "{size} ranks: {difference:e}");
    }
}

#[test]
fn ranks_have_the_values_of_one_process() {
    assert_as_one::<SGD>(DType::F64, 1e-12);
    assert_as_one::<SGD>(DType::F32, 1e-6);
    assert_as_one::<AdamW>(DType::F64, 1e-12);
    // Where a gradient is next to zero, AdamW's step is as large for its rounding as for any other.
    assert_as_one::<AdamW>(DType::F32, 1e-4);
}

/// In half precision sums are of f32, as on one rank.
#[test]
fn halves_are_summed_in_f32() {
    for dtype in [DType::BF16, DType::F16] {
        let ranks = Threads::run(2, |rank| trained::<AdamW>(rank, dtype, 5)).unwrap();
        assert_eq!(ranks[0], ranks[1]);
        let difference = largest_difference(&ranks[0], &trained_alone::<AdamW>(dtype, 5).unwrap());
        assert!(difference < 0.05, "{difference}");
    }
}

/// What a step gives each rank, by its rank and the optimiser.
fn steps<T: Send>(
    size: usize,
    each: impl Fn(&Training, DataParallel<AdamW, &Threads>) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    Threads::run(size, |rank| {
        let training = Training::new(7, DType::F64)?;
        let optimizer = training.optimizer(rank)?;
        each(&training, optimizer)
    })
}

#[test]
fn the_loss_is_the_mean_over_all_samples() {
    let expected = Training::new(7, DType::F64).unwrap().loss(&[0, 1, 2, 3, 4, 5]).unwrap();
    let expected = expected.to_scalar::<f64>().unwrap();
    let losses = steps(3, |training, mut optimizer| {
        // 0, 2 and 4 rows.
        let rows = [&[][..], &[0, 1], &[2, 3, 4, 5]][optimizer.comm().rank()];
        let loss = optimizer.backward_step(rows.len(), || training.loss(rows))?;
        assert_eq!(optimizer.steps(), 1);
        optimizer.finish()?;
        Ok(loss)
    });
    let losses = losses.unwrap();
    assert!(losses.iter().all(|loss| *loss == losses[0]));
    assert!((losses[0] - expected).abs() < 1e-14, "{losses:?}, expected {expected}");
}

#[test]
fn gradients_are_accumulated_before_they_are_exchanged() {
    let whole = |training: &Training, mut optimizer: DataParallel<AdamW, &Threads>| {
        optimizer.backward_step(6, || training.loss(&[0, 1, 2, 3, 4, 5]))?;
        optimizer.finish()?;
        training.values()
    };
    let in_parts = |training: &Training, mut optimizer: DataParallel<AdamW, &Threads>| {
        if optimizer.comm().rank() == 1 {
            optimizer.accumulate(2, || training.loss(&[3, 4]))?;
            optimizer.accumulate(0, || bail!("no rows, no loss"))?;
        }
        let rows = [&[0, 1, 2][..], &[5]][optimizer.comm().rank()];
        optimizer.backward_step(rows.len(), || training.loss(rows))?;
        optimizer.finish()?;
        training.values()
    };
    let (whole, in_parts) = (steps(1, whole).unwrap(), steps(2, in_parts).unwrap());
    assert_eq!(in_parts[0], in_parts[1]);
    assert!(largest_difference(&whole[0], &in_parts[0]) < 1e-12);
}

/// A tensor of 4 values whose gradient for a loss of `row` is `row`.
fn weight(rank: &impl AllReduce) -> Result<(VarMap, DataParallel<SGD, &impl AllReduce>, Var)> {
    let vars = VarMap::new();
    let vb = VarBuilder::from_varmap(&vars, DType::F64, &Device::Cpu);
    vb.get_with_hints(2, "weight", candle_nn::Init::Const(0.))?;
    let optimizer = DataParallel::new(rank, &vars, vars.all_vars(), 1.)?;
    let var = by_name(&vars)["weight"].clone();
    Ok((vars, optimizer, var))
}

/// The joint gradient is clipped, not that of each rank: the mean of (6, 0) and (0, 8) is (3, 4).
#[test]
fn the_mean_gradient_is_clipped() {
    for (norm, expected) in [(10., [-3., -4.]), (1., [-0.6, -0.8])] {
        let moved = Threads::run(2, |rank| -> Result<_> {
            let (_, mut optimizer, var) = weight(rank)?;
            optimizer.set_max_norm(norm)?;
            let row = [[6., 0.], [0., 8.]][rank.rank()];
            let row = Tensor::new(&row, &Device::Cpu)?;
            optimizer.backward_step(1, || (var.as_tensor() * row)?.sum_all())?;
            optimizer.finish()?;
            var.to_vec1::<f64>()
        });
        let moved = moved.unwrap();
        assert_eq!(moved[0], moved[1]);
        assert!(largest_difference(&moved[0], &expected) < 1e-15, "norm {norm}: {moved:?}");
    }
    let err = Threads::run(1, |rank| weight(rank)?.1.set_max_norm(f64::NAN));
    assert_eq!(message(err), "the gradient's norm is at most NaN, expected a number above zero");
}

/// One rank's loss does not reach a variable that another's does.
#[test]
fn a_variable_that_some_ranks_do_not_reach_has_zero_there() {
    let moved = Threads::run(2, |rank| -> Result<_> {
        let vars = VarMap::new();
        let vb = VarBuilder::from_varmap(&vars, DType::F64, &Device::Cpu);
        for name in ["a", "b", "nobody's"] {
            vb.get_with_hints(1, name, candle_nn::Init::Const(1.))?;
        }
        let settings =
            hypernn::nn::ParamsAdamW { weight_decay: 0.5, lr: 0.1, ..Default::default() };
        let mut optimizer: DataParallel<AdamW, _> =
            DataParallel::new(rank, &vars, vars.all_vars(), settings)?;
        let own = by_name(&vars)[["a", "b"][rank.rank()]].clone();
        optimizer.backward_step(1, || own.as_tensor().sum_all())?;
        optimizer.finish()?;
        by_name(&vars).values().map(|var| var.to_vec1::<f64>()).collect::<Result<Vec<_>>>()
    });
    let moved = moved.unwrap();
    assert_eq!(moved[0], moved[1]);
    let moved = moved[0].concat();
    // Without a gradient anywhere AdamW leaves a variable as it is, decay included.
    assert!(moved[0] == moved[1] && moved[0] < 1. && moved[2] == 1., "{moved:?}");
}

#[test]
fn buckets_change_nothing_but_the_number_of_exchanges() {
    let trained = |bytes: usize| {
        steps(2, move |training, mut optimizer| {
            optimizer.set_bucket_bytes(bytes);
            let mut rows = Sharded::new(optimizer.comm(), ROWS, BATCH, 3)?;
            for step in 0..5 {
                let own = rows.of_step(step);
                optimizer.backward_step(own.len(), || training.loss(&own))?;
            }
            let traffic = optimizer.traffic();
            optimizer.finish()?;
            Ok((training.values()?, traffic))
        })
        .unwrap()
    };
    let (small, large) = (trained(1), trained(1 << 20));
    assert_eq!(small, large);
    // Gradients of f64, and a message of seven numbers and one for each variable.
    let training = Training::new(7, DType::F64).unwrap();
    let step = training.hyper.num_params() + 7 + training.hyper.trainable().len();
    assert_eq!(large[0].1, 5 * 8 * step as u64);
}

/// The error of each rank.
fn errors(size: usize, each: impl Fn(&Threads) -> Result<()> + Sync) -> Vec<Option<String>> {
    Threads::run(size, |rank| Result::Ok(each(rank).err().map(|err| message::<()>(Err(err)))))
        .unwrap()
}

fn words(words: &str) -> Option<String> {
    Some(words.to_owned())
}

#[test]
fn a_rank_that_fails_fails_all_with_its_words() {
    let calls = AtomicUsize::new(0);
    let found = errors(3, |rank| {
        let training = Training::new(7, DType::F32)?;
        let mut optimizer = training.optimizer::<AdamW, _>(rank)?;
        for step in 0..5 {
            optimizer.backward_step(2, || {
                calls.fetch_add(1, Ordering::Relaxed);
                match (step, rank.rank()) {
                    (3, 1) => bail!("no memory on this one"),
                    _ => training.loss(&[0, 1]),
                }
            })?;
        }
        optimizer.finish()
    });
    let others = words("rank 1: no memory on this one");
    assert_eq!(found, [others.clone(), words("no memory on this one"), others]);
    assert_eq!(calls.into_inner(), 12);
}

/// Whatever it fails by, and wherever: while it accumulates, by an error that it shares, outside of the training.
#[test]
fn no_rank_waits_for_one_that_has_failed() {
    type Fails = fn(&Training, DataParallel<AdamW, &Threads>) -> Result<()>;
    let fails: [(Fails, &str); 5] = [
        (|_, mut optimizer| optimizer.accumulate(1, || bail!("wrong")), "rank 1: wrong"),
        (
            |_, mut optimizer| optimizer.agree(Err(candle_core::Error::msg("wrong"))),
            "rank 1: wrong",
        ),
        (|_, _| bail!("wrong"), "rank 1 has gone after 0 steps, without `finish`"),
        (
            |_, optimizer| optimizer.finish(),
            "the ranks do not do the same: rank 0 takes step 1 with a learning rate of 0.01, rank 1 has finished after 0 steps",
        ),
        (
            |training, mut optimizer| {
                optimizer.backward_step(2, || training.loss(&[0, 1])?.reshape(1))?;
                optimizer.finish()
            },
            "rank 1: the loss has shape [1], expected a scalar",
        ),
    ];
    for (fail, expected) in fails {
        let found = errors(2, |rank| {
            let training = Training::new(7, DType::F32)?;
            let mut optimizer = training.optimizer::<AdamW, _>(rank)?;
            if rank.rank() == 1 {
                return fail(&training, optimizer);
            }
            optimizer.backward_step(2, || training.loss(&[0, 1]))?;
            optimizer.finish()
        });
        assert_eq!(found[0], words(expected));
        assert!(found[1].is_some());
    }
}

#[test]
fn a_panic_ends_the_others_first() {
    let told = std::sync::Mutex::new(None);
    let run = || {
        Threads::run(2, |rank| {
            let training = Training::new(7, DType::F32)?;
            let mut optimizer = training.optimizer::<AdamW, _>(rank)?;
            assert!(rank.rank() == 0, "a panic that is meant");
            let result = optimizer.backward_step(2, || training.loss(&[0, 1]));
            *told.lock().unwrap() = Some(message(result));
            Result::Ok(())
        })
    };
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).unwrap_err();
    let told = told.into_inner().unwrap();
    assert_eq!(told, words("rank 1 has panicked after 0 steps, without `finish`"));
}

#[test]
fn ranks_that_differ_are_named() {
    // Shapes.
    let of_width = |width: fn(usize) -> usize| {
        move |rank: &Threads| {
            let (vars, vb) = variables(1, DType::F32);
            linear(width(rank.rank()), 2, vb.pp("fc"))?;
            DataParallel::<AdamW, _>::new(rank, &vars, vars.all_vars(), AdamW::settings()).map(drop)
        }
    };
    let expected =
        "has trained `fc.weight` F32 [2, 4], but rank 0 has trained `fc.weight` F32 [2, 3]";
    let others = words(&format!("rank 2: {expected}"));
    let found = errors(3, of_width(|rank| if rank == 2 { 4 } else { 3 }));
    assert_eq!(found, [others.clone(), others, words(expected)]);
    // Names.
    let found = errors(2, |rank| {
        let (vars, vb) = variables(1, DType::F32);
        let fc: Linear = linear(3, 2, vb.pp("fc"))?;
        if rank.rank() == 0 {
            linear(1, 1, vb.pp("more"))?;
        }
        drop(fc);
        DataParallel::<AdamW, _>::new(rank, &vars, vars.all_vars(), AdamW::settings()).map(drop)
    });
    let expected = "has no more variables, but rank 0 has trained `more.bias` F32 [1]";
    assert_eq!(found[1], words(expected));
    // Learning rates.
    let found = errors(2, |rank| {
        let training = Training::new(7, DType::F32)?;
        let mut optimizer = training.optimizer::<AdamW, _>(rank)?;
        optimizer.optimizer_mut().set_learning_rate(0.5 + rank.rank() as f64);
        optimizer.backward_step(2, || training.loss(&[0, 1])).map(drop)
    });
    let expected = "the ranks do not do the same: rank 0 takes step 1 with a learning rate of 0.5, rank 1 takes step 1 with a learning rate of 1.5";
    assert_eq!(found, [words(expected), words(expected)]);
    // Values, which somebody has changed.
    let found = errors(2, |rank| {
        let training = Training::new(7, DType::F32)?;
        let mut optimizer = training.optimizer::<AdamW, _>(rank)?;
        if rank.rank() == 1 {
            let var = by_name(&training.vars)["generator.0.bias"].clone();
            var.set(&(var.as_tensor() + 1e-6)?)?;
        }
        optimizer.ensure_equal()
    });
    let expected = "`generator.0.bias` differs from that of rank 0";
    assert_eq!(found, [words(&format!("rank 1: {expected}")), words(expected)]);
}

/// More batches on one rank than on another.
#[test]
fn other_numbers_of_steps_are_named() {
    let found = errors(2, |rank| {
        let training = Training::new(7, DType::F32)?;
        let mut optimizer = training.optimizer::<AdamW, _>(rank)?;
        for _ in 0..3 + rank.rank() {
            optimizer.backward_step(2, || training.loss(&[0, 1]))?;
        }
        optimizer.finish()
    });
    let expected = "the ranks do not do the same: rank 0 has finished after 3 steps, rank 1 takes step 4 with a learning rate of 0.01";
    assert_eq!(found, [words(expected), words(expected)]);
}

#[test]
fn what_can_not_be_trained_is_an_error() {
    let new = |trained: fn(&VarMap) -> Vec<Var>| {
        let (vars, vb) = variables(1, DType::F32);
        linear(3, 2, vb).unwrap();
        let new = DataParallel::<AdamW, _>::new(Alone, &vars, trained(&vars), AdamW::settings());
        new.map(drop)
    };
    let other = |_: &VarMap| vec![Var::zeros(5, DType::F32, &Device::Cpu).unwrap()];
    let expected = "a variable of shape [5] is to be trained that the `VarMap` does not name";
    assert_eq!(message(new(other)), expected);
    let expected = "no variables are to be trained, expected one or more";
    assert_eq!(message(new(|_| Vec::new())), expected);
    let (vars, vb) = variables(1, DType::F32);
    linear(3, 2, vb).unwrap();
    let settings = hypernn::nn::ParamsAdamW { lr: -1., ..Default::default() };
    let new = DataParallel::<AdamW, _>::new(Alone, &vars, vars.all_vars(), settings);
    let expected = "adam_w: the learning rate is -1, expected a finite number of at least 0";
    assert_eq!(message(new.map(drop)), expected);
    // Nobody has any samples.
    let found =
        steps(2, |training, mut optimizer| optimizer.backward_step(0, || training.loss(&[])));
    assert_eq!(message(found), "step 1: no rank has any samples");
}

/// The raw operations, where ranks call different ones.
#[test]
fn threads_compare_what_they_are_called_with() {
    let zeros = |dims: usize, dtype| Tensor::zeros(dims, dtype, &Device::Cpu);
    let found = errors(2, |rank| {
        let mut tensors = [zeros(2 + rank.rank(), DType::F32)?];
        rank.all_reduce(&mut tensors)
    });
    let expected = words("the ranks do not do the same: rank 0 sums F32 [2], rank 1 sums F32 [3]");
    assert_eq!(found, [expected.clone(), expected]);
    let found = errors(2, |rank| match rank.rank() {
        0 => rank.all_reduce(&mut []),
        _ => rank.broadcast(&mut [], 1),
    });
    let expected =
        words("the ranks do not do the same: rank 0 sums, rank 1 broadcasts from rank 1");
    assert_eq!(found, [expected.clone(), expected]);
    let found = errors(1, |rank| rank.all_reduce(&mut [zeros(1, DType::U32)?]));
    assert_eq!(found, [words("a sum over ranks of U32, expected f32 or f64")]);
    let found = errors(1, |rank| rank.broadcast(&mut [], 0));
    assert_eq!(found, [None]);
    let found = errors(1, |rank| rank.broadcast(&mut [zeros(1, DType::F32)?], 1));
    assert_eq!(found, [words("a broadcast from rank 1, expected one below 1")]);
    let err = Threads::run(0, |_| Result::Ok(())).err().unwrap();
    assert!(matches!(Error::of(&err), Some(Error::Ranks { .. })));
}

/// The error of `run` is the cause, not that of a rank that waited.
#[test]
fn the_first_error_is_given() {
    for failing in 0..3 {
        let result = Threads::run(3, |rank| {
            if rank.rank() == failing {
                bail!("the cause");
            }
            rank.all_reduce(&mut [Tensor::zeros(1, DType::F32, &Device::Cpu)?])
        });
        assert_eq!(message(result), "the cause");
    }
}

#[test]
fn operations_follow_each_other_without_mixing() {
    let sums = Threads::run(4, |rank| {
        let mut sums = Vec::new();
        for step in 0..200 {
            let value = (rank.rank() * 1000 + step) as f64;
            let mut tensors = [Tensor::new(value, &Device::Cpu)?];
            if step % 3 == 0 {
                rank.broadcast(&mut tensors, step % 4)?;
            } else {
                rank.all_reduce(&mut tensors)?;
            }
            sums.push(tensors[0].to_scalar::<f64>()?);
        }
        Result::Ok(sums)
    });
    let sums = sums.unwrap();
    let expected = |step: usize| match step % 3 {
        0 => (step % 4 * 1000 + step) as f64,
        _ => (6000 + 4 * step) as f64,
    };
    let expected: Vec<_> = (0..200).map(expected).collect();
    assert!(sums.iter().all(|sums| *sums == expected));
}

#[test]
fn a_run_goes_on_with_the_same_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let [first, second] = ["first", "second"].map(|name| folder.path().join(name));
    let run = |load: Option<&std::path::Path>, last, save: &std::path::Path| {
        Threads::run(2, |rank| go_on(rank, load, last, save)).unwrap()
    };
    let whole = run(None, 20, &first);
    run(None, 9, &first);
    assert_eq!(run(Some(&first), 20, &second), whole);
    // On another number of ranks, up to the order of sums.
    let three = Threads::run(3, |rank| go_on(rank, Some(&first), 20, &second)).unwrap();
    assert!(largest_difference(&three[0], &whole[0]) < 1e-3);
    // What can't be read is an error on all ranks.
    let missing = folder.path().join("missing");
    let found = errors(2, |rank| go_on(rank, Some(&missing), 20, &second).map(drop));
    assert!(found[0].as_ref().unwrap().contains("missing"), "{found:?}");
    assert_eq!(found[1], words(&format!("rank 0: {}", found[0].as_ref().unwrap())));
    let found = errors(2, |rank| go_on(rank, None, 1, &missing.join("deeper")).map(drop));
    assert!(found[1].as_ref().unwrap().starts_with("rank 0: can't write"), "{found:?}");
}

#[test]
fn a_file_of_other_variables_is_an_error() {
    let path = tempfile::tempdir().unwrap();
    let path = path.path().join("run");
    let of_width = |width, load| {
        let (vars, vb) = variables(1, DType::F32);
        linear(width, 2, vb.pp("fc"))?;
        let mut optimizer: DataParallel<SGD, _> =
            DataParallel::new(Alone, &vars, vars.all_vars(), 0.1)?;
        if load { optimizer.load(&path) } else { optimizer.save(&path) }
    };
    of_width(3, false).unwrap();
    of_width(3, true).unwrap();
    let expected = "`fc.weight` is F32 [2, 3], expected F32 [2, 4]";
    let expected = format!("can't load {}: {expected}", path.display());
    assert_eq!(message(of_width(4, true)), expected);
}

#[derive(HyperTarget)]
struct Normed {
    #[hyper(linear(6, 4))]
    fc: Linear,
    #[hyper(batch_norm(4))]
    norm: BatchNorm,
}

impl ModuleT for Normed {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Result<Tensor> {
        use hypernn::nn::Module;
        self.norm.forward_t(&self.fc.forward(xs)?, train)
    }
}

hypernetwork! {
    struct HyperNormed for Normed { embedding: table(6, 3), generator: linear, mode: static }
}

/// Each rank has those of its rows; the mean is the same on all, and bases stay bit for bit.
#[test]
fn running_statistics_are_averaged() {
    let statistics = Threads::run(3, |rank| {
        let (vars, vb) = variables(5, DType::F32);
        let hyper = HyperNormed::new(vb)?;
        let settings = AdamW::settings();
        let mut optimizer: DataParallel<AdamW, _> =
            DataParallel::new(rank, &vars, hyper.trainable(), settings)?;
        let bases = |name: &&String| name.starts_with("base.");
        let values = |name: &str| by_name(&vars)[name].to_vec1::<f32>();
        let named = by_name(&vars);
        let kept: Vec<_> = named.keys().filter(bases).collect();
        let before = kept.iter().map(|name| values(name)).collect::<Result<Vec<_>>>()?;
        assert!(!before.is_empty());
        let xs = Tensor::new(1f32 + rank.rank() as f32, &Device::Cpu)?.broadcast_as((4, 6))?;
        optimizer.backward_step(4, || hyper.forward_t(&xs, true)?.sqr()?.mean_all())?;
        let own = values("buffers.norm.running_mean")?;
        optimizer.average_statistics()?;
        optimizer.ensure_equal()?;
        optimizer.finish()?;
        let after = kept.iter().map(|name| values(name)).collect::<Result<Vec<_>>>()?;
        assert_eq!(before, after);
        Result::Ok((own, values("buffers.norm.running_mean")?))
    });
    let statistics = statistics.unwrap();
    assert_ne!(statistics[0].0, statistics[1].0);
    for channel in 0..4 {
        let mean = statistics.iter().map(|(own, _)| own[channel] / 3.).sum::<f32>();
        assert!(statistics.iter().all(|(_, joint)| (joint[channel] - mean).abs() < 1e-6));
    }
}
