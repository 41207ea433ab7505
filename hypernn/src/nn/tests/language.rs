//! Softmax, rotary embeddings, attention and cross-entropy: against candle's fused forward, against finite
//! differences, and with whatever is odd about their inputs.

use candle_core::{D, DType, Result, Tensor, Var};

use super::super::testing::{device, distance, gradient_errors, numbers};
use super::super::*;
use super::message;

const DTYPES: [(DType, f64); 4] =
    [(DType::F64, 1e-12), (DType::F32, 2e-6), (DType::F16, 4e-3), (DType::BF16, 3e-2)];

fn tensor(dims: &[usize], seed: u64) -> Tensor {
    Tensor::from_vec(numbers(dims.iter().product(), seed), dims, device()).unwrap()
}

fn vars(shapes: &[&[usize]]) -> Vec<Var> {
    let seeded = shapes.iter().zip(1..);
    seeded.map(|(dims, seed)| Var::from_tensor(&tensor(dims, seed)).unwrap()).collect()
}

fn assert_close(what: &str, found: &Tensor, expected: &Tensor, tolerance: f64) {
    let error = distance(found, expected).unwrap();
    assert!(error < tolerance, "{what}: {error:e}");
}

fn says<T>(found: Result<T>) -> String {
    found.map_or_else(|error| message(&error), |_| "no error".to_owned())
}

fn grad(loss: &Tensor, of: &Var) -> Tensor {
    loss.backward().unwrap().get(of).unwrap().clone()
}

/// A sum with weights of either sign.
fn weighted(ys: &Tensor) -> Tensor {
    let factors = tensor(ys.dims(), 77).to_dtype(ys.dtype()).unwrap();
    (ys * factors).unwrap().sum_all().unwrap()
}

mod of_softmax {
    use super::*;

    const SHAPES: [&[usize]; 6] = [&[5], &[1, 1], &[3, 5], &[4, 1], &[2, 3, 7], &[2, 3, 4, 33]];

    #[test]
    fn it_is_candle_s_fused_one() {
        for (dtype, tolerance) in DTYPES {
            for dims in SHAPES {
                let xs = (tensor(dims, 1) * 6.).unwrap().to_dtype(dtype).unwrap();
                let expected = candle_nn::ops::softmax_last_dim(&xs).unwrap();
                let ys = softmax(&xs).unwrap();
                assert_eq!(ys.dtype(), dtype);
                assert_close(&format!("{dtype:?} {dims:?}"), &ys, &expected, tolerance);
            }
        }
    }

    #[test]
    fn gradients_are_those_of_finite_differences() {
        for dims in SHAPES {
            let errors = gradient_errors(&|_, xs| softmax(xs), &vars(&[dims])).unwrap();
            assert!(errors[0] < 1e-8, "{dims:?}: {errors:?}");
        }
        let errors = gradient_errors(&|_, xs| softmax(&xs.t()?), &vars(&[&[3, 4]])).unwrap();
        assert!(errors[0] < 1e-8, "{errors:?}");
    }

    /// In f32 and in half precision, gradients are those in f64.
    #[test]
    fn gradients_of_other_dtypes_are_near() {
        let gradient = |dtype| {
            let xs = Var::from_tensor(&tensor(&[7, 9], 1).to_dtype(dtype).unwrap()).unwrap();
            let found = grad(&weighted(&softmax(&xs).unwrap()), &xs);
            assert_eq!(found.dtype(), dtype);
            found
        };
        for (dtype, tolerance) in DTYPES {
            assert_close(&format!("{dtype:?}"), &gradient(dtype), &gradient(DType::F64), tolerance);
        }
    }

    /// Far from zero, next to values that are no number, and without any.
    #[test]
    fn what_is_no_number_stays_so() {
        let (inf, nan) = (f64::INFINITY, f64::NAN);
        let rows = [[1e30, 1e30, -1e30], [-inf, 0., 0.], [nan, 0., 0.], [-inf; 3], [inf, 0., 0.]];
        for dtype in [DType::F32, DType::F64] {
            let xs = Tensor::new(&rows, device()).unwrap().to_dtype(dtype).unwrap();
            let ys = softmax(&xs).unwrap().to_dtype(DType::F64).unwrap().to_vec2::<f64>().unwrap();
            assert_eq!(ys[0], [0.5, 0.5, 0.]);
            assert_eq!(ys[1], [0., 0.5, 0.5]);
            for row in [2, 3] {
                assert!(ys[row].iter().all(|y| y.is_nan()), "{:?}", ys[row]);
            }
            assert!(ys[4][0].is_nan());
        }
    }

    #[test]
    fn nothing_gives_nothing() {
        for dims in [&[0, 4][..], &[3, 0], &[2, 0, 5]] {
            let xs = Tensor::zeros(dims, DType::F32, device()).unwrap();
            assert_eq!(softmax(&xs).unwrap().dims(), dims);
        }
    }

    #[test]
    fn many_rows_are_those_of_few() {
        let xs = Tensor::randn(0f32, 1., (300, 1000), device()).unwrap();
        let rows = xs.chunk(50, 0).unwrap();
        let rows = rows.iter().map(|xs| softmax(xs).unwrap()).collect::<Vec<_>>();
        let expected = Tensor::cat(&rows, 0).unwrap().to_vec2::<f32>().unwrap();
        assert_eq!(softmax(&xs).unwrap().to_vec2::<f32>().unwrap(), expected);
    }

    #[test]
    fn wrong_inputs_are_named() {
        let scalar = Tensor::new(1f32, device()).unwrap();
        let expected = "softmax: the input is a scalar, expected at least one dimension";
        assert_eq!(says(softmax(&scalar)), expected);
        let expected = "softmax: the input's dtype is U32, expected f16, bf16, f32 or f64";
        assert_eq!(says(softmax(&Tensor::new(&[1u32], device()).unwrap())), expected);
    }
}

mod of_rotary {
    use super::*;

    fn config(head_dim: usize) -> RotaryConfig {
        RotaryConfig {
            head_dim,
            max_positions: 32,
            theta: 10_000.,
            scaling: RotaryScaling::None,
            convention: RotaryConvention::Halves,
        }
    }

    fn both() -> [RotaryConvention; 2] {
        [RotaryConvention::Halves, RotaryConvention::Interleaved]
    }

    fn rotary(head_dim: usize, convention: RotaryConvention, dtype: DType) -> Rotary {
        Rotary::new(&RotaryConfig { convention, ..config(head_dim) }, dtype, device()).unwrap()
    }

    fn candle_s(xs: &Tensor, convention: RotaryConvention, start: usize) -> Tensor {
        let (_, _, length, width) = xs.dims4().unwrap();
        let angles = (start..start + length).flat_map(|at| {
            (0..width / 2).map(move |i| at as f64 * 1e4f64.powf(-2. * i as f64 / width as f64))
        });
        let angles = Tensor::from_iter(angles, device()).unwrap();
        let angles = angles.reshape((length, width / 2)).unwrap();
        let cast = |table: Tensor| table.to_dtype(xs.dtype()).unwrap();
        let (cos, sin) = (cast(angles.cos().unwrap()), cast(angles.sin().unwrap()));
        let rope = match convention {
            RotaryConvention::Halves => candle_nn::rotary_emb::rope,
            RotaryConvention::Interleaved => candle_nn::rotary_emb::rope_i,
        };
        rope(&xs.contiguous().unwrap(), &cos, &sin).unwrap()
    }

    const SHAPES: [[usize; 4]; 4] = [[1, 1, 1, 2], [2, 3, 5, 6], [1, 4, 1, 8], [3, 1, 7, 4]];

    #[test]
    fn it_is_candle_s_fused_one() {
        for (dtype, tolerance) in DTYPES {
            for (dims, convention) in SHAPES.iter().flat_map(|dims| both().map(|c| (dims, c))) {
                let xs = tensor(dims, 1).to_dtype(dtype).unwrap();
                let rotary = rotary(dims[3], convention, dtype);
                for start in [0, 9] {
                    let what = format!("{dtype:?} {dims:?} {convention:?} {start}");
                    let found = rotary.apply(&xs, start).unwrap();
                    assert_eq!((found.dtype(), found.dims()), (dtype, &dims[..]));
                    assert_close(&what, &found, &candle_s(&xs, convention, start), tolerance);
                }
            }
        }
    }

    /// `[B, T, H, D]` with its dimensions transposed, and a part of it.
    #[test]
    fn strided_inputs_are_as_good() {
        for convention in both() {
            let rotary = rotary(6, convention, DType::F64);
            let xs = tensor(&[2, 5, 4, 6], 1).transpose(1, 2).unwrap();
            for xs in [xs.clone(), xs.narrow(1, 1, 2).unwrap(), xs.narrow(2, 1, 3).unwrap()] {
                let found = rotary.apply(&xs, 3).unwrap();
                assert_close("strided", &found, &candle_s(&xs, convention, 3), 1e-12);
            }
            let wide = tensor(&[2, 4, 5, 8], 1).narrow(3, 1, 6).unwrap();
            let found = rotary.apply(&wide, 3).unwrap();
            assert_close("wide", &found, &candle_s(&wide, convention, 3), 1e-12);
        }
    }

    #[test]
    fn gradients_are_those_of_finite_differences() {
        for (dims, convention) in SHAPES.iter().flat_map(|dims| both().map(|c| (dims, c))) {
            let rotary = rotary(dims[3], convention, DType::F64);
            let errors = gradient_errors(&|_, xs| rotary.apply(xs, 4), &vars(&[dims])).unwrap();
            assert!(errors[0] < 1e-8, "{dims:?} {convention:?}: {errors:?}");
            let positions = (0..dims[0] * dims[2]).map(|at| (at * 7 % 32) as u32);
            let positions = Tensor::from_iter(positions, device()).unwrap();
            let positions = positions.reshape((dims[0], dims[2])).unwrap();
            let at = |xs: &Tensor| rotary.apply_at(xs, &positions);
            let errors = gradient_errors(&|_, xs| at(xs), &vars(&[dims])).unwrap();
            assert!(errors[0] < 1e-8, "{dims:?} {convention:?}: {errors:?}");
        }
    }

    /// Each sequence of a batch at its own positions, as if it were alone.
    #[test]
    fn positions_may_differ_in_a_batch() {
        for (dtype, convention) in DTYPES.iter().flat_map(|d| both().map(|c| (d.0, c))) {
            let rotary = rotary(6, convention, dtype);
            let xs = tensor(&[2, 3, 4, 6], 1).to_dtype(dtype).unwrap();
            let positions = Tensor::new(&[[3u32, 4, 5, 6], [0, 0, 30, 31]], device()).unwrap();
            let found = rotary.apply_at(&xs, &positions).unwrap();
            let one = |row: usize, at: usize, start: usize| {
                let part = |xs: &Tensor| xs.narrow(0, row, 1).unwrap().narrow(2, at, 1).unwrap();
                let expected = rotary.apply(&part(&xs), start).unwrap();
                assert_close("one", &part(&found), &expected, 1e-12);
            };
            [3, 4, 5, 6].into_iter().enumerate().for_each(|(at, start)| one(0, at, start));
            [0, 0, 30, 31].into_iter().enumerate().for_each(|(at, start)| one(1, at, start));
        }
    }

    /// A batch without rows, and rows without positions.
    #[test]
    fn nothing_gives_nothing() {
        let rotary = rotary(4, RotaryConvention::Halves, DType::F32);
        for dims in [[0, 2, 3, 4], [2, 0, 3, 4], [2, 3, 0, 4]] {
            let xs = Tensor::zeros(&dims, DType::F32, device()).unwrap();
            assert_eq!(rotary.apply(&xs, 32 - dims[2]).unwrap().dims(), dims);
            let positions = Tensor::zeros((dims[0], dims[2]), DType::U32, device()).unwrap();
            assert_eq!(rotary.apply_at(&xs, &positions).unwrap().dims(), dims);
        }
    }

    #[test]
    fn what_is_no_number_stays_so() {
        for (dtype, convention) in DTYPES.iter().flat_map(|d| both().map(|c| (d.0, c))) {
            let xs = Tensor::new(&[[[[f32::NAN, 1., 2., 3.]]]], device()).unwrap();
            let rotary = rotary(4, convention, dtype);
            let ys = rotary.apply(&xs.to_dtype(dtype).unwrap(), 0).unwrap();
            let ys = ys.to_dtype(DType::F32).unwrap().flatten_all().unwrap();
            assert_eq!(ys.to_vec1::<f32>().unwrap().iter().filter(|y| y.is_nan()).count(), 2);
        }
    }

    /// The sine of the first position is that of the frequency, as transformers 5 computes it in
    /// `ROPE_INIT_FUNCTIONS`, for theta 500000 and 16 values.
    #[test]
    fn scaled_frequencies_are_those_of_transformers() {
        let llama3 = RotaryScaling::Llama3 {
            factor: 8.,
            low_freq_factor: 1.,
            high_freq_factor: 4.,
            original_max_positions: 8192,
        };
        let of_llama3 = [
            1.0,
            0.193922758102417,
            0.03760603070259094,
            0.00729266507551074,
            0.0005248460220173001,
            3.428102354519069e-05,
            6.647869668086059e-06,
            1.289173155782919e-06,
        ];
        let of_linear = [
            0.25,
            0.04848068952560425,
            0.009401507675647736,
            0.001823166268877685,
            0.0003535533614922315,
            6.856204709038138e-05,
            1.3295739336172119e-05,
            2.578346311565838e-06,
        ];
        // As a GGUF file has Llama 3's: the frequencies divided by these are the scaled ones.
        let unscaled = |pair: usize| 5e5f64.powf(-(pair as f64) / 8.);
        let factors = (0..8).map(|pair| unscaled(pair) / of_llama3[pair]).collect();
        let cases = [
            (llama3, of_llama3),
            (RotaryScaling::PerPair(factors), of_llama3),
            (RotaryScaling::Linear(4.), of_linear),
        ];
        for (scaling, expected) in cases {
            let config = RotaryConfig { theta: 5e5, scaling, ..config(16) };
            let rotary = Rotary::new(&config, DType::F64, device()).unwrap();
            let xs = Tensor::ones((1, 1, 1, 16), DType::F64, device()).unwrap();
            let ys = rotary.apply(&xs, 1).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
            for (i, expected) in expected.into_iter().enumerate() {
                // cos - sin of the one, cos + sin of the other.
                let sin = (ys[i + 8] - ys[i]) / 2.;
                assert!((sin.asin() / expected - 1.).abs() < 1e-5 || i == 0, "{i}: {sin}");
                assert!((sin - f64::sin(expected)).abs() < 1e-6, "{i}: {sin}");
            }
        }
    }

    #[test]
    fn wrong_settings_are_named() {
        let of = |config: RotaryConfig| says(Rotary::new(&config, DType::F32, device()));
        let expected = "rotary: head_dim is 3, expected an even number of at least 2";
        assert_eq!(of(config(3)), expected);
        let expected = "rotary: head_dim is 0, expected an even number of at least 2";
        assert_eq!(of(config(0)), expected);
        let expected = "rotary: max_positions is 0, expected at least 1";
        assert_eq!(of(RotaryConfig { max_positions: 0, ..config(4) }), expected);
        let expected = "rotary: theta is NaN, expected a finite number above 0";
        assert_eq!(of(RotaryConfig { theta: f64::NAN, ..config(4) }), expected);
        let expected = "rotary: the scaling factor is 0, expected a finite number above 0";
        assert_eq!(of(RotaryConfig { scaling: RotaryScaling::Linear(0.), ..config(4) }), expected);
        let scaling = RotaryScaling::Llama3 {
            factor: 8.,
            low_freq_factor: 4.,
            high_freq_factor: 4.,
            original_max_positions: 8192,
        };
        let expected = "rotary: high_freq_factor is 4, expected more than low_freq_factor, 4";
        assert_eq!(of(RotaryConfig { scaling, ..config(4) }), expected);
        let factors = |factors: &[f64]| {
            of(RotaryConfig { scaling: RotaryScaling::PerPair(factors.into()), ..config(4) })
        };
        let expected =
            "rotary: there are 1 scaling factors, expected 2, one for each pair of values";
        assert_eq!(factors(&[1.]), expected);
        let expected = "rotary: scaling factor 1 is -1, expected a finite number above 0";
        assert_eq!(factors(&[1., -1.]), expected);
        let expected = "rotary: the tables' dtype is U8, expected f16, bf16, f32 or f64";
        assert_eq!(says(Rotary::new(&config(4), DType::U8, device())), expected);
    }

    #[test]
    fn wrong_inputs_are_named() {
        let rotary = rotary(4, RotaryConvention::Halves, DType::F32);
        let zeros = |dims: &[usize]| Tensor::zeros(dims, DType::F32, device()).unwrap();
        let expected =
            "rotary: the input has shape [2, 3, 4], expected [batch, heads, positions, 4]";
        assert_eq!(says(rotary.apply(&zeros(&[2, 3, 4]), 0)), expected);
        let expected = "rotary: the input's heads have 6 values, expected 4";
        assert_eq!(says(rotary.apply(&zeros(&[1, 2, 3, 6]), 0)), expected);
        let expected = "rotary: positions 30 to 33 were asked for, but there are 32";
        assert_eq!(says(rotary.apply(&zeros(&[1, 2, 3, 4]), 30)), expected);
        assert!(rotary.apply(&zeros(&[1, 2, 3, 4]), usize::MAX).is_err());
        let expected = "rotary: the input is F64, but the tables F32";
        let doubles = Tensor::zeros((1, 2, 3, 4), DType::F64, device()).unwrap();
        assert_eq!(says(rotary.apply(&doubles, 0)), expected);
        let positions = Tensor::zeros((3, 1), DType::U32, device()).unwrap();
        let expected = "rotary: the positions are U32 of shape [3, 1], expected U32 of [1, 3]";
        assert_eq!(says(rotary.apply_at(&zeros(&[1, 2, 3, 4]), &positions)), expected);
        let positions = Tensor::zeros((1, 3), DType::U8, device()).unwrap();
        let expected = "rotary: the positions are U8 of shape [1, 3], expected U32 of [1, 3]";
        assert_eq!(says(rotary.apply_at(&zeros(&[1, 2, 3, 4]), &positions)), expected);
        if device().is_cpu() {
            let positions = Tensor::new(&[[0u32, 1], [31, 32]], device()).unwrap();
            let expected = "rotary: position 32 of row 1, column 1 is out of range, there are 32";
            assert_eq!(says(rotary.apply_at(&zeros(&[2, 1, 2, 4]), &positions)), expected);
        }
    }
}

mod of_attention {
    use super::*;

    /// Batch, heads of queries and of keys, queries, keys, their width and that of values.
    type Sizes = [usize; 7];

    const SIZES: [Sizes; 8] = [
        [1, 1, 1, 1, 1, 1, 1],
        [2, 2, 2, 3, 3, 4, 4],
        [1, 4, 1, 5, 5, 3, 2],
        [2, 8, 2, 1, 7, 4, 5],
        [3, 4, 2, 2, 6, 5, 3],
        [1, 3, 3, 1, 1, 2, 2],
        [2, 2, 1, 1, 4, 16, 17],
        [1, 4, 1, 70, 75, 3, 3],
    ];

    fn shapes(sizes: Sizes) -> [Vec<usize>; 3] {
        let [batch, heads, key_heads, queries, keys, width, value_width] = sizes;
        [
            vec![batch, heads, queries, width],
            vec![batch, key_heads, keys, width],
            vec![batch, key_heads, keys, value_width],
        ]
    }

    /// None, causal, with keys that are left out, and both; the first key alone is left out where there is more
    /// than one, so that the first causal row has nothing, and of the last sequence all are.
    fn masks(sizes: Sizes) -> Vec<(AttentionMask, bool, Option<Tensor>)> {
        let [batch, _, _, _, keys, ..] = sizes;
        let kept = (0..batch * keys).map(|at| {
            u8::from(
                !at.is_multiple_of(keys) && at % 5 != 3 && (batch == 1 || at / keys + 1 < batch),
            )
        });
        let kept = Tensor::from_iter(kept, device()).unwrap().reshape((batch, keys)).unwrap();
        [false, true]
            .into_iter()
            .flat_map(|causal| {
                let mask = if causal { AttentionMask::causal() } else { AttentionMask::none() };
                let with_keys = mask.clone().with_keys(&kept);
                [(mask, causal, None), (with_keys, causal, Some(kept.clone()))]
            })
            .collect()
    }

    const SCALE: f64 = 0.7;

    /// By hand, over keys that are copied for each head, by candle's operations and its softmax.
    fn by_hand(
        qkv: &[Tensor],
        (causal, kept): (bool, Option<&Tensor>),
        softmax: fn(&Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let (batch, heads, queries, _) = qkv[0].dims4()?;
        let (_, key_heads, keys, _) = qkv[1].dims4()?;
        let spread = |tensor: &Tensor| {
            let (b, k, s, width) = tensor.dims4()?;
            let spread = tensor.unsqueeze(2)?.broadcast_as((b, k, heads / key_heads, s, width))?;
            spread.contiguous()?.reshape((b, heads, s, width))
        };
        let kept = kept.map(Tensor::to_vec2::<u8>).transpose()?;
        let sees = |row: usize, query: usize, key: usize| {
            let before = !causal || key + queries <= query + keys;
            before && kept.as_ref().is_none_or(|kept| kept[row][key] == 1)
        };
        let (mut bias, mut any) = (Vec::new(), Vec::new());
        for (row, query) in (0..batch * queries).map(|at| (at / queries, at % queries)) {
            bias.extend((0..keys).map(|key| if sees(row, query, key) { 0. } else { -1e30 }));
            any.push(f64::from(u8::from((0..keys).any(|key| sees(row, query, key)))));
        }
        let bias = Tensor::from_vec(bias, (batch, 1, queries, keys), device())?;
        let any = Tensor::from_vec(any, (batch, 1, queries, 1), device())?;
        let scores = (qkv[0].matmul(&spread(&qkv[1])?.t()?.contiguous()?)? * SCALE)?;
        let weights = softmax(&scores.broadcast_add(&bias)?)?;
        weights.matmul(&spread(&qkv[2])?)?.broadcast_mul(&any)
    }

    fn run(qkv: &[Tensor], mask: &AttentionMask) -> Result<Tensor> {
        attention(&qkv[0], &qkv[1], &qkv[2], mask, SCALE)
    }

    fn inputs(sizes: Sizes) -> [Var; 3] {
        let [q, k, v] = shapes(sizes);
        let var = |dims: &[usize], seed| Var::from_tensor(&tensor(dims, seed)).unwrap();
        [var(&q, 1), var(&k, 2), var(&v, 3)]
    }

    fn tensors(vars: &[Var; 3]) -> [Tensor; 3] {
        vars.each_ref().map(|var| var.as_tensor().clone())
    }

    /// The same values in another dtype.
    fn cast(vars: &[Var; 3], dtype: DType) -> [Var; 3] {
        vars.each_ref().map(|var| Var::from_tensor(&var.to_dtype(dtype).unwrap()).unwrap())
    }

    /// In every dtype, with more rows than are computed at a time.
    #[test]
    fn it_is_candle_s_fused_softmax_over_candle_s_products() {
        for (sizes, (dtype, tolerance)) in SIZES.iter().flat_map(|s| DTYPES.map(|d| (*s, d))) {
            let qkv = inputs(sizes);
            for (mask, causal, kept) in masks(sizes) {
                let what = format!("{dtype:?} {sizes:?} {mask:?}");
                let fused = candle_nn::ops::softmax_last_dim;
                let expected = by_hand(&tensors(&qkv), (causal, kept.as_ref()), fused).unwrap();
                let found = run(&tensors(&cast(&qkv, dtype)), &mask).unwrap();
                assert_eq!(found.dtype(), dtype);
                assert_close(&what, &found, &expected, tolerance);
            }
        }
    }

    #[test]
    fn gradients_are_those_of_finite_differences() {
        for sizes in SIZES.into_iter().filter(|sizes| sizes[3] < 70) {
            for (mask, ..) in masks(sizes) {
                let forward =
                    |qk: &[Tensor], v: &Tensor| attention(&qk[0], &qk[1], v, &mask, SCALE);
                let errors = gradient_errors(&forward, &inputs(sizes)).unwrap();
                assert!(errors.iter().all(|error| *error < 1e-8), "{sizes:?} {mask:?}: {errors:?}");
            }
        }
    }

    /// In every dtype, with more rows than are computed at a time.
    #[test]
    fn gradients_are_those_of_candle_s_operations() {
        for (sizes, (dtype, tolerance)) in SIZES.iter().flat_map(|s| DTYPES.map(|d| (*s, d))) {
            let reference = inputs(sizes);
            for (mask, causal, kept) in masks(sizes) {
                let slow: fn(&Tensor) -> Result<Tensor> =
                    |xs| candle_nn::ops::softmax(xs, D::Minus1);
                let ys = by_hand(&tensors(&reference), (causal, kept.as_ref()), slow).unwrap();
                let expected = weighted(&ys).backward().unwrap();
                let qkv = cast(&reference, dtype);
                let found = weighted(&run(&tensors(&qkv), &mask).unwrap()).backward().unwrap();
                for (var, reference) in qkv.iter().zip(&reference) {
                    let (found, expected) =
                        (found.get(var).unwrap(), expected.get(reference).unwrap());
                    assert_eq!(found.dtype(), dtype);
                    let what = format!("{dtype:?} {sizes:?} {mask:?}");
                    assert_close(&what, found, expected, 4. * tolerance);
                }
            }
        }
    }

    /// What nothing asks for is not computed, and changes nothing of the rest.
    #[test]
    fn each_input_alone_may_have_a_gradient() {
        let all = inputs([2, 4, 2, 3, 5, 4, 3]);
        let mask = AttentionMask::causal();
        let expected = weighted(&run(&tensors(&all), &mask).unwrap()).backward().unwrap();
        for (at, var) in all.iter().enumerate() {
            let mut some = tensors(&all).map(|x| x.detach());
            some[at] = var.as_tensor().clone();
            let grads = weighted(&run(&some, &mask).unwrap()).backward().unwrap();
            assert_close("alone", grads.get(var).unwrap(), expected.get(var).unwrap(), 1e-14);
        }
    }

    /// `[B, T, H, D]` with its dimensions transposed, as layers give it, and parts of larger tensors.
    #[test]
    fn strided_inputs_are_as_good() {
        let strided = |heads, length, width, seed| {
            tensor(&[2, length, heads, width], seed).transpose(1, 2).unwrap()
        };
        let wide = |tensor: Tensor| {
            let wide = Tensor::cat(&[&tensor.zeros_like().unwrap(), &tensor], 3).unwrap();
            wide.narrow(3, tensor.dims()[3], tensor.dims()[3]).unwrap()
        };
        let qkv = [strided(4, 3, 6, 1), strided(2, 5, 6, 2), strided(2, 5, 4, 3)];
        let [a, b, c] = qkv.clone();
        let columns = |x: Tensor| x.t().unwrap().contiguous().unwrap().t().unwrap();
        for qkv in [
            qkv.clone(),
            [wide(a.clone()), b.clone(), wide(c.clone())],
            [columns(a), columns(b), columns(c)],
        ] {
            let vars = qkv.each_ref().map(|x| Var::from_tensor(&x.contiguous().unwrap()).unwrap());
            let expected = run(&tensors(&vars), &AttentionMask::causal()).unwrap();
            let found = run(&qkv, &AttentionMask::causal()).unwrap();
            assert_close("strided", &found, &expected, 1e-14);
        }
        let vars = [[2, 3, 4, 6], [2, 5, 2, 6], [2, 5, 2, 4]]
            .map(|dims| Var::from_tensor(&tensor(&dims, 4)).unwrap());
        let forward = |qk: &[Tensor], v: &Tensor| {
            let heads = |x: &Tensor| x.transpose(1, 2);
            let ys = attention(
                &heads(&qk[0])?,
                &heads(&qk[1])?,
                &heads(v)?,
                &AttentionMask::causal(),
                SCALE,
            )?;
            ys.transpose(1, 2)
        };
        let errors = gradient_errors(&forward, &vars).unwrap();
        assert!(errors.iter().all(|error| *error < 1e-8), "{errors:?}");
    }

    /// Token by token, with a cache, it is what it is at once.
    #[test]
    fn a_cache_changes_nothing() {
        let qkv = tensors(&inputs([2, 4, 2, 6, 6, 4, 3]));
        let expected = run(&qkv, &AttentionMask::causal()).unwrap();
        let mut cache = kv_cache::ConcatKvCache::new(2);
        for (start, length) in [(0, 3), (3, 1), (4, 2)] {
            let part = |x: &Tensor| x.narrow(2, start, length).unwrap().contiguous().unwrap();
            let (k, v) = cache.append(&part(&qkv[1]), &part(&qkv[2])).unwrap();
            let found = run(&[part(&qkv[0]), k, v], &AttentionMask::causal()).unwrap();
            assert_close("cached", &found, &part(&expected), 1e-14);
        }
    }

    #[test]
    fn nothing_gives_nothing() {
        let none: [Sizes; 5] = [
            [0, 2, 1, 3, 3, 4, 4],
            [2, 2, 1, 0, 3, 4, 4],
            [2, 2, 1, 3, 0, 4, 4],
            [2, 2, 1, 3, 3, 0, 4],
            [2, 2, 1, 3, 3, 4, 0],
        ];
        for sizes in none {
            let qkv = tensors(&inputs(sizes)).map(|x| x.detach());
            let ys = run(&qkv, &AttentionMask::none()).unwrap();
            assert_eq!(ys.dims(), [sizes[0], sizes[1], sizes[3], sizes[6]]);
            if sizes[4] == 0 {
                assert_eq!(ys.sum_all().unwrap().to_scalar::<f64>().unwrap(), 0.);
            }
        }
    }

    /// In queries, keys and values, wherever it is seen.
    #[test]
    fn what_is_no_number_stays_so() {
        for (at, dtype) in (0..3).flat_map(|at| DTYPES.map(|d| (at, d.0))) {
            let mut qkv = tensors(&cast(&inputs([1, 2, 1, 3, 3, 2, 2]), dtype));
            let nan =
                Tensor::full(f32::NAN, (1, 1, 1, 2), device()).unwrap().to_dtype(dtype).unwrap();
            qkv[at] = qkv[at].slice_assign(&[0..1, 0..1, 1..2, 0..2], &nan).unwrap();
            let ys = run(&qkv, &AttentionMask::causal()).unwrap().to_dtype(DType::F32).unwrap();
            let ys = ys.get(0).unwrap().get(0).unwrap().to_vec2::<f32>().unwrap();
            assert!(ys[1].iter().all(|y| y.is_nan()), "{at} {dtype:?}: {ys:?}");
            assert_eq!(ys[2].iter().all(|y| y.is_nan()), at > 0, "{at} {dtype:?}: {ys:?}");
        }
    }

    #[test]
    fn wrong_inputs_are_named() {
        let zeros = |dims: &[usize]| Tensor::zeros(dims, DType::F32, device()).unwrap();
        let none = AttentionMask::none();
        let of = |q: &[usize], k: &[usize], v: &[usize], mask: &AttentionMask| {
            says(attention(&zeros(q), &zeros(k), &zeros(v), mask, 1.))
        };
        let expected = "attention: the queries have shape [2, 3, 4], expected [batch, heads, positions, width]";
        assert_eq!(of(&[2, 3, 4], &[1, 1, 3, 4], &[1, 1, 3, 4], &none), expected);
        let expected = "attention: the keys have shape [1, 1, 3, 5], expected [1, 1, 3, 4] for queries of shape [1, 2, 3, 4]";
        assert_eq!(of(&[1, 2, 3, 4], &[1, 1, 3, 5], &[1, 1, 3, 4], &none), expected);
        let expected = "attention: the values have shape [1, 1, 2, 4], expected [1, 1, 3, 4] for keys of shape [1, 1, 3, 4]";
        assert_eq!(of(&[1, 2, 3, 4], &[1, 1, 3, 4], &[1, 1, 2, 4], &none), expected);
        let expected = "attention: 3 heads of queries over 2 of keys, expected a multiple";
        assert_eq!(of(&[1, 3, 3, 4], &[1, 2, 3, 4], &[1, 2, 3, 4], &none), expected);
        let expected = "attention: 3 heads of queries over 0 of keys, expected a multiple";
        assert_eq!(of(&[1, 3, 3, 4], &[1, 0, 3, 4], &[1, 0, 3, 4], &none), expected);
        let expected =
            "attention: a causal mask over 4 queries and 3 keys, expected at least as many keys";
        assert_eq!(
            of(&[1, 1, 4, 2], &[1, 1, 3, 2], &[1, 1, 3, 2], &AttentionMask::causal()),
            expected
        );
        let keys = Tensor::ones((1, 4), DType::U8, device()).unwrap();
        let expected = "attention: the mask of keys is U8 of shape [1, 4], expected U8 of [1, 3]";
        assert_eq!(
            of(&[1, 1, 2, 2], &[1, 1, 3, 2], &[1, 1, 3, 2], &none.clone().with_keys(&keys)),
            expected
        );
        let keys = Tensor::ones((1, 3), DType::U32, device()).unwrap();
        let expected = "attention: the mask of keys is U32 of shape [1, 3], expected U8 of [1, 3]";
        assert_eq!(
            of(&[1, 1, 2, 2], &[1, 1, 3, 2], &[1, 1, 3, 2], &none.clone().with_keys(&keys)),
            expected
        );
        let x = zeros(&[1, 1, 2, 2]);
        let expected = "attention: the scale is inf, expected a finite number";
        assert_eq!(says(attention(&x, &x, &x, &none, f64::INFINITY)), expected);
        let doubles = x.to_dtype(DType::F64).unwrap();
        let expected = "attention: the keys' dtype is F64, but that of the queries F32";
        assert_eq!(says(attention(&x, &doubles, &x, &none, 1.)), expected);
        let integers = x.to_dtype(DType::U32).unwrap();
        let expected = "attention: the queries' dtype is U32, expected f16, bf16, f32 or f64";
        assert_eq!(says(attention(&integers, &integers, &integers, &none, 1.)), expected);
    }
}

mod of_cross_entropy {
    use super::*;

    const IGNORED: u32 = u32::MAX;

    /// Rows, classes, and which rows are ignored.
    type Case = (usize, usize, fn(usize) -> bool);

    const CASES: [Case; 5] = [
        (1, 1, |_| false),
        (1, 7, |_| false),
        (5, 3, |row| row == 2),
        (9, 33, |row| row > 0),
        (64, 500, |row| row % 3 == 1),
    ];

    fn targets(rows: usize, classes: usize, ignored: fn(usize) -> bool) -> Tensor {
        let target = |row: usize| if ignored(row) { IGNORED } else { (row * 7 % classes) as u32 };
        Tensor::from_iter((0..rows).map(target), device()).unwrap()
    }

    /// candle's own, over the rows that are not ignored.
    fn candle_s(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
        let kept = targets.to_vec1::<u32>()?.into_iter().enumerate();
        let (rows, targets): (Vec<_>, Vec<_>) =
            kept.filter(|(_, target)| *target != IGNORED).map(|(row, t)| (row as u32, t)).unzip();
        let rows = logits.index_select(&Tensor::new(rows, device())?, 0)?;
        loss::cross_entropy(&rows, &Tensor::new(targets, device())?)
    }

    #[test]
    fn it_is_candle_s() {
        for ((rows, classes, ignored), (dtype, tolerance)) in
            CASES.iter().flat_map(|case| DTYPES.map(|d| (*case, d)))
        {
            let logits = Var::from_tensor(&(tensor(&[rows, classes], 1) * 4.).unwrap()).unwrap();
            let targets = targets(rows, classes, ignored);
            let expected = candle_s(&logits, &targets).unwrap();
            let cast = Var::from_tensor(&logits.to_dtype(dtype).unwrap()).unwrap();
            let found = cross_entropy(&cast, &targets, IGNORED).unwrap();
            let of_loss = if dtype == DType::F64 { DType::F64 } else { DType::F32 };
            assert_eq!((found.dtype(), found.rank()), (of_loss, 0));
            let what = format!("{rows} {classes} {dtype:?}");
            assert_close(&what, &found, &expected, tolerance);
            // Times three, as part of a larger loss.
            let found_grad = grad(&(found * 3.).unwrap(), &cast);
            let expected_grad = grad(&(expected * 3.).unwrap(), &logits);
            assert_eq!(found_grad.dtype(), dtype);
            assert_close(&what, &found_grad, &expected_grad, tolerance);
        }
    }

    #[test]
    fn gradients_are_those_of_finite_differences() {
        for (rows, classes, ignored) in CASES.into_iter().filter(|case| case.1 < 100) {
            let targets = targets(rows, classes, ignored);
            let loss = |_: &[Tensor], xs: &Tensor| cross_entropy(xs, &targets, IGNORED);
            let errors = gradient_errors(&loss, &vars(&[&[rows, classes]])).unwrap();
            assert!(errors[0] < 1e-8, "{rows} {classes}: {errors:?}");
            let across = |_: &[Tensor], xs: &Tensor| cross_entropy(&xs.t()?, &targets, IGNORED);
            let errors = gradient_errors(&across, &vars(&[&[classes, rows]])).unwrap();
            assert!(errors[0] < 1e-8, "{rows} {classes}: {errors:?}");
        }
    }

    /// Rows that are ignored may hold anything; all others show it. Large logits overflow nothing.
    #[test]
    fn what_is_no_number_stays_so() {
        let logits = Tensor::new(&[[f32::NAN, 0.], [1e30, -1e30]], device()).unwrap();
        for (dtype, _) in DTYPES.into_iter().filter(|(dtype, _)| *dtype != DType::F16) {
            let logits = Var::from_tensor(&logits.to_dtype(dtype).unwrap()).unwrap();
            let loss = |targets: [u32; 2]| {
                let targets = Tensor::new(&targets, device()).unwrap();
                cross_entropy(&logits, &targets, IGNORED).unwrap()
            };
            let value =
                |loss: &Tensor| loss.to_dtype(DType::F64).unwrap().to_scalar::<f64>().unwrap();
            assert_eq!(value(&loss([IGNORED, 0])), 0.);
            assert!(value(&loss([0, 0])).is_nan());
            let grads = grad(&loss([IGNORED, 0]), &logits).to_dtype(DType::F32).unwrap();
            assert_eq!(grads.to_vec2::<f32>().unwrap(), [[0., 0.], [0., 0.]]);
            let grads = grad(&loss([1, IGNORED]), &logits).to_dtype(DType::F32).unwrap();
            let grads = grads.to_vec2::<f32>().unwrap();
            assert!(grads[0].iter().all(|grad| grad.is_nan()) && grads[1] == [0., 0.]);
        }
    }

    #[test]
    fn wrong_inputs_are_named() {
        let logits = Tensor::zeros((3, 4), DType::F32, device()).unwrap();
        let of = |targets: &[u32]| {
            says(cross_entropy(&logits, &Tensor::new(targets, device()).unwrap(), IGNORED))
        };
        let expected = "cross_entropy: target 4 of row 1 is out of range, there are 4 classes";
        assert_eq!(of(&[IGNORED, 4, 7]), expected);
        let expected = "cross_entropy: all 3 targets are 4294967295, which is ignored, expected at least one that is not";
        assert_eq!(of(&[IGNORED; 3]), expected);
        let expected = "cross_entropy: the targets are U32 of shape [2], expected U32 of [3]";
        assert_eq!(of(&[0, 1]), expected);
        let bytes = Tensor::zeros(3, DType::U8, device()).unwrap();
        let expected = "cross_entropy: the targets are U8 of shape [3], expected U32 of [3]";
        assert_eq!(says(cross_entropy(&logits, &bytes, 0)), expected);
        let expected = "cross_entropy: the logits have shape [4], expected [rows, classes]";
        assert_eq!(says(cross_entropy(&logits.get(0).unwrap(), &bytes, 0)), expected);
        let expected = "cross_entropy: the logits' dtype is U8, expected f16, bf16, f32 or f64";
        let integers = logits.to_dtype(DType::U8).unwrap();
        assert_eq!(says(cross_entropy(&integers, &bytes, 0)), expected);
        let none = Tensor::zeros((0, 4), DType::F32, device()).unwrap();
        let targets = Tensor::zeros(0, DType::U32, device()).unwrap();
        let expected = "cross_entropy: all 0 targets are 4294967295, which is ignored, expected at least one that is not";
        assert_eq!(says(cross_entropy(&none, &targets, IGNORED)), expected);
    }
}
