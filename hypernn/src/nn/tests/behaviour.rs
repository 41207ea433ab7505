//! What outputs and gradients alone do not show.

use candle_core::{DType, Module, ModuleT, Tensor, Var};

use super::super::testing::{device, distance, numbers};
use super::super::*;

fn tensor(dims: &[usize], seed: u64) -> Tensor {
    Tensor::from_vec(numbers(dims.iter().product(), seed), dims, device()).unwrap()
}

#[test]
fn a_rectifier_at_zero_has_its_slope() {
    let xs = Var::new(&[[0f64, 1.]], device()).unwrap();
    let layer = PReLU::new(Tensor::new(&[0.25f64], device()).unwrap(), true);
    let grads = layer.forward(&xs).unwrap().sum_all().unwrap().backward().unwrap();
    assert_eq!(grads.get(&xs).unwrap().to_vec2::<f64>().unwrap(), [[0.25, 1.]]);
}

#[test]
fn running_statistics_are_candles() {
    for remove_mean in [true, false] {
        let config = BatchNormConfig { remove_mean, momentum: 0.3, ..Default::default() };
        let (ours, candles) = (VarMap::new(), VarMap::new());
        let vb = |map: &VarMap| VarBuilder::from_varmap(map, DType::F64, device());
        let layer = batch_norm(3, config, vb(&ours)).unwrap();
        let candle = candle_nn::batch_norm(3, config, vb(&candles)).unwrap();
        for seed in 0..3 {
            let xs = tensor(&[4, 3, 2], seed);
            let (a, b) = (layer.forward_train(&xs).unwrap(), candle.forward_train(&xs).unwrap());
            assert!(distance(&a, &b).unwrap() < 1e-12);
        }
        let xs = tensor(&[4, 3, 2], 9);
        let (a, b) = (layer.forward_t(&xs, false), candle.forward_t(&xs, false));
        assert!(distance(&a.unwrap(), &b.unwrap()).unwrap() < 1e-12);
        // The variables of the map have moved, not copies of them.
        for name in ["running_mean", "running_var"] {
            let read = |map: &VarMap| map.data().lock().unwrap()[name].as_tensor().clone();
            assert!(distance(&read(&ours), &read(&candles)).unwrap() < 1e-12, "{name}");
        }
        let moved = ours.data().lock().unwrap()["running_var"].to_vec1::<f64>().unwrap();
        assert_ne!(moved, [1., 1., 1.]);
    }
}

#[test]
fn sets_have_running_statistics_each_or_share_their_mean() {
    let weights = (tensor(&[2, 3], 1), tensor(&[2, 3], 2));
    let xs = tensor(&[6, 3, 2], 3);
    let train = |mean: &[usize]| {
        let mean = Tensor::zeros(mean, DType::F64, device()).unwrap();
        let var = mean.ones_like().unwrap();
        let (weight, bias) = weights.clone();
        let layer = BatchNorm::new(3, mean, var, weight, bias, 1e-5).unwrap();
        layer.forward_train(&xs).unwrap();
        (layer.running_mean().copy().unwrap(), layer.running_var().copy().unwrap())
    };
    let (mean, var) = train(&[2, 3]);
    let (shared_mean, shared_var) = train(&[3]);
    assert!(distance(&shared_mean, &mean.mean(0).unwrap()).unwrap() < 1e-12);
    assert!(distance(&shared_var, &var.mean(0).unwrap()).unwrap() < 1e-12);
    for set in 0..2 {
        let zeros = Tensor::zeros(3, DType::F64, device()).unwrap();
        let alone = BatchNorm::new_no_bias(3, zeros.clone(), zeros.ones_like().unwrap(), 1e-5);
        let alone = alone.unwrap();
        alone.forward_train(&xs.narrow(0, 3 * set, 3).unwrap()).unwrap();
        assert!(distance(&mean.get(set).unwrap(), alone.running_mean()).unwrap() < 1e-12);
        assert!(distance(&var.get(set).unwrap(), alone.running_var()).unwrap() < 1e-12);
    }
}

#[test]
fn running_statistics_of_sets_are_used_in_evaluation() {
    let mean = Tensor::new(&[[1f64], [2.]], device()).unwrap();
    let layer = BatchNorm::new_no_bias(1, mean.clone(), mean.ones_like().unwrap(), 0.).unwrap();
    let xs = Tensor::new(&[[5f64], [5.], [5.], [5.]], device()).unwrap();
    let ys = layer.forward_t(&xs, false).unwrap();
    assert_eq!(ys.to_vec2::<f64>().unwrap(), [[4.], [4.], [3.], [3.]]);
}

#[test]
fn a_convolution_absorbs_the_batch_norm_behind_it() {
    for sets in [&[][..], &[2]] {
        let dims = |own: &[usize]| [sets, own].concat();
        for bias in [None, Some(tensor(&dims(&[3]), 1))] {
            let conv = Conv2d::new(tensor(&dims(&[3, 2, 2, 2]), 2), bias, Conv2dConfig::default());
            let var = (tensor(&[3], 3).sqr().unwrap() + 0.5).unwrap();
            let (weight, offset) = (tensor(&dims(&[3]), 5), tensor(&dims(&[3]), 6));
            let bn = BatchNorm::new(3, tensor(&[3], 4), var, weight, offset, 1e-3).unwrap();
            let xs = tensor(&[2, 2, 3, 4], 7);
            let expected = bn.forward_t(&conv.forward(&xs).unwrap(), false).unwrap();
            let found = conv.absorb_bn(&bn).unwrap().forward(&xs).unwrap();
            assert!(distance(&found, &expected).unwrap() < 1e-12);
        }
    }
}

#[test]
fn a_shared_weight_goes_with_a_bias_of_each_set() {
    let (weight, bias) = (tensor(&[3, 2, 2], 1), tensor(&[2, 3], 2));
    let layer = Conv1d::new(weight.clone(), Some(bias.clone()), Conv1dConfig::default());
    let xs = tensor(&[4, 2, 3], 3);
    let one = |set: usize| {
        let bias = Some(bias.get(set).unwrap());
        let layer = Conv1d::new(weight.clone(), bias, Conv1dConfig::default());
        layer.forward(&xs.narrow(0, 2 * set, 2).unwrap()).unwrap()
    };
    let expected = Tensor::cat(&[one(0), one(1)], 0).unwrap();
    assert!(distance(&layer.forward(&xs).unwrap(), &expected).unwrap() < 1e-12);
}

#[test]
fn half_precision_is_close_to_double() {
    let xs = tensor(&[4, 2, 5, 5], 1);
    let conv = tensor(&[3, 2, 3, 3], 2);
    let norm = (tensor(&[2], 3), tensor(&[2], 4));
    let run = |dtype: DType| {
        let to = |t: &Tensor| t.to_dtype(dtype).unwrap();
        let (weight, bias) = (to(&norm.0), to(&norm.1));
        let norm = GroupNorm::new(weight.clone(), bias, 2, 1, 1e-5).unwrap();
        let ys = PReLU::new(weight, false).forward(&norm.forward(&to(&xs)).unwrap()).unwrap();
        let config = Conv2dConfig { padding: 1, stride: 2, ..Default::default() };
        Conv2d::new(to(&conv), None, config).forward(&ys).unwrap().to_dtype(DType::F64).unwrap()
    };
    let expected = run(DType::F64);
    for (dtype, limit) in [(DType::F16, 1e-2), (DType::BF16, 1e-1), (DType::F32, 1e-5)] {
        let found = run(dtype);
        assert!(distance(&found, &expected).unwrap() < limit, "{dtype:?}");
    }
}

#[test]
fn a_layer_norm_takes_old_names() {
    let tensors = [("gamma", 2.), ("beta", 3.)].map(|(name, value)| {
        (name.to_owned(), (Tensor::ones(2, DType::F32, device()).unwrap() * value).unwrap())
    });
    let vb = VarBuilder::from_tensors(tensors.into(), DType::F32, device());
    let layer = layer_norm(2, 1e-5, vb).unwrap();
    assert_eq!(layer.weight().to_vec1::<f32>().unwrap(), [2., 2.]);
    assert_eq!(layer.bias().unwrap().to_vec1::<f32>().unwrap(), [3., 3.]);
}

#[test]
fn inputs_that_are_views_are_read_in_order() {
    let xs = tensor(&[5, 4, 2], 1).transpose(0, 1).unwrap().transpose(1, 2).unwrap();
    let layer = Conv1d::new(tensor(&[3, 2, 2], 2), None, Conv1dConfig::default());
    let (view, copy) = (layer.forward(&xs), layer.forward(&xs.contiguous().unwrap()));
    assert_eq!(distance(&view.unwrap(), &copy.unwrap()).unwrap(), 0.);
}
