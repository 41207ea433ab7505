//! Declarations that lie next to a compile error (`compile_errors`, by the same names) and are right.

#![allow(dead_code)]

use candle_core::{Result, Tensor};
use hypernn::nn::{BatchNorm, Conv1d, Conv2d, ConvTranspose2d, GroupNorm, LayerNorm, Linear};
use hypernn::{FixedTarget as _, ShapedTarget as _};
use hypernn::{HyperTarget, hypernetwork};

mod sizes {
    use super::*;

    const WIDTH: usize = 4;

    /// `sizes/constant_expression`, `sizes/constant_underflow`.
    #[derive(HyperTarget)]
    pub struct ConstantExpression {
        #[hyper(linear(WIDTH - 3, 2))]
        fc: Linear,
    }

    /// `sizes/groups_do_not_divide_inputs`, `…_outputs`, `sizes/group_norm_groups`.
    #[derive(HyperTarget)]
    pub struct GroupsThatDivide {
        #[hyper(conv2d(6, 9, 5, groups = 3))]
        conv: Conv2d,
        #[hyper(group_norm(3, 9, 0.))]
        norm: GroupNorm,
    }

    /// `sizes/in_an_option`: a wrong size that the condition leaves out.
    #[derive(HyperTarget)]
    pub struct LeftOut {
        #[hyper(if WIDTH > 9 { linear(0, 2) })]
        fc: Option<Linear>,
        #[hyper(linear(1, 1))]
        other: Linear,
    }

    /// `field/array_of_another_length`.
    #[derive(HyperTarget)]
    pub struct Array {
        #[hyper([linear(4, 2); WIDTH])]
        layers: [Linear; 4],
    }
}

mod candle {
    use super::*;

    /// `candle/layer_norm`, `candle/conv1d`: candle's other layers are taken.
    #[derive(HyperTarget)]
    pub struct Others {
        #[hyper(linear(4, 2))]
        fc: candle_nn::Linear,
        #[hyper(group_norm(1, 4, 1e-5))]
        norm: candle_nn::GroupNorm,
        #[hyper(conv2d(1, 4, 3))]
        conv: candle_nn::Conv2d,
        #[hyper(conv1d(1, 4, 3))]
        drop_in: Conv1d,
    }
}

mod sequential {
    use super::*;

    /// `sequential/flatten_forgotten`, `…/flattened_width`.
    #[derive(HyperTarget)]
    #[hyper(sequential = [conv, relu, max_pool2d(2), flatten, fc], input = (1, 28, 28))]
    pub struct Flattened {
        #[hyper(conv2d(1, 8, 5))]
        conv: Conv2d,
        #[hyper(linear(8 * 12 * 12, 10))]
        fc: Linear,
    }

    /// `sequential/width`, without `flatten`: a linear layer on the last dimension of an image.
    #[derive(HyperTarget)]
    #[hyper(sequential = [conv, fc], input = (1, 28, 28))]
    pub struct LastDimension {
        #[hyper(conv2d(1, 8, 5))]
        conv: Conv2d,
        #[hyper(linear(24, 10))]
        fc: Linear,
    }

    /// `sequential/kernel_too_large`, `…/window_too_large`: as large as can be.
    #[derive(HyperTarget)]
    #[hyper(sequential = [first, max_pool2d(2), second, avg_pool2d(2)], input = (1, 12, 12))]
    pub struct LargestKernel {
        #[hyper(conv2d(1, 8, 3))]
        first: Conv2d,
        #[hyper(conv2d(8, 8, 2, dilation = 3))]
        second: Conv2d,
    }

    /// `sequential/padding_of_a_transpose`: one pixel is left.
    #[derive(HyperTarget)]
    #[hyper(sequential, input = (1, 1, 1))]
    pub struct OnePixel {
        #[hyper(conv_transpose2d(1, 8, 3, padding = 1))]
        up: ConvTranspose2d,
    }

    /// `sequential/batch_norm_of_other_features`: without `input`, the features may be another
    /// dimension than the last.
    #[derive(HyperTarget)]
    #[hyper(sequential_t = [fc, norm])]
    pub struct Features {
        #[hyper(linear(8, 16))]
        fc: Linear,
        #[hyper(batch_norm(8, 1e-5))]
        norm: BatchNorm,
    }

    /// `sequential/width_of_a_repetition`, and a field used twice.
    #[derive(HyperTarget)]
    #[hyper(sequential = [layers, norm, layers])]
    pub struct Twice {
        #[hyper([linear(8, 8); 3])]
        layers: Vec<Linear>,
        #[hyper(layer_norm(8, 1e-5))]
        norm: LayerNorm,
    }

    /// `sequential/field_left_out`: a field without parameters may be.
    #[derive(HyperTarget)]
    #[hyper(sequential = [fc])]
    pub struct Named {
        #[hyper(linear(8, 8))]
        fc: Linear,
        #[hyper(value = "name")]
        name: &'static str,
    }
}

mod hypernetworks {
    use super::*;

    #[derive(HyperTarget)]
    #[hyper(sequential, input = 4)]
    pub struct Net {
        #[hyper(linear(4, 2))]
        fc: Linear,
    }

    // `hypernetwork/wasted_rows`: the next count that wastes none.
    hypernetwork! {
        pub struct AllRows for Net { embedding: table(5, 3), generator: linear, mode: static }
    }

    // `hypernetwork/conditions_of_two_widths`.
    hypernetwork! {
        pub struct OneWidth for Net {
            embedding: rnn(4, 5, 3),
            generator: linear.conditioned(4),
            mode: dynamic,
        }
    }

    // `hypernetwork/input_of_another_width`: another condition than the input.
    hypernetwork! {
        pub struct Conditioned for Net {
            embedding: rnn(3, 5, 3),
            generator: linear,
            mode: dynamic,
        }
    }

    pub fn own_condition(hyper: &OneWidth, xs: &Tensor) -> Result<Tensor> {
        hyper.forward(xs)
    }

    pub fn another_condition(hyper: &Conditioned, xs: &Tensor, by: &Tensor) -> Result<Tensor> {
        hyper.generate_params(by)?.forward(xs)
    }
}

#[test]
fn their_sizes_are_constants() {
    assert_eq!(sizes::ConstantExpression::NUM_PARAMS, 4);
    assert_eq!(sizes::LeftOut::NUM_PARAMS, 2);
    assert_eq!(sizes::Array::NUM_PARAMS, 40);
    assert_eq!(candle::Others::layout().map(|layout| layout.params().len()).ok(), Some(8));
    assert!(sequential::Flattened::OUTPUT_SHAPE.is(&[10]));
    assert!(sequential::LastDimension::OUTPUT_SHAPE.is(&[8, 24, 10]));
    assert!(sequential::LargestKernel::OUTPUT_SHAPE.is(&[8, 1, 1]));
    assert!(sequential::OnePixel::OUTPUT_SHAPE.is(&[8, 1, 1]));
    assert_eq!(hypernetworks::AllRows::CHUNKS.surplus(), 0);
}
