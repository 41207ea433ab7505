//! How much memory a forward pass takes: alone in its binary, because the allocator counts for all.

#![allow(missing_docs, clippy::unwrap_used)]

use std::cell::Cell;
use std::sync::{Mutex, PoisonError};

use candle_core::{DType, Device, Module, Result, Tensor};
use candle_nn::{VarBuilder, VarMap};
use hypernn::nn::{Conv2d, Conv2dConfig, Linear};
use hypernn::{HyperTarget, hypernetwork, recompute};
use hypernn_tests::{input, variables};
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

#[derive(HyperTarget)]
struct Policy {
    #[hyper(linear(8, 256))]
    first: Linear,
    #[hyper(linear(256, 32))]
    second: Linear,
}

impl Module for Policy {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.second.forward(&self.first.forward(xs)?.relu()?)
    }
}

hypernetwork! {
    struct HyperPolicy for Policy { embedding: rnn(8, 32, 4), generator: linear, mode: dynamic }
}

/// One test at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// The bytes above those in use before.
fn peak_of<T>(work: impl FnOnce() -> Result<T>) -> Result<usize> {
    let idle = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    drop(work()?);
    Ok(ALLOCATOR.peak_usage().saturating_sub(idle))
}

/// All sets' values at once, and at most twice as much for what they are computed from and for the
/// target's own values.
#[test]
fn a_forward_holds_the_sets_about_once() -> Result<()> {
    const BATCH: usize = 256;
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (_vars, vb) = variables(0, DType::F32);
    let hyper = HyperPolicy::new(vb)?;
    let xs = input(&[BATCH, 8], 1, DType::F32)?;
    // Threads and buffers that stay.
    hyper.forward(&xs)?;
    let all = BATCH * HyperPolicy::NUM_TARGET_PARAMS * size_of::<f32>();
    let peak = peak_of(|| hyper.forward(&xs))?;
    println!("{:.2} times the sets' values", peak as f64 / all as f64);
    assert!(peak <= 3 * all, "{peak} bytes, allowed {}", 3 * all);
    // The allocator does count: the values are there at some time.
    assert!(peak >= all, "{peak} bytes, the sets alone have {all}");
    Ok(())
}

/// Adapters that are kept take what their values do, and what is computed with them what it has of values.
/// Undetached, each also holds the graph of its generation.
#[test]
fn kept_parameters_hold_no_graph_once_detached() -> Result<()> {
    const COUNT: usize = 64;
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (_vars, vb) = variables(0, DType::F32);
    let hyper = HyperPolicy::new(vb)?;
    let condition = |seed| input(&[8], seed, DType::F32);
    let xs = input(&[4, 8], 1, DType::F32)?;
    hyper.generate_params(&condition(0)?)?.forward(&xs)?;
    let held = |detached: bool, outputs: bool| {
        let idle = ALLOCATOR.current_usage();
        let (mut kept, mut computed) = (Vec::new(), Vec::new());
        for seed in 0..COUNT as u64 {
            let params = hyper.generate_params(&condition(seed)?)?;
            let params = if detached { params.detach() } else { params };
            match outputs {
                true => computed.push(params.forward(&xs)?),
                false => kept.push(params),
            }
        }
        // What a test before this one held may be released meanwhile.
        Ok::<_, candle_core::Error>(ALLOCATOR.current_usage().saturating_sub(idle) / COUNT)
    };
    let values = HyperPolicy::NUM_TARGET_PARAMS * size_of::<f32>();
    let ([adapter, output], [with_graph, output_with_graph]) =
        ([held(true, false)?, held(true, true)?], [held(false, false)?, held(false, true)?]);
    println!(
        "{values} bytes of values: an adapter {adapter}, with its graph {with_graph}; an output of 512 bytes {output}, with its graph {output_with_graph}"
    );
    assert!(adapter <= values + 8192, "{adapter} bytes, the values have {values}");
    assert!(output <= 512 + 4096, "{output} bytes, the values have 512");
    // With the graph, an output holds the parameters that it was computed by.
    assert!(output_with_graph >= values, "{output_with_graph}");
    assert!(with_graph >= adapter);
    Ok(())
}

/// A set by itself holds nothing of the others.
#[test]
fn a_set_holds_nothing_of_the_others() -> Result<()> {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (_vars, vb) = variables(0, DType::F32);
    let hyper = HyperPolicy::new(vb)?;
    let conditions = input(&[32, 8], 1, DType::F32)?;
    hyper.generate_params(&conditions)?;
    let idle = ALLOCATOR.current_usage();
    let one = hyper.generate_params(&conditions)?.detach().set(7)?;
    let values = HyperPolicy::NUM_TARGET_PARAMS * size_of::<f32>();
    let held = ALLOCATOR.current_usage() - idle;
    assert!(held <= 2 * values, "{held} bytes, the values have {values}");
    assert_eq!(one.num_sets(), None);
    Ok(())
}

/// Unfolded at once, the images of a convolution would take nine times their own size, and in the
/// backward again. Tile by tile, the rest is small beside inputs and outputs.
#[test]
fn a_convolution_does_not_unfold_the_batch() -> Result<()> {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (_vars, vb) = variables(0, DType::F32);
    let weight = vb.get((32, 32, 16, 3, 3), "weight")?;
    let config = Conv2dConfig { padding: 1, ..Default::default() };
    let layer = Conv2d::new(weight, None, config);
    let xs = input(&[32, 16, 28, 28], 1, DType::F32)?;
    layer.forward(&xs)?.sum_all()?.backward()?;
    let (images, outputs) = (xs.elem_count() * 4, 32 * 32 * 28 * 28 * 4);
    let forward = peak_of(|| layer.forward(&xs))?;
    println!("{:.2} times the outputs", forward as f64 / outputs as f64);
    assert!(forward <= outputs + images, "{forward} bytes, allowed {}", outputs + images);
    assert!(forward >= outputs, "{forward} bytes, the outputs alone have {outputs}");
    // candle's own sum takes several tensors of the outputs' size.
    let both = peak_of(|| layer.forward(&xs)?.sum_all()?.backward())?;
    println!("{:.2} times the outputs with the backward", both as f64 / outputs as f64);
    let allowed = 4 * outputs;
    assert!(both <= allowed, "{both} bytes, allowed {allowed}");
    Ok(())
}

/// Layers of candle, which take a frozen weight and its adapter as one.
struct Stack(Vec<candle_nn::Linear>);

impl Stack {
    const LAYERS: usize = 16;
    const WIDTH: usize = 128;

    fn new(vb: VarBuilder<'_>) -> Result<Self> {
        let layer = |i| candle_nn::linear_no_bias(Self::WIDTH, Self::WIDTH, vb.pp(i));
        Ok(Self((0..Self::LAYERS).map(layer).collect::<Result<_>>()?))
    }
}

impl Module for Stack {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.0.iter().try_fold(xs.clone(), |xs, layer| layer.forward(&xs)?.tanh())
    }
}

hypernetwork! {
    struct HyperStack for Stack {
        target: constructor,
        roles: [("*", lora(2, 2.))],
        embedding: table(64, 4),
        generator: linear,
        mode: static,
    }
}

/// The adapted weights, and what the backward needs for one layer at a time: no product of the factors, no
/// multiple of it, and no gradient of the base is kept beside them.
#[test]
fn adapted_weights_are_held_once() -> Result<()> {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let base = VarMap::new();
    Stack::new(VarBuilder::from_varmap(&base, DType::F32, &Device::Cpu))?;
    let base = VarBuilder::from_varmap(&base, DType::F32, &Device::Cpu);
    let hyper = HyperStack::new_from(variables(0, DType::F32).1, base, Stack::new)?;
    let xs = input(&[4, Stack::WIDTH], 1, DType::F32)?;
    let step = || hyper.forward(&xs)?.sqr()?.mean_all()?.backward();
    // Threads and buffers that stay, and the first forward's second look.
    step()?;
    let weights = Stack::LAYERS * Stack::WIDTH.pow(2) * size_of::<f32>();
    let peak = peak_of(step)?;
    println!("{:.2} times the weights", peak as f64 / weights as f64);
    assert!(peak <= 2 * weights, "{peak} bytes, allowed {}", 2 * weights);
    assert!(peak >= weights);
    Ok(())
}

/// Blocks of a decoder, whose matrices are frozen and adapted.
#[derive(HyperTarget)]
#[hyper(config = usize)]
struct Decoder {
    #[hyper([linear_no_bias(256, 256); *config])]
    layers: Vec<Linear>,
}

impl Module for Decoder {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.layers.iter().try_fold(xs.clone(), |xs, layer| layer.forward(&xs)?.tanh())
    }
}

hypernetwork! {
    struct HyperDecoder for Decoder {
        config: usize,
        roles: [("*.weight", lora(2, 2.))],
        embedding: encoder(8, [8], tanh, 1, 8),
        generator: per_module(8, [16], tanh),
        mode: dynamic,
    }
}

/// The tensors of the pretrained network are those of the hypernetwork: none is copied, neither when it is built nor
/// in a forward, whatever the number of sets.
#[test]
fn a_frozen_base_is_held_once() -> Result<()> {
    const LAYERS: usize = 8;
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let base = VarMap::new();
    let vb = || VarBuilder::from_varmap(&base, DType::F32, &Device::Cpu);
    Decoder::with_config(&LAYERS, vb())?;
    let values = LAYERS * 256 * 256 * size_of::<f32>();
    let build = || HyperDecoder::new_from(&LAYERS, variables(0, DType::F32).1, vb());
    let hyper = build()?;
    let building = peak_of(build)?;
    println!("building: {:.2} times the base", building as f64 / values as f64);
    assert!(building <= values / 8, "{building} bytes, the base has {values}");
    let (conditions, xs) = (input(&[4, 8], 1, DType::F32)?, input(&[8, 256], 1, DType::F32)?);
    let step = || hyper.generate_params(&conditions)?.forward(&xs)?.sqr()?.mean_all()?.backward();
    step()?;
    let peak = peak_of(step)?;
    println!("a step: {:.2} times the base", peak as f64 / values as f64);
    assert!(peak <= values, "{peak} bytes, the base has {values}");
    // A base that is copied would be noticed.
    let copied =
        peak_of(|| base.all_vars().iter().map(|var| var.copy()).collect::<Result<Vec<_>>>())?;
    assert!(copied >= values);
    Ok(())
}

thread_local! {
    /// Whether blocks are computed again in the backward.
    static RECOMPUTES: Cell<bool> = const { Cell::new(false) };
}

/// Widens and narrows, beside what it is given.
#[derive(Clone, HyperTarget)]
struct Block {
    #[hyper(linear(64, 256))]
    up: Linear,
    #[hyper(linear(256, 64))]
    down: Linear,
}

impl Module for Block {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        xs + self.down.forward(&self.up.forward(xs)?.silu()?)?
    }
}

macro_rules! deep {
    ($($block:ident)+) => {
        #[derive(HyperTarget)]
        struct Deep {
            $($block: Block,)+
        }

        impl Module for Deep {
            fn forward(&self, xs: &Tensor) -> Result<Tensor> {
                let mut xs = xs.clone();
                for block in [$(&self.$block),+] {
                    let block = block.clone();
                    let of_block = move |xs: &[Tensor]| block.forward(&xs[0]);
                    xs = if RECOMPUTES.get() { recompute(&[xs], of_block)? } else { of_block(&[xs])? };
                }
                Ok(xs)
            }
        }
    };
}

deep!(a b c d e f g h i j k l m n o p);

hypernetwork! {
    struct HyperDeep for Deep { embedding: table(64, 4), generator: linear, mode: static }
}

/// Of sixteen blocks, with weights of their own and generated: without the values inside of blocks less than half is
/// held at a time.
#[test]
fn blocks_that_are_computed_again_hold_their_inputs_alone() -> Result<()> {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (_vars, vb) = variables(0, DType::F32);
    let own = Deep::new(vb.pp("own"))?;
    let hyper = HyperDeep::new(vb.pp("hyper"))?;
    let xs = input(&[1024, 64], 1, DType::F32)?;
    let forwards: [(&str, &dyn Fn() -> Result<Tensor>); 2] =
        [("its own weights", &|| own.forward(&xs)), ("generated weights", &|| hyper.forward(&xs))];
    for (name, forward) in forwards {
        let step = || forward()?.sqr()?.mean_all()?.backward();
        // Threads and buffers that stay.
        step()?;
        let peak = |recomputes: bool| {
            RECOMPUTES.set(recomputes);
            peak_of(step)
        };
        let (kept, again) = (peak(false)?, peak(true)?);
        RECOMPUTES.set(false);
        let mib = |bytes: usize| bytes as f64 / f64::from(1 << 20);
        println!(
            "16 blocks with {name}: {:.1} MiB, computed again {:.1} MiB",
            mib(kept),
            mib(again)
        );
        assert!(2 * again < kept, "{name}: {again} bytes, without {kept}");
    }
    Ok(())
}

/// The weights of a layer live while it runs: at once they are sixteen times as many.
#[test]
fn streamed_weights_are_those_of_a_layer() -> Result<()> {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (_vars, vb) = variables(0, DType::F32);
    let hyper = HyperDeep::new(vb)?;
    let xs = input(&[4, 64], 1, DType::F32)?;
    let at_once = || hyper.generate_params()?.detach().forward(&xs);
    let streamed = || hyper.stream_params()?.forward(&xs);
    // Threads and buffers that stay.
    at_once()?;
    streamed()?;
    let values = HyperDeep::NUM_TARGET_PARAMS * size_of::<f32>();
    let (of_all, of_each) = (peak_of(at_once)?, peak_of(streamed)?);
    println!(
        "{values} bytes of weights: at once {of_all}, streamed {of_each}, {:.3} of them",
        of_each as f64 / values as f64
    );
    assert!(of_all >= values);
    assert!(4 * of_each <= values, "{of_each} bytes, the weights have {values}");
    // Nor does a hypernetwork that is built generate them.
    let building = peak_of(|| HyperDeep::new(variables(1, DType::F32).1))?;
    println!("building: {building} bytes");
    assert!(2 * building <= values, "{building} bytes, the weights have {values}");
    Ok(())
}

/// Eight parts of a batch, generated once: less than a third of what the batch at once holds.
#[test]
fn parts_of_a_batch_hold_what_a_part_does() -> Result<()> {
    const PARTS: usize = 8;
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (_vars, vb) = variables(0, DType::F32);
    let hyper = HyperDeep::new(vb)?;
    let xs = input(&[1024, 64], 1, DType::F32)?;
    let whole = || hyper.forward(&xs)?.sqr()?.mean_all()?.backward();
    let parts = || {
        let mut passes = hyper.generate_params()?.micro_batches()?;
        for part in xs.chunk(PARTS, 0)? {
            let loss = passes.params().forward(&part)?.sqr()?.mean_all()?;
            passes.backward(&(loss / PARTS as f64)?)?;
        }
        passes.finish()
    };
    whole()?;
    parts()?;
    let (of_whole, of_parts) = (peak_of(whole)?, peak_of(parts)?);
    println!("a batch: {of_whole} bytes, {PARTS} parts of it {of_parts}");
    assert!(3 * of_parts < of_whole, "{of_parts} bytes, at once {of_whole}");
    Ok(())
}

/// All weights of attention at once would be many times what it is given.
#[test]
fn attention_holds_some_rows_of_weights() -> Result<()> {
    use hypernn::nn::{AttentionMask, attention};

    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let side = |seed| input(&[2, 4, 512, 16], seed, DType::F32);
    let vars = [side(1)?, side(2)?, side(3)?].map(|side| candle_core::Var::from_tensor(&side));
    let [q, k, v] = vars;
    let (q, k, v) = (q?, k?, v?);
    let step = || attention(&q, &k, &v, &AttentionMask::causal(), 0.25)?.sum_all()?.backward();
    step()?;
    let (peak, weights) = (peak_of(step)?, 2 * 4 * 512 * 512 * size_of::<f32>());
    println!("{:.2} times the weights of attention", peak as f64 / weights as f64);
    assert!(2 * peak < weights, "{peak} bytes, the weights have {weights}");
    // The allocator does count.
    assert!(peak > 4 * q.elem_count() * size_of::<f32>());
    Ok(())
}
