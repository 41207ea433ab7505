//! Weights that nothing trains: their gradients are not computed.

use candle_core::{DType, Module, ModuleT, Result, Tensor, Var};

use super::super::testing::{device, distance, numbers};
use super::super::*;
use crate::ops::product::count_products;

fn tensor(dims: &[usize], seed: u64) -> Tensor {
    Tensor::from_vec(numbers(dims.iter().product(), seed), dims, device()).unwrap()
}

/// What is over in a pass that computes nothing in vain: candle drops the gradients of all nodes once they are handed
/// on, and keeps those of variables and of tensors that have no use for one.
fn kept_gradients(what: &str, xs: &Var, loss: &Tensor) -> usize {
    let grads = loss.backward().unwrap();
    assert!(grads.get(xs).is_some(), "{what}: the input has no gradient");
    grads.get_ids().count()
}

/// How many of them have the shape of a weight, as it is or transposed.
fn weight_gradients(weights: &[Tensor], loss: &Tensor) -> usize {
    let grads = loss.backward().unwrap();
    let is_weights = |grad: &Tensor| {
        let turned: Vec<_> = grad.dims().iter().rev().copied().collect();
        weights.iter().any(|weight| weight.dims() == grad.dims() || weight.dims() == turned)
    };
    grads.get_ids().filter(|id| grads.get_id(**id).is_some_and(is_weights)).count()
}

type Layer = Box<dyn Fn(&[Tensor], &Tensor) -> Result<Tensor>>;

/// A name, the shapes of weights and input, and the forward.
type Case = (&'static str, Vec<Vec<usize>>, Vec<usize>, Layer);

fn layers() -> Vec<Case> {
    let conv2d = Conv2dConfig { padding: 1, ..Default::default() };
    let conv1d = Conv1dConfig { padding: 1, ..Default::default() };
    vec![
        (
            "linear",
            vec![vec![3, 4], vec![3]],
            vec![5, 4],
            Box::new(|w, x| Linear::new(w[0].clone(), Some(w[1].clone())).forward(x)),
        ),
        (
            "linear of sets",
            vec![vec![2, 3, 4], vec![2, 3]],
            vec![6, 4],
            Box::new(|w, x| Linear::new(w[0].clone(), Some(w[1].clone())).forward(x)),
        ),
        (
            "linear, a bias for each set",
            vec![vec![3, 4], vec![2, 3]],
            vec![6, 4],
            Box::new(|w, x| Linear::new(w[0].clone(), Some(w[1].clone())).forward(x)),
        ),
        (
            "linear, a bias of another shape",
            vec![vec![3, 4], vec![1, 1]],
            vec![6, 4],
            Box::new(|w, x| Linear::new(w[0].clone(), Some(w[1].clone())).forward(x)),
        ),
        (
            "conv1d",
            vec![vec![3, 2, 3], vec![3]],
            vec![2, 2, 5],
            Box::new(move |w, x| Conv1d::new(w[0].clone(), Some(w[1].clone()), conv1d).forward(x)),
        ),
        (
            "conv2d",
            vec![vec![3, 2, 3, 3], vec![3]],
            vec![2, 2, 5, 5],
            Box::new(move |w, x| Conv2d::new(w[0].clone(), Some(w[1].clone()), conv2d).forward(x)),
        ),
        (
            "conv_transpose1d",
            vec![vec![2, 3, 3], vec![3]],
            vec![2, 2, 5],
            Box::new(|w, x| {
                ConvTranspose1d::new(w[0].clone(), Some(w[1].clone()), Default::default())
                    .forward(x)
            }),
        ),
        (
            "conv_transpose2d",
            vec![vec![2, 3, 3, 3], vec![3]],
            vec![2, 2, 5, 5],
            Box::new(|w, x| {
                ConvTranspose2d::new(w[0].clone(), Some(w[1].clone()), Default::default())
                    .forward(x)
            }),
        ),
        (
            "layer_norm",
            vec![vec![4], vec![4]],
            vec![5, 4],
            Box::new(|w, x| LayerNorm::new(w[0].clone(), w[1].clone(), 1e-5).forward(x)),
        ),
        (
            "layer_norm of sets",
            vec![vec![2, 4], vec![2, 4]],
            vec![6, 4],
            Box::new(|w, x| LayerNorm::new(w[0].clone(), w[1].clone(), 1e-5).forward(x)),
        ),
        (
            "rms_norm",
            vec![vec![4]],
            vec![5, 4],
            Box::new(|w, x| RmsNorm::new(w[0].clone(), 1e-5).forward(x)),
        ),
        (
            "group_norm",
            vec![vec![4], vec![4]],
            vec![5, 4, 3],
            Box::new(|w, x| GroupNorm::new(w[0].clone(), w[1].clone(), 4, 2, 1e-5)?.forward(x)),
        ),
        (
            "prelu",
            vec![vec![4]],
            vec![5, 4],
            Box::new(|w, x| PReLU::new(w[0].clone(), false).forward(x)),
        ),
        (
            "gru",
            vec![vec![6, 3], vec![6, 2], vec![6], vec![6]],
            vec![5, 4, 3],
            Box::new(|w, x| {
                let gru = GRU::from_weights(
                    w[0].clone(),
                    w[1].clone(),
                    Some(w[2].clone()),
                    Some(w[3].clone()),
                    GRUConfig::default(),
                )?;
                Ok(gru.seq(x)?[3].h().clone())
            }),
        ),
        (
            "lstm",
            vec![vec![8, 3], vec![8, 2], vec![8], vec![8]],
            vec![5, 4, 3],
            Box::new(|w, x| {
                let lstm = LSTM::from_weights(
                    w[0].clone(),
                    w[1].clone(),
                    Some(w[2].clone()),
                    Some(w[3].clone()),
                    LSTMConfig::default(),
                )?;
                Ok(lstm.seq(x)?[3].h().clone())
            }),
        ),
    ]
}

/// Behind the layer comes nothing that would compute one itself.
fn loss(ys: &Tensor) -> Tensor {
    ys.sum_all().unwrap()
}

/// Every layer, in f64 and by the operations of half precision: the one gradient that is left is that of the input, and
/// it is the one that there is where weights are trained.
#[test]
fn weights_without_a_gradient_get_none() {
    for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::BF16, 0.2)] {
        for (name, weights, dims, forward) in layers() {
            let what = format!("{name} {dtype:?}");
            let cast = |dims: &[usize], seed| tensor(dims, seed).to_dtype(dtype).unwrap();
            let weights: Vec<_> =
                weights.iter().zip(1..).map(|(dims, seed)| cast(dims, seed)).collect();
            let xs = Var::from_tensor(&cast(&dims, 9)).unwrap();
            let frozen = loss(&forward(&weights, &xs).unwrap());
            let kept = kept_gradients(&what, &xs, &frozen);
            let vars: Vec<_> = weights.iter().map(|w| Var::from_tensor(w).unwrap()).collect();
            let trained: Vec<_> = vars.iter().map(|var| var.as_tensor().clone()).collect();
            let trained = loss(&forward(&trained, &xs).unwrap());
            if name == "gru" || name == "lstm" {
                // candle computes those of the first state, of its gates and of a one, which are no weights.
                assert_eq!(weight_gradients(&weights, &frozen), 0, "{what}");
                assert_eq!(weight_gradients(&weights, &trained), weights.len(), "{what}");
            } else {
                assert_eq!(kept, 1, "{what}");
                assert_eq!(kept_gradients(&what, &xs, &trained), 1 + weights.len(), "{what}");
            }
            let trained = trained.backward().unwrap();
            let frozen = frozen.backward().unwrap();
            let error = distance(frozen.get(&xs).unwrap(), trained.get(&xs).unwrap()).unwrap();
            assert!(error < tolerance, "{what}: {error:e}");
        }
    }
}

/// An ordinary matmul of candle's leaves two: the count tells them apart.
#[test]
fn candle_s_own_computes_both() {
    let xs = Var::from_tensor(&tensor(&[5, 4], 1)).unwrap();
    let ys = xs.matmul(&tensor(&[4, 3], 2)).unwrap();
    assert_eq!(kept_gradients("matmul", &xs, &loss(&ys)), 2);
}

/// A batch norm outside of training, whose running statistics are constants too.
#[test]
fn running_statistics_get_none() {
    let layer = batch_norm(3, 1e-5, VarBuilder::zeros(DType::F64, device())).unwrap();
    let xs = Var::from_tensor(&tensor(&[5, 3, 2], 1)).unwrap();
    let ys = layer.forward_t(&xs, false).unwrap();
    assert_eq!(kept_gradients("batch_norm", &xs, &loss(&ys)), 1);
}

/// One product for the input's gradient, one more for each weight that is trained, and none where nothing asks: of a
/// stack of linear layers, and of one that is tied to a frozen table.
#[test]
fn products_are_counted() {
    let products = |frozen: bool, of_input: bool| {
        let weights = [[6, 4], [4, 6], [5, 4]].map(|dims| tensor(&dims, 1));
        let vars = weights.clone().map(|weight| Var::from_tensor(&weight).unwrap());
        let layers = match frozen {
            true => weights,
            false => vars.each_ref().map(|var| var.as_tensor().clone()),
        };
        let xs = Var::from_tensor(&tensor(&[3, 4], 2)).unwrap();
        let xs = if of_input { xs.as_tensor().clone() } else { xs.as_detached_tensor() };
        let ys = layers
            .iter()
            .fold(xs, |xs, weight| Linear::new(weight.clone(), None).forward(&xs).unwrap());
        count_products(|| loss(&ys).backward().unwrap()).1
    };
    assert_eq!(products(true, true), 3);
    assert_eq!(products(false, true), 6);
    // Nothing asks for that of the first layer's input.
    assert_eq!(products(false, false), 5);
    assert_eq!(products(true, false), 0);
}

/// A table that is frozen and its head: the look-up is no node, the head gives its input's gradient alone.
#[test]
fn a_tied_table_gets_none() {
    let table = tensor(&[5, 4], 1);
    let shift = Var::from_tensor(&tensor(&[3, 4], 2)).unwrap();
    let ids = Tensor::new(&[4u32, 0, 2], device()).unwrap();
    let rows = Embedding::new(table.clone(), 4).forward(&ids).unwrap();
    assert!(!rows.track_op());
    let ys = Linear::new(table, None).forward(&(shift.as_tensor() + rows).unwrap()).unwrap();
    let (kept, products) = count_products(|| kept_gradients("tied", &shift, &loss(&ys)));
    // candle's addition keeps one of the rows that were looked up.
    assert_eq!((kept, products), (2, 1));
}
