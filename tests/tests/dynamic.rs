//! Dynamic hypernetworks: the declared type's methods, conditions, sequences, errors, files.

#![allow(missing_docs, clippy::unwrap_used)]

use candle_core::{DType, Module, Result, Tensor, Var};
use candle_nn::{VarBuilder, VarMap};
use hypernn::embedding::Embedded;
use hypernn::generated::TargetPlan;
use hypernn::hypernetwork::{Declared, DynamicHyperNetwork};
use hypernn::init::InitScheme;
use hypernn::nn::{GRU, GRUConfig, GRUState, LSTM, LSTMConfig, LSTMState, Linear, RNN};
use hypernn::{Condition, HyperTarget, State, hypernetwork};
use hypernn_tests::dynamic::{Embedding, Generator, Parts, Sizes, conditions, kinds, network};
use hypernn_tests::{device, input, message, relative_error, values, variable, variables};

#[derive(HyperTarget)]
struct Policy {
    #[hyper(linear(8, 6))]
    first: Linear,
    #[hyper(linear(6, 4))]
    second: Linear,
}

impl Module for Policy {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.second.forward(&self.first.forward(xs)?.tanh()?)
    }
}

hypernetwork! {
    /// With a state.
    struct HyperPolicy for Policy { embedding: rnn(8, 41, 4), generator: linear, mode: dynamic }
}

hypernetwork! {
    struct HyperTasks for Policy { embedding: tasks(3, 14, 4), generator: linear, mode: dynamic }
}

hypernetwork! {
    struct HyperTable for Policy {
        embedding: table(14, 4),
        generator: mlp([8], gelu).conditioned(5).encoding(cos_sin),
        mode: dynamic,
    }
}

fn policy() -> Result<(VarMap, HyperPolicy)> {
    let (vars, vb) = variables(1, DType::F32);
    Ok((vars, HyperPolicy::new(vb)?))
}

fn tasks(ids: &[u32]) -> Result<Tensor> {
    Tensor::new(ids, device())
}

fn same(found: &Tensor, expected: &Tensor) -> Result<()> {
    assert_eq!(found.dims(), expected.dims());
    assert_eq!(values(found)?, values(expected)?);
    Ok(())
}

/// Equal but for the order of sums.
fn close(found: &Tensor, expected: &Tensor) -> Result<()> {
    let error = relative_error(found, expected)?;
    assert!(error <= if found.dtype() == DType::F64 { 1e-12 } else { 1e-5 }, "{error:e}");
    Ok(())
}

#[test]
fn the_methods_of_a_declared_type() -> Result<()> {
    let (_vars, hyper) = policy()?;
    let (xs, state) = (input(&[3, 8], 1, DType::F32)?, hyper.zero_state(3)?);
    let ys = hyper.forward(&xs)?;
    assert_eq!(ys.dims(), [3, 4]);
    same(&Module::forward(&hyper, &xs)?, &ys)?;
    let params = hyper.generate_params(&xs)?;
    assert_eq!(params.num_sets(), Some(3));
    same(&params.forward(&xs)?, &ys)?;
    let (stepped, next) = hyper.step(&xs, &state)?;
    same(&stepped, &ys)?;
    let (with_aux, aux) = hyper.forward_aux(&xs)?;
    same(&with_aux, &ys)?;
    same(&aux.params.flat()?, &params.flat()?)?;
    same(&aux.state.tensors()[0], &next.tensors()[0])?;
    let Embedded::Scaled { table, gains } = aux.embedding else { unreachable!("rnn scales") };
    assert_eq!((table.dims(), gains.dims()), (&[41, 4][..], &[3, 41][..]));
    let (stepped, after) = hyper.generate_step(&xs, &next)?;
    assert_ne!(values(&stepped.flat()?)?, values(&params.flat()?)?);
    assert_ne!(values(&after.tensors()[0])?, values(&next.tensors()[0])?);
    assert_eq!(hyper.condition(), Condition::Vector(8));
    Ok(())
}

#[test]
fn a_debug_string() -> Result<()> {
    let (_vars, hyper) = policy()?;
    assert_eq!(
        format!("{hyper:?}"),
        "HyperPolicy { target: Policy (82 parameters in 4 tensors), embedding: rnn(8, 41, 4), \
         generator: linear, mode: dynamic, chunks: 41 of 2, surplus 0, \
         parameters: 2265 (2762.2% of the target's) }"
    );
    let hyper = HyperTable::new(variables(0, DType::F32).1)?;
    let text = format!("{hyper:?}");
    let generator = "generator: mlp([8], gelu).conditioned(5).encoding(cos_sin), mode: dynamic";
    assert!(text.contains(generator), "{text}");
    assert_eq!(
        format!("{:?}", hyper.generate_params(&input(&[2, 5], 1, DType::F32)?)?),
        "GeneratedParams { target: \"Policy\", sets: Some(2), parameters: 82 }".replace('"', "")
    );
    Ok(())
}

/// The counts by the specs, by the variables and by the network, of all kinds.
#[test]
fn counts() -> Result<()> {
    let sizes = Sizes { width: 3, num_embeddings: 5, embedding_dim: 3 };
    for kinds in kinds() {
        let (vars, vb) = variables(0, DType::F32);
        let parts = Parts::new(kinds.0, kinds.1, sizes, Policy::NUM_PARAMS);
        let hyper = parts.build::<Policy>(InitScheme::Exact, vb)?;
        let held: usize = vars.all_vars().iter().map(|var| var.elem_count()).sum();
        assert_eq!((held, hyper.num_params()), (parts.num_params, parts.num_params), "{kinds:?}");
    }
    for (constant, counted) in [
        (HyperPolicy::NUM_PARAMS, policy()?.1.num_params()),
        (HyperTasks::NUM_PARAMS, HyperTasks::new(variables(0, DType::F32).1)?.num_params()),
        (HyperTable::NUM_PARAMS, HyperTable::new(variables(0, DType::F32).1)?.num_params()),
    ] {
        assert_eq!(constant, counted);
    }
    assert_eq!(HyperTasks::RATIO, (3. * 56. + 5. * 6.) / 82.);
    Ok(())
}

#[test]
fn one_condition_for_all_rows() -> Result<()> {
    let (_vars, hyper) = policy()?;
    let (condition, xs) = (input(&[8], 1, DType::F32)?, input(&[5, 8], 2, DType::F32)?);
    let params = hyper.generate_params(&condition)?;
    assert_eq!((params.num_sets(), params.flat()?.dims()), (None, &[82][..]));
    let ys = params.forward(&xs)?;
    let repeated = condition.unsqueeze(0)?.broadcast_as((5, 8))?.contiguous()?;
    close(&ys, &hyper.generate_params(&repeated)?.forward(&xs)?)?;
    close(&ys, &hyper.generate_params(&condition.unsqueeze(0)?)?.forward(&xs)?)
}

/// Rows 0 to 3 are task 2's, rows 4 to 7 task 0's.
#[test]
fn a_batch_of_rows_per_task() -> Result<()> {
    let hyper = HyperTasks::new(variables(1, DType::F32).1)?;
    let xs = input(&[8, 8], 2, DType::F32)?;
    let ys = hyper.generate_params(&tasks(&[2, 0])?)?.forward(&xs)?;
    for (task, start) in [(2u32, 0), (0, 4)] {
        let one = hyper.generate_params(&Tensor::new(task, device())?)?;
        assert_eq!(one.num_sets(), None);
        close(&ys.narrow(0, start, 4)?, &one.forward(&xs.narrow(0, start, 4)?)?)?;
    }
    for dtype in [DType::U8, DType::I64] {
        let ids = tasks(&[2, 0])?.to_dtype(dtype)?;
        same(&hyper.generate_params(&ids)?.forward(&xs)?, &ys)?;
    }
    let message = message(hyper.generate_params(&tasks(&[2, 0, 1])?)?.forward(&xs));
    assert_eq!(
        message,
        "linear: a batch of 8 rows can't be shared out among 3 weight sets, expected a multiple"
    );
    Ok(())
}

/// An input of several dimensions is its own condition, flattened.
#[test]
fn an_input_of_several_dimensions() -> Result<()> {
    #[derive(HyperTarget)]
    struct Flat {
        #[hyper(linear(4, 3))]
        layer: Linear,
    }
    impl Module for Flat {
        fn forward(&self, xs: &Tensor) -> Result<Tensor> {
            self.layer.forward(xs)
        }
    }
    hypernetwork! {
        struct HyperFlat for Flat { embedding: gru(8, 5, 2), generator: linear, mode: dynamic }
    }
    let hyper = HyperFlat::new(variables(1, DType::F64).1)?;
    let xs = input(&[3, 2, 4], 1, DType::F64)?;
    let expected = hyper.generate_params(&xs.flatten_from(1)?)?.forward(&xs)?;
    same(&hyper.forward(&xs)?, &expected)?;
    let sequence = input(&[3, 4, 2, 4], 1, DType::F64)?;
    let (ys, last) = hyper.run(&sequence, &hyper.zero_state(3)?)?;
    assert_eq!(ys.dims(), [3, 4, 2, 3]);
    let mut state = hyper.zero_state(3)?;
    for at in 0..4 {
        let (step, next) = hyper.step(&sequence.narrow(1, at, 1)?.squeeze(1)?, &state)?;
        same(&ys.narrow(1, at, 1)?.squeeze(1)?, &step)?;
        state = next;
    }
    same(&last.tensors()[0], &state.tensors()[0])
}

/// `run` and `scan` are the steps, from a state that is not zero too.
#[test]
fn a_run_is_its_steps() -> Result<()> {
    for embedding in [Embedding::Rnn, Embedding::Gru, Embedding::Lstm, Embedding::Encoder] {
        let sizes = Sizes { width: 8, num_embeddings: 7, embedding_dim: 3 };
        let vb = variables(1, DType::F64).1;
        let hyper = network::<Policy>((embedding, Generator::Mlp), sizes, vb)?;
        let xs = input(&[3, 4, 8], 1, DType::F64)?;
        let start = hyper.step(&input(&[3, 8], 9, DType::F64)?, &hyper.zero_state(3)?)?.1;
        let (ys, last) = hyper.run(&xs, &start)?;
        let (scanned, _, count) = hyper.scan(&xs, &start, 0, |net, at, count| {
            assert_eq!(at, count);
            Ok((net.forward(&xs.narrow(1, at, 1)?.squeeze(1)?.contiguous()?)?, count + 1))
        })?;
        same(&scanned, &ys)?;
        assert_eq!((count, ys.dims()), (4, &[3, 4, 4][..]));
        let mut state = start;
        for at in 0..4 {
            let (step, next) = hyper.step(&xs.narrow(1, at, 1)?.squeeze(1)?, &state)?;
            same(&ys.narrow(1, at, 1)?.squeeze(1)?, &step)?;
            state = next;
        }
        assert_eq!(last.tensors().len(), state.tensors().len());
        for (a, b) in last.tensors().iter().zip(state.tensors()) {
            same(a, b)?;
        }
    }
    Ok(())
}

/// What candle's own cells carry, and for `rnn` the formula.
#[test]
fn a_carried_state_is_that_of_the_unrolled_cell() -> Result<()> {
    let steps = 3;
    let xs = input(&[2, steps, 5], 1, DType::F32)?;
    let at = |step| xs.narrow(1, step, 1)?.squeeze(1)?.contiguous();
    let sizes = Sizes { width: 5, num_embeddings: 6, embedding_dim: 3 };
    let carried = |embedding, vars: &VarMap| -> Result<State> {
        let vb = VarBuilder::from_varmap(vars, DType::F32, device());
        let hyper = network::<Policy>((embedding, Generator::Linear), sizes, vb)?;
        let state = hyper.zero_state(2)?;
        (0..steps).try_fold(state, |state, step| Ok(hyper.generate_step(&at(step)?, &state)?.1))
    };

    let vars = VarMap::new();
    let found = carried(Embedding::Rnn, &vars)?;
    let var = |name| variable(&vars, name).map(|var| var.as_tensor().clone());
    let mut h = Tensor::zeros((2, 6), DType::F32, device())?;
    for step in 0..steps {
        let input = at(step)?.matmul(&var("embedding.cell.weight_ih")?.t()?)?;
        let state = h.matmul(&var("embedding.cell.weight_hh")?.t()?)?;
        let biases = (var("embedding.cell.bias_ih")? + var("embedding.cell.bias_hh")?)?;
        h = (input + state)?.broadcast_add(&biases)?.tanh()?;
    }
    close(&found.tensors()[0], &h)?;

    let vars = VarMap::new();
    let found = carried(Embedding::Gru, &vars)?;
    let vb = VarBuilder::from_varmap(&vars, DType::F32, device()).pp("embedding.cell");
    let cell = GRU::new(5, 6, GRUConfig::default(), vb)?;
    let mut state: GRUState = cell.zero_state(2)?;
    for step in 0..steps {
        state = cell.step(&at(step)?, &state)?;
    }
    close(&found.tensors()[0], &state.h)?;

    let vars = VarMap::new();
    let found = carried(Embedding::Lstm, &vars)?;
    let vb = VarBuilder::from_varmap(&vars, DType::F32, device()).pp("embedding.cell");
    let cell = LSTM::new(5, 6, LSTMConfig::default(), vb)?;
    let mut state: LSTMState = cell.zero_state(2)?;
    for step in 0..steps {
        state = cell.step(&at(step)?, &state)?;
    }
    close(&found.tensors()[0], &state.h)?;
    close(&found.tensors()[1], &state.c)
}

#[test]
fn a_detached_state_cuts_the_gradient() -> Result<()> {
    let (_vars, hyper) = policy()?;
    let first = Var::from_tensor(&input(&[2, 8], 1, DType::F32)?)?;
    let second = input(&[2, 8], 2, DType::F32)?;
    let state = hyper.step(&first, &hyper.zero_state(2)?)?.1;
    let through = hyper.step(&second, &state)?.0;
    let cut = hyper.step(&second, &state.detach())?.0;
    same(&through, &cut)?;
    assert!(through.sum_all()?.backward()?.get(&first).is_some());
    assert!(cut.sum_all()?.backward()?.get(&first).is_none());
    Ok(())
}

#[test]
fn a_sequence_of_tasks() -> Result<()> {
    let hyper = HyperTasks::new(variables(1, DType::F32).1)?;
    let ids = Tensor::new(&[[0u32, 2], [1, 0]], device())?;
    let xs = input(&[2, 2, 8], 1, DType::F32)?;
    let step = |at| xs.narrow(1, at, 1)?.squeeze(1)?.contiguous();
    let state = hyper.zero_state(2)?;
    let (ys, ..) =
        hyper.scan(&ids, &state, (), |net, at, ()| Ok((net.forward(&step(at)?)?, ())))?;
    for (at, ids) in [[0, 1], [2, 0]].iter().enumerate() {
        let expected = hyper.generate_params(&tasks(ids)?)?.forward(&step(at)?)?;
        same(&ys.narrow(1, at, 1)?.squeeze(1)?, &expected)?;
    }
    Ok(())
}

#[test]
fn wrong_conditions() -> Result<()> {
    let (_vars, hyper) = policy()?;
    let condition =
        |dims: &[usize], dtype| message(hyper.generate_params(&input(dims, 1, dtype).unwrap()));
    assert_eq!(condition(&[3, 7], DType::F32), "the condition has width 7, expected 8");
    assert_eq!(condition(&[9], DType::F32), "the condition has width 9, expected 8");
    assert_eq!(
        condition(&[2, 3, 8], DType::F32),
        "the condition has shape [2, 3, 8], expected [G, 8], or [8] for one set"
    );
    assert_eq!(
        condition(&[], DType::F32),
        "the condition has shape [], expected [G, 8], or [8] for one set"
    );
    assert_eq!(
        condition(&[0, 8], DType::F32),
        "the condition has no rows, expected [G, 8], or [8] for one set"
    );
    assert_eq!(condition(&[3, 8], DType::F64), "the condition is F64, but the hypernetwork F32");
    assert_eq!(condition(&[3, 8], DType::U32), "the condition is U32, but the hypernetwork F32");
    assert_eq!(
        message(hyper.forward(&input(&[3, 9], 1, DType::F32)?)),
        "an input of shape [3, 9] can't be its own condition of width 8: use \
         `generate_params(&condition)`, then `params.forward(&xs)`"
    );
    assert_eq!(
        message(hyper.forward(&input(&[8], 1, DType::F32)?)),
        "an input of shape [8] can't be its own condition of width 8: use \
         `generate_params(&condition)`, then `params.forward(&xs)`"
    );
    Ok(())
}

#[test]
fn wrong_tasks() -> Result<()> {
    let hyper = HyperTasks::new(variables(1, DType::F32).1)?;
    let unknown = |ids: Tensor| message(hyper.generate_params(&ids));
    assert_eq!(unknown(tasks(&[0, 3])?), "there is no task 3, expected one of the 3 from 0 on");
    assert_eq!(
        unknown(Tensor::new(&[1i64, -1], device())?),
        "there is no task -1, expected one of the 3 from 0 on"
    );
    assert_eq!(
        unknown(Tensor::new(i64::MAX, device())?),
        "there is no task 9223372036854775807, expected one of the 3 from 0 on"
    );
    assert_eq!(
        unknown(Tensor::new(&[0f32], device())?),
        "the condition is F32, expected integers [G], or one integer for one set"
    );
    assert_eq!(
        unknown(Tensor::new(&[[0u32]], device())?),
        "the condition has shape [1, 1], expected integers [G], or one integer for one set"
    );
    assert_eq!(
        unknown(Tensor::zeros(0, DType::U32, device())?),
        "the condition has no rows, expected integers [G], or one integer for one set"
    );
    let own = "the input can't be its own condition, which is the number of a task: use \
               `generate_params(&tasks)`, then `params.forward(&xs)`";
    let xs = input(&[2, 8], 1, DType::F32)?;
    let network: &DynamicHyperNetwork<_> = &hyper;
    assert_eq!(message(network.forward(&xs)), own);
    assert_eq!(message(network.run(&xs.unsqueeze(1)?, &hyper.zero_state(2)?)), own);
    Ok(())
}

#[test]
fn wrong_states_and_sequences() -> Result<()> {
    let (_vars, hyper) = policy()?;
    let xs = input(&[3, 8], 1, DType::F32)?;
    let step = |state: &State| message(hyper.step(&xs, state));
    assert_eq!(
        step(&hyper.zero_state(2)?),
        "the state has shape [2, 41], but the condition has 3 rows: expected [3, 41]"
    );
    assert_eq!(step(&State::default()), "the state has 0 tensors, expected 1");
    let zeros = |dims: (usize, usize), dtype| Tensor::zeros(dims, dtype, device());
    assert_eq!(
        step(&State::new(vec![zeros((3, 40), DType::F32)?])),
        "the state has shape [3, 40], but the condition has 3 rows: expected [3, 41]"
    );
    assert_eq!(
        step(&State::new(vec![zeros((3, 41), DType::F64)?])),
        "the state is F64, but the hypernetwork F32"
    );
    let state = hyper.zero_state(3)?;
    assert_eq!(
        message(hyper.run(&xs.unsqueeze(1)?.narrow(1, 0, 0)?, &state)),
        "a sequence of shape [3, 0, 8] has no steps, expected [B, T, …]"
    );
    assert_eq!(
        message(hyper.run(&input(&[8], 1, DType::F32)?, &state)),
        "a sequence of shape [8] has no steps, expected [B, T, …]"
    );
    let scanned = hyper.scan(&input(&[3, 2, 7], 1, DType::F32)?, &state, (), |net, _, ()| {
        Ok((net.forward(&xs)?, ()))
    });
    assert_eq!(message(scanned), "the condition has width 7, expected 8");
    Ok(())
}

#[test]
fn parts_that_do_not_fit_together() {
    let sizes = Sizes { width: 3, num_embeddings: 5, embedding_dim: 3 };
    let built = |embedding: Parts, generator: Parts| {
        let conditions = (embedding.conditions.0, generator.conditions.1);
        let declared =
            Declared { name: "Hyper", shape: generator.shape, scheme: InitScheme::Exact };
        let vb = variables(0, DType::F32).1;
        let plan = TargetPlan::<Policy>::new(&()).unwrap();
        let (embedding, generator) = (&*embedding.embedding, &*generator.generator);
        let built = DynamicHyperNetwork::new(plan, &declared, conditions, embedding, generator, vb);
        message(built)
    };
    let parts = |kinds: (Embedding, Generator), width| {
        Parts::new(kinds.0, kinds.1, Sizes { width, ..sizes }, Policy::NUM_PARAMS)
    };
    assert_eq!(
        built(
            parts((Embedding::Rnn, Generator::Linear), 3),
            parts((Embedding::Rnn, Generator::LinearConditioned), 4)
        ),
        "the embedding takes a condition of width 3, but the generator one of width 4"
    );
    assert_eq!(
        built(
            parts((Embedding::Tasks, Generator::Linear), 3),
            parts((Embedding::Rnn, Generator::LinearConditioned), 3)
        ),
        "one part takes a task, but the other a vector"
    );
    assert_eq!(
        built(
            parts((Embedding::Table, Generator::LinearConditioned), 3),
            parts((Embedding::Rnn, Generator::Linear), 3)
        ),
        "neither the embedding nor the generator takes the input: write `mode: static`, or \
         condition one of them, as in `generator: linear.conditioned(8)`"
    );
}

/// A set's values reach its own rows alone, forward and backward.
#[test]
fn not_a_number_stays_in_its_row() -> Result<()> {
    let sizes = Sizes { width: 3, num_embeddings: 5, embedding_dim: 3 };
    for (embedding, generator) in kinds() {
        if embedding == Embedding::Tasks {
            continue;
        }
        let vb = variables(1, DType::F32).1;
        let hyper = network::<Policy>((embedding, generator), sizes, vb)?;
        let condition = conditions(embedding, &[3], 3, DType::F32)?;
        let mut broken = values(&condition)?;
        broken[4] = f64::NAN;
        condition.set(&Tensor::from_vec(broken, (3, 3), device())?.to_dtype(DType::F32)?)?;
        let ys = hyper.generate_params(&condition)?.forward(&input(&[6, 8], 1, DType::F32)?)?;
        let finite = |tensor: &Tensor| -> Result<Vec<bool>> {
            let row = |row: usize| Ok(values(&tensor.get(row)?)?.iter().all(|x| x.is_finite()));
            (0..tensor.dim(0)?).map(row).collect()
        };
        let rows = [true, true, false, false, true, true];
        assert_eq!(finite(&ys)?, rows, "{embedding:?} with {generator:?}");
        let grads = ys.sum_all()?.backward()?;
        let grad = grads.get(&condition).unwrap();
        assert_eq!(finite(grad)?, [true, false, true], "{embedding:?} with {generator:?}");
    }
    Ok(())
}

#[test]
fn inputs_of_another_dtype_are_an_error() -> Result<()> {
    let (_vars, hyper) = policy()?;
    let xs = input(&[3, 8], 1, DType::F32)?;
    let params = hyper.generate_params(&xs)?;
    let message = message(params.forward(&xs.to_dtype(DType::F64)?));
    assert!(message.contains("F32") && message.contains("F64"), "{message}");
    Ok(())
}

/// Half precision goes other ways through the split.
#[test]
fn half_precision() -> Result<()> {
    let (vars, full) = policy()?;
    for dtype in [DType::F16, DType::BF16] {
        let (halves, vb) = variables(1, dtype);
        let half = HyperPolicy::new(vb)?;
        for (name, var) in hypernn_tests::by_name(&halves) {
            var.set(&variable(&vars, &name)?.to_dtype(dtype)?)?;
        }
        let xs = input(&[3, 8], 1, DType::F32)?;
        let error = relative_error(
            &half.forward(&xs.to_dtype(dtype)?)?.to_dtype(DType::F32)?,
            &full.forward(&xs)?,
        )?;
        assert!(error < if dtype == DType::F16 { 1e-2 } else { 1e-1 }, "{dtype:?}: {error}");
        let loss = half.forward(&xs.to_dtype(dtype)?)?.sum_all()?;
        let grads = loss.backward()?;
        let weight = variable(&halves, "generator.weight")?;
        assert!(grads.get(&weight).is_some());
    }
    Ok(())
}

#[test]
fn saved_and_loaded() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("policy.safetensors");
    let (_vars, hyper) = policy()?;
    hyper.save(&path)?;
    let other = HyperPolicy::new(variables(2, DType::F32).1)?;
    let xs = input(&[3, 8], 1, DType::F32)?;
    assert_ne!(values(&other.forward(&xs)?)?, values(&hyper.forward(&xs)?)?);
    other.load(&path)?;
    same(&other.forward(&xs)?, &hyper.forward(&xs)?)?;
    let tasks = HyperTasks::new(variables(0, DType::F32).1)?;
    let expected = format!(
        "can't load {}: it was saved with another embedding: the file has `rnn(8, 41, 4)`, HyperTasks has `tasks(_, 14, 4)`",
        path.display()
    );
    assert_eq!(message(tasks.load(&path)), expected);
    Ok(())
}

#[test]
fn exported_for_one_condition() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("exported.safetensors");
    let (_vars, hyper) = policy()?;
    let (condition, xs) = (input(&[8], 1, DType::F32)?, input(&[5, 8], 2, DType::F32)?);
    hyper.export(&condition, &path)?;
    let tensors = candle_core::safetensors::load(&path, device())?;
    let net = Policy::new(VarBuilder::from_tensors(tensors, DType::F32, device()))?;
    same(&net.forward(&xs)?, &hyper.generate_params(&condition)?.forward(&xs)?)?;
    assert_eq!(
        message(hyper.export(&xs, &path)),
        "a checkpoint holds one set of weights, the condition gives 5"
    );
    Ok(())
}

fn grown(vars: &VarMap, count: usize) -> Result<HyperTasks> {
    let vb = VarBuilder::from_varmap(vars, DType::F32, device());
    let mut hyper = HyperTasks::new(vb.clone())?;
    hyper.add_tasks(count, vb)?;
    Ok(hyper)
}

#[test]
fn growing_in_another_dtype() -> Result<()> {
    let mut hyper = grown(&VarMap::new(), 1)?;
    let other = VarBuilder::from_varmap(&VarMap::new(), DType::F64, device());
    assert_eq!(message(hyper.add_tasks(1, other)), "the builder is F64, but the hypernetwork F32");
    Ok(())
}

#[test]
fn growing_keeps_old_tasks_and_adds_new_ones() -> Result<()> {
    let (vars, xs) = (VarMap::new(), input(&[6, 8], 1, DType::F32)?);
    let vb = VarBuilder::from_varmap(&vars, DType::F32, device());
    let mut hyper = HyperTasks::new(vb.clone())?;
    let old = hyper.generate_params(&tasks(&[0, 1, 2])?)?;
    let (weights, outputs) = (old.flat()?, old.forward(&xs)?);
    assert_eq!(hyper.num_params(), HyperTasks::NUM_PARAMS);
    hyper.add_tasks(2, vb)?;
    assert_eq!(hyper.num_params(), HyperTasks::NUM_PARAMS + 2 * 14 * 4);
    let unchanged = |hyper: &HyperTasks| -> Result<()> {
        let params = hyper.generate_params(&tasks(&[0, 1, 2])?)?;
        same(&params.flat()?, &weights)?;
        same(&params.forward(&xs)?, &outputs)
    };
    unchanged(&hyper)?;
    let new = hyper.generate_params(&tasks(&[3, 4])?)?.flat()?;
    assert_ne!(values(&new.get(0)?)?, values(&new.get(1)?)?);
    assert_eq!(
        message(hyper.generate_params(&tasks(&[5])?)),
        "there is no task 5, expected one of the 5 from 0 on"
    );

    // Training the new tasks' tables alone.
    let loss = || -> Result<Tensor> {
        hyper.generate_params(&tasks(&[3, 4])?)?.forward(&xs)?.sqr()?.mean_all()
    };
    let before = loss()?.to_scalar::<f32>()?;
    let tables = [variable(&vars, "embedding.3.weight")?, variable(&vars, "embedding.4.weight")?];
    for _ in 0..20 {
        let grads = loss()?.backward()?;
        for table in &tables {
            table.set(&(table.as_tensor() - (grads.get(table).unwrap() * 0.5)?)?)?;
        }
    }
    let after = loss()?.to_scalar::<f32>()?;
    assert!(after < 0.9 * before, "{before} to {after}");
    unchanged(&hyper)
}

hypernetwork! {
    struct HyperFive for Policy { embedding: tasks(5, 14, 4), generator: linear, mode: dynamic }
}

#[test]
fn grown_networks_are_saved_and_loaded() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("grown.safetensors");
    let hyper = grown(&VarMap::new(), 2)?;
    hyper.save(&path)?;
    let ids = tasks(&[0, 1, 2, 3, 4])?;
    let expected = hyper.generate_params(&ids)?.flat()?;
    let again = grown(&VarMap::new(), 2)?;
    assert_ne!(values(&again.generate_params(&ids)?.flat()?)?, values(&expected)?);
    again.load(&path)?;
    same(&again.generate_params(&ids)?.flat()?, &expected)?;
    // One that has had all tasks from the start.
    let five = HyperFive::new(variables(3, DType::F32).1)?;
    five.load(&path)?;
    same(&five.generate_params(&ids)?.flat()?, &expected)?;
    five.save(&path)?;
    grown(&VarMap::new(), 2)?.load(&path)?;
    let refused = |tensor: &str| {
        format!("can't load {}: tensor `{tensor}` is none of this hypernetwork's", path.display())
    };
    assert_eq!(message(grown(&VarMap::new(), 0)?.load(&path)), refused("embedding.3.weight"));
    Ok(())
}

#[test]
fn only_tasks_grow() -> Result<()> {
    let (vars, vb) = variables(0, DType::F32);
    let mut hyper = HyperPolicy::new(vb.clone())?;
    assert_eq!(message(hyper.add_tasks(1, vb)), "only an embedding of `tasks` can grow");
    assert_eq!(vars.all_vars().len(), 7);
    Ok(())
}

/// A builder that lacks a task leaves the network as it was.
#[test]
fn growing_takes_all_or_none() -> Result<()> {
    let (vars, vb) = variables(0, DType::F32);
    let mut hyper = HyperTasks::new(vb)?;
    let table = variable(&vars, "embedding.0.weight")?.as_tensor().clone();
    let tensors = [("embedding.3.weight".to_owned(), table)].into();
    let lacking = VarBuilder::from_tensors(tensors, DType::F32, device());
    assert!(hyper.add_tasks(2, lacking).is_err());
    assert_eq!(hyper.num_params(), HyperTasks::NUM_PARAMS);
    assert_eq!(
        message(hyper.generate_params(&tasks(&[3])?)),
        "there is no task 3, expected one of the 3 from 0 on"
    );
    Ok(())
}
