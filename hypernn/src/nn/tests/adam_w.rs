//! The optimiser beside candle's: the same bits after every step.

use candle_core::backprop::GradStore;
use candle_core::{DType, Result, Tensor, Var};

use crate::nn::testing::{device, numbers};
use crate::nn::{AdamW, Optimizer, ParamsAdamW, VarMap};

/// Of one value, some, and of more than one thread takes at a time.
const SHAPES: [&[usize]; 4] = [&[], &[7], &[3, 5], &[2, 40_000]];
const DTYPES: [DType; 4] = [DType::F32, DType::F64, DType::BF16, DType::F16];

fn tensor(dims: &[usize], seed: u64, dtype: DType) -> Result<Tensor> {
    Tensor::from_vec(numbers(dims.iter().product(), seed), dims, device())?.to_dtype(dtype)
}

/// Negative zeros, which meet a gradient of zeros first; variables of all shapes and dtypes; and one
/// of integers, which has no gradient.
fn variables() -> Result<Vec<Var>> {
    let kinds = SHAPES.iter().flat_map(|dims| DTYPES.map(|dtype| (dims, dtype)));
    let vars =
        kinds.zip(1..).map(|((dims, dtype), seed)| Var::from_tensor(&tensor(dims, seed, dtype)?));
    let zeros = Var::from_tensor(&Tensor::zeros(3, DType::F32, device())?.neg()?);
    [zeros].into_iter().chain(vars).chain([Var::zeros(3, DType::U32, device())]).collect()
}

fn no_gradients() -> Result<GradStore> {
    Var::ones(1, DType::F32, device())?.sum_all()?.backward()
}

/// A gradient for all but some, some in exact zeros of either sign, some transposed or broadcast.
fn gradients(vars: &[Var], step: usize) -> Result<GradStore> {
    let mut grads = no_gradients()?;
    for (index, var) in vars.iter().enumerate() {
        let seed = (1000 * step + index) as u64;
        let grad = match (index + step) % 6 {
            0 => continue,
            _ if !var.dtype().is_float() => continue,
            1 => var.zeros_like()?.neg()?,
            2 if var.rank() == 2 => {
                tensor(&[var.dims()[1], var.dims()[0]], seed, var.dtype())?.t()?
            }
            3 => tensor(&[], seed, var.dtype())?.broadcast_as(var.shape())?,
            _ => tensor(var.dims(), seed, var.dtype())?,
        };
        grads.insert(var, grad);
    }
    Ok(grads)
}

fn bits(var: &Var) -> Result<Vec<u64>> {
    let values: Vec<f64> = var.flatten_all()?.to_dtype(DType::F64)?.to_vec1()?;
    Ok(values.into_iter().map(f64::to_bits).collect())
}

fn assert_same(ours: &[Var], candles: &[Var], step: usize) -> Result<()> {
    for (index, (ours, candles)) in ours.iter().zip(candles).enumerate() {
        assert_eq!(bits(ours)?, bits(candles)?, "variable {index} after step {step}");
    }
    Ok(())
}

/// The tensor in f32 where it is in half precision, else as it is.
fn in_full(tensor: &Tensor) -> Result<Tensor> {
    let is_half = matches!(tensor.dtype(), DType::F16 | DType::BF16);
    if is_half { tensor.to_dtype(DType::F32) } else { Ok(tensor.clone()) }
}

/// candle's optimiser over copies in f32 of variables in half precision, which are rounded to it after each
/// step.
struct Candle {
    vars: Vec<Var>,
    optimizer: candle_nn::AdamW,
}

impl Candle {
    fn new(ours: &[Var], params: ParamsAdamW) -> Result<Self> {
        let vars = ours.iter().map(|var| Var::from_tensor(&in_full(var)?.copy()?));
        let vars = vars.collect::<Result<Vec<_>>>()?;
        Ok(Self { optimizer: candle_nn::AdamW::new(vars.clone(), params)?, vars })
    }

    fn step(&mut self, ours: &[Var], step: usize) -> Result<()> {
        let (of_ours, mut grads) = (gradients(ours, step)?, no_gradients()?);
        for (var, ours) in self.vars.iter().zip(ours) {
            let grad = of_ours.get(ours).map(in_full).transpose()?;
            grad.map(|grad| grads.insert(var, grad));
        }
        self.optimizer.step(&grads)?;
        self.vars.iter().zip(ours).try_for_each(|(var, ours)| {
            var.set(&var.to_dtype(ours.dtype())?.to_dtype(var.dtype())?.copy()?)
        })
    }
}

#[test]
fn it_gives_candles_bits_over_many_steps() -> Result<()> {
    let ours = variables()?;
    let start = bits(&ours[8])?;
    let params = ParamsAdamW { lr: 0.03, weight_decay: 0.1, ..Default::default() };
    let mut candle = Candle::new(&ours, params.clone())?;
    let mut optimizer = AdamW::new(ours.clone(), params)?;
    for step in 0..30 {
        if step == 10 {
            optimizer.set_learning_rate(0.007);
            candle.optimizer.set_learning_rate(0.007);
        }
        if step == 20 {
            let params =
                ParamsAdamW { beta1: 0.5, beta2: 0.7, eps: 1e-3, ..optimizer.params().clone() };
            optimizer.set_params(params.clone());
            candle.optimizer.set_params(params);
        }
        candle.step(&ours, step)?;
        optimizer.step(&gradients(&ours, step)?)?;
        assert_same(&ours, &candle.vars, step)?;
    }
    assert_eq!(optimizer.learning_rate(), candle.optimizer.learning_rate());
    assert_ne!(start, bits(&ours[8])?);
    Ok(())
}

/// A variable that is listed twice is moved twice; its own values may be its gradient.
#[test]
fn it_gives_candles_bits_for_a_variable_that_is_its_own_gradient() -> Result<()> {
    let run = |step: &mut dyn FnMut(&GradStore) -> Result<()>, var: &Var| {
        let mut grads = no_gradients()?;
        grads.insert(var, var.as_tensor().clone());
        (0..5).try_for_each(|_| step(&grads))
    };
    let [ours, candles] = [(); 2].map(|()| Var::from_tensor(&tensor(&[9], 1, DType::F32)?));
    let (ours, candles) = (ours?, candles?);
    let mut optimizer = AdamW::new_lr(vec![ours.clone(), ours.clone()], 0.1)?;
    let mut candle = candle_nn::AdamW::new_lr(vec![candles.clone(), candles.clone()], 0.1)?;
    run(&mut |grads| optimizer.step(grads), &ours)?;
    run(&mut |grads| candle.step(grads), &candles)?;
    assert_same(&[ours], &[candles], 5)
}

fn message(var: &Var, grad: Tensor) -> Result<String> {
    let mut grads = no_gradients()?;
    grads.insert(var, grad);
    let stepped = AdamW::new_lr(vec![var.clone()], 0.1)?.step(&grads);
    Ok(stepped.err().map(|error| error.to_string()).unwrap_or_default())
}

#[test]
fn it_names_what_does_not_fit() -> Result<()> {
    let var = Var::zeros((2, 3), DType::F32, device())?;
    let wrong_shape = message(&var, tensor(&[3, 2], 1, DType::F32)?)?;
    assert!(
        wrong_shape.contains("the gradient has shape [3, 2], expected the variable's, [2, 3]"),
        "{wrong_shape}"
    );
    let half = Var::zeros((2, 3), DType::BF16, device())?;
    let wrong_shape = message(&half, tensor(&[3, 2], 1, DType::BF16)?)?;
    assert!(
        wrong_shape.contains("the gradient has shape [3, 2], expected the variable's, [2, 3]"),
        "{wrong_shape}"
    );
    let wrong_dtype = message(&var, tensor(&[2, 3], 1, DType::F64)?)?;
    assert!(
        wrong_dtype.contains("the gradient is F64, expected the variable's dtype, F32"),
        "{wrong_dtype}"
    );
    assert_eq!(bits(&var)?, [0; 6]);
    Ok(())
}

/// The variables of [`variables`], under names.
fn named(vars: &[Var]) -> VarMap {
    let map = VarMap::new();
    let names = vars.iter().enumerate().map(|(index, var)| (format!("v{index}"), var.clone()));
    map.data().lock().unwrap().extend(names);
    map
}

/// Five steps, the state and the variables carried over to a new optimiser, five more: as ten.
#[test]
fn it_goes_on_from_its_state() -> Result<()> {
    let (whole, parts) = (variables()?, variables()?);
    let mut optimizer = AdamW::new_lr(whole.clone(), 0.03)?;
    (0..10).try_for_each(|step| optimizer.step(&gradients(&whole, step)?))?;

    let mut first = AdamW::new_lr(parts.clone(), 0.03)?;
    (0..5).try_for_each(|step| first.step(&gradients(&parts, step)?))?;
    let state = first.state(&named(&parts))?;
    let later =
        parts.iter().map(|var| Var::from_tensor(&var.copy()?)).collect::<Result<Vec<_>>>()?;
    let mut second = AdamW::new_lr(later.clone(), 0.03)?;
    second.load_state(&named(&later), &state)?;
    (5..10).try_for_each(|step| second.step(&gradients(&later, step)?))?;
    assert_same(&later, &whole, 10)
}

#[test]
fn a_state_that_does_not_fit_changes_nothing() -> Result<()> {
    let vars = variables()?;
    let names = named(&vars);
    let mut optimizer = AdamW::new_lr(vars.clone(), 0.03)?;
    optimizer.step(&gradients(&vars, 1)?)?;
    let state = optimizer.state(&names)?;
    let first_line = |result: Result<()>| {
        result.unwrap_err().to_string().lines().next().unwrap_or_default().to_owned()
    };

    let mut missing = state.clone();
    missing.remove("v16.second_moment");
    let message = first_line(optimizer.load_state(&names, &missing));
    assert_eq!(message, "adam_w: the state has no `v16.second_moment`");
    let mut other = state.clone();
    other.insert("v5.first_moment".to_owned(), Tensor::zeros(3, DType::F32, device())?);
    let message = first_line(optimizer.load_state(&names, &other));
    assert_eq!(message, "adam_w: `v5.first_moment` is F32 [3], expected F32 [7]");
    let message = first_line(optimizer.load_state(&VarMap::new(), &state));
    let expected =
        "adam_w: the optimiser has a variable of shape [3] that the `VarMap` does not name";
    assert_eq!(message, expected);
    let twice = AdamW::new_lr(vec![vars[1].clone(), vars[1].clone()], 0.1)?;
    let message = first_line(twice.state(&names).map(drop));
    assert_eq!(message, "adam_w: the optimiser has `v1` twice, so its state has no name");

    let after = optimizer.state(&names)?;
    for (name, tensor) in &state {
        let values = |tensor: &Tensor| tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>();
        assert_eq!(values(tensor)?, values(&after[name])?, "{name}");
    }
    Ok(())
}

/// candle's own makes NaN of a first gradient of zero in f16, where ε is 0, and forgets squares below 6e-8.
#[test]
fn half_precision_moves_as_full_precision_does() -> Result<()> {
    for dtype in [DType::F16, DType::BF16] {
        let values = [1f32, -1., 0.5, 2.];
        let grads = Tensor::new(&[0f32, 1e-4, -3e-3, 7.], device())?.to_dtype(dtype)?;
        let vars = [dtype, DType::F32]
            .map(|dtype| Var::from_tensor(&Tensor::new(&values, device())?.to_dtype(dtype)?));
        let [half, full] = vars;
        let (half, full) = (half?, full?);
        for var in [&half, &full] {
            let mut optimizer = AdamW::new_lr(vec![var.clone()], 0.125)?;
            for _ in 0..4 {
                let mut store = no_gradients()?;
                store.insert(var, grads.to_dtype(var.dtype())?);
                optimizer.step(&store)?;
            }
        }
        let values = |var: &Var| var.to_dtype(DType::F32)?.to_vec1::<f32>();
        for (half, full) in values(&half)?.into_iter().zip(values(&full)?) {
            assert!((half - full).abs() <= 0.02, "{dtype:?}: {half}, expected {full}");
        }
    }
    Ok(())
}

/// A state of a version that kept moments in the variable's dtype.
#[test]
fn an_old_state_in_half_precision_loads() -> Result<()> {
    for dtype in [DType::F16, DType::BF16] {
        let var = Var::from_tensor(&tensor(&[7], 1, dtype)?)?;
        let names = named(std::slice::from_ref(&var));
        let mut optimizer = AdamW::new_lr(vec![var.clone()], 0.03)?;
        let mut grads = no_gradients()?;
        grads.insert(&var, tensor(&[7], 2, dtype)?);
        optimizer.step(&grads)?;
        let state = optimizer.state(&names)?;
        assert_eq!(state["v0.first_moment"].dtype(), DType::F32);
        let mut old = state.clone();
        for (name, moment) in old.iter_mut().filter(|(name, _)| *name != "steps") {
            *moment = state[name].to_dtype(dtype)?;
        }
        optimizer.load_state(&names, &old)?;
        for (name, moment) in optimizer.state(&names)? {
            let values =
                |tensor: &Tensor| tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>();
            assert_eq!(values(&moment)?, values(&old[&name])?, "{name}");
        }
        let mut other = state;
        other.insert("v0.first_moment".to_owned(), Tensor::zeros(7, DType::F64, device())?);
        let message = optimizer.load_state(&names, &other).unwrap_err().to_string();
        let expected = format!("adam_w: `v0.first_moment` is F64 [7], expected {dtype:?} [7]");
        assert!(message.starts_with(&expected), "{message}");
    }
    Ok(())
}
