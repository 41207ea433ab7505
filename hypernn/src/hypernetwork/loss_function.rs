//! A loss as a function of generated tensors, or of a hypernetwork's variables.

use candle_core::{DType, Device, Result, Tensor, Var};

use crate::generated::GeneratedParams;

/// A loss as a function of several lists of values.
pub(super) trait LossFunction {
    /// The loss at a point.
    fn loss(&mut self, at: &[Vec<f64>]) -> Result<f64>;

    /// What a backward pass gives each list at a point.
    fn gradients(&mut self, at: &[Vec<f64>]) -> Result<Vec<Option<Vec<f64>>>>;

    /// The dtype in which the lists are kept.
    fn dtype(&self) -> DType;

    /// The nearest values of that dtype.
    fn rounded(&self, values: Vec<f64>) -> Result<Vec<f64>> {
        if self.dtype() == DType::F64 {
            return Ok(values);
        }
        let len = values.len();
        let values = Tensor::from_vec(values, len, &Device::Cpu)?.to_dtype(self.dtype())?;
        values.to_dtype(DType::F64)?.to_vec1()
    }
}

/// What computes a loss from generated parameters.
pub(super) type Loss<'a, T> = &'a mut dyn FnMut(&GeneratedParams<T>) -> Result<Tensor>;

fn number(loss: &Tensor) -> Result<f64> {
    loss.sum_all()?.to_dtype(DType::F64)?.to_scalar()
}

fn numbers(tensor: &Tensor) -> Result<Vec<f64>> {
    tensor.flatten_all()?.to_dtype(DType::F64)?.to_vec1()
}

/// Over the generated tensors, in a dtype that the target is run in.
pub(super) struct LossOfTensors<'a, T> {
    pub(super) params: &'a GeneratedParams<T>,
    pub(super) dtype: DType,
    pub(super) loss: Loss<'a, T>,
}

impl<T> LossOfTensors<'_, T> {
    /// The flat vector of these values, `[P]` or `[G, P]`.
    fn flat(&self, at: &[Vec<f64>]) -> Result<Tensor> {
        let sets = self.params.num_sets();
        let of_set = |set: usize| {
            at.iter().flat_map(move |values| {
                let len = values.len() / sets.unwrap_or(1);
                &values[set * len..][..len]
            })
        };
        let flat: Vec<_> = (0..sets.unwrap_or(1)).flat_map(of_set).copied().collect();
        let shape = match sets {
            None => vec![flat.len()],
            Some(sets) => vec![sets, flat.len() / sets],
        };
        let flat = Tensor::from_vec(flat, shape, &Device::Cpu)?.to_dtype(self.dtype)?;
        flat.to_device(self.params.device())
    }
}

impl<T> LossFunction for LossOfTensors<'_, T> {
    fn loss(&mut self, at: &[Vec<f64>]) -> Result<f64> {
        let params = self.params.over(&self.flat(at)?)?;
        number(&(self.loss)(&params)?)
    }

    fn gradients(&mut self, at: &[Vec<f64>]) -> Result<Vec<Option<Vec<f64>>>> {
        let flat = Var::from_tensor(&self.flat(at)?)?;
        let params = self.params.over(&flat)?;
        let loss = (self.loss)(&params)?;
        let (_, delivered) = params.backward(&loss)?;
        delivered.iter().map(|grad| grad.as_ref().map(numbers).transpose()).collect()
    }

    fn dtype(&self) -> DType {
        self.dtype
    }
}

/// Over the variables of a hypernetwork, which are moved, and set back in the end to what they were.
pub(super) struct LossOfVariables<'a, T> {
    variables: Vec<Var>,
    starts: Vec<Tensor>,
    /// Where the variables are.
    now: Vec<Vec<f64>>,
    generate: &'a mut dyn FnMut() -> Result<GeneratedParams<T>>,
    /// The dtype in which the target is run for a loss; gradients are those of the hypernetwork's own.
    dtype: DType,
    loss: Loss<'a, T>,
}

impl<'a, T> LossOfVariables<'a, T> {
    pub(super) fn new(
        variables: Vec<Var>,
        generate: &'a mut dyn FnMut() -> Result<GeneratedParams<T>>,
        dtype: DType,
        loss: Loss<'a, T>,
    ) -> Result<Self> {
        let starts = variables.iter().map(|var| var.as_detached_tensor().copy());
        let starts = starts.collect::<Result<Vec<_>>>()?;
        let now = starts.iter().map(numbers).collect::<Result<_>>()?;
        Ok(Self { variables, starts, now, generate, dtype, loss })
    }

    /// Where the variables start.
    pub(super) fn start(&self) -> Vec<Vec<f64>> {
        self.now.clone()
    }

    fn move_to(&mut self, at: &[Vec<f64>]) -> Result<()> {
        for ((var, now), values) in self.variables.iter().zip(&mut self.now).zip(at) {
            if now == values {
                continue;
            }
            let moved = Tensor::from_slice(values, var.shape(), &Device::Cpu)?;
            var.set(&moved.to_dtype(var.dtype())?.to_device(var.device())?)?;
            now.clone_from(values);
        }
        Ok(())
    }
}

impl<T> Drop for LossOfVariables<'_, T> {
    fn drop(&mut self) {
        for (var, start) in self.variables.iter().zip(&self.starts) {
            // It has the variable's own shape, dtype and device.
            let _ = var.set(start);
        }
    }
}

impl<T> LossFunction for LossOfVariables<'_, T> {
    fn loss(&mut self, at: &[Vec<f64>]) -> Result<f64> {
        self.move_to(at)?;
        let params = (self.generate)()?;
        let at = params.values()?;
        LossOfTensors { params: &params, dtype: self.dtype, loss: &mut *self.loss }.loss(&at)
    }

    fn gradients(&mut self, at: &[Vec<f64>]) -> Result<Vec<Option<Vec<f64>>>> {
        self.move_to(at)?;
        let params = (self.generate)()?.with_own_buffers()?;
        let grads = (self.loss)(&params)?.backward()?;
        let grad = |var: &Var| grads.get(var).map(numbers).transpose();
        self.variables.iter().map(grad).collect()
    }

    fn dtype(&self) -> DType {
        self.variables.first().map_or(DType::F64, |var| var.dtype())
    }
}
