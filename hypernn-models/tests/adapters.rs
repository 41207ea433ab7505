//! Adapters of a decoder: roles, gradients, one for each row of a batch.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use candle_core::{DType, Module, Result, Tensor, Var};
use candle_nn::VarMap;
use common::{builder, decoder, distance, small};
use hypernn::{GeneratedParams, HyperTarget, hypernetwork, nn, seeded};
use hypernn_models::{Decoder, DecoderConfig, GenerateOptions, generate};
use hypernn_tests::device;

hypernetwork! {
    struct Adapters for Decoder {
        config: DecoderConfig,
        roles: [
            ("*.q_proj.weight", lora(2, 4.)),
            ("*.v_proj.weight", lora(2, 4.)),
            ("*", freeze),
        ],
        embedding: encoder(3, [8], tanh, 16, 4),
        generator: linear,
        mode: dynamic,
    }
}

/// Factors of q `[2, 16]`, `[16, 2]` and of v `[2, 16]`, `[8, 2]` in two layers.
const FACTORS: usize = 2 * (32 + 32 + 32 + 16);

fn adapters() -> Adapters {
    let vb = seeded::var_builder(&VarMap::new(), 1, DType::F64, device());
    Adapters::new_from(&small(), vb, builder(&small(), 5, DType::F64)).unwrap()
}

/// Adapters that add something, `[G, P]`, or `[P]`.
fn factors(dims: &[usize]) -> Var {
    let vb = seeded::var_builder(&VarMap::new(), 2, DType::F64, device());
    let init = candle_nn::Init::Randn { mean: 0., stdev: 0.3 };
    let values = vb.get_with_hints(dims, "factors", init).unwrap();
    Var::from_tensor(&values.detach().copy().unwrap()).unwrap()
}

fn ids() -> Tensor {
    Tensor::new(&[[3u32, 1, 4, 1, 5], [9, 2, 6, 5, 3], [8, 9, 7, 9, 3], [2, 3, 8, 4, 6]], device())
        .unwrap()
}

/// Of the next token at each place.
fn loss(decoder: &Decoder, ids: &Tensor) -> Result<Tensor> {
    let inputs = ids.narrow(1, 0, 4)?.contiguous()?;
    let targets = ids.narrow(1, 1, 4)?.contiguous()?.flatten_all()?;
    let logits = decoder.forward(&inputs)?.flatten_to(1)?;
    nn::cross_entropy(&logits, &targets, u32::MAX)
}

fn condition(rows: usize) -> Tensor {
    let values = (0..rows * 3).map(|at| (at as f64).sin());
    Tensor::from_iter(values, device()).unwrap().reshape((rows, 3)).unwrap()
}

#[test]
fn a_hypernetwork_starts_as_the_model_and_reaches_every_factor() {
    let hyper = adapters();
    assert_eq!(hyper.layout().num_params(), FACTORS);
    let params = hyper.generate_params(&condition(2)).unwrap();
    let start = decoder(&small(), 5).forward(&ids()).unwrap();
    assert!(distance(&params.forward(&ids()).unwrap(), &start) < 1e-12);
    let decoder = params.unpack().unwrap();
    let audit = hyper.audit(&params, &loss(&decoder, &ids()).unwrap()).unwrap();
    assert!(audit.is_complete(), "{audit}");
}

#[test]
fn gradients_are_those_of_differences() {
    let hyper = adapters();
    let factors = factors(&[FACTORS]);
    let at = |flat: &Tensor| {
        let decoder = hyper.params_from_flat(flat).unwrap().unpack().unwrap();
        loss(&decoder, &ids()).unwrap()
    };
    let grads = at(&factors).backward().unwrap();
    let grad = grads.get(&factors).unwrap().to_vec1::<f64>().unwrap();
    let values = factors.to_vec1::<f64>().unwrap();
    let moved = |i: usize, by: f64| {
        let mut values = values.clone();
        values[i] += by;
        at(&Tensor::new(values, device()).unwrap()).to_scalar::<f64>().unwrap()
    };
    // Some of each factor.
    for i in (0..FACTORS).step_by(5) {
        let difference = (moved(i, 1e-5) - moved(i, -1e-5)) / 2e-5;
        assert!((difference - grad[i]).abs() < 1e-7, "{i}: {difference} and {}", grad[i]);
    }
    assert!(grad.iter().all(|value| value.abs() > 1e-9));
}

/// Gradients of what a block computes anew are the same.
#[test]
fn blocks_are_computed_anew() {
    let (factors, hyper) = (factors(&[2, FACTORS]), adapters());
    let again = {
        let config = small().with_recompute(true);
        let vb = seeded::var_builder(&VarMap::new(), 1, DType::F64, device());
        Adapters::new_from(&config, vb, builder(&config, 5, DType::F64)).unwrap()
    };
    let grad = |hyper: &Adapters| {
        let decoder = hyper.params_from_flat(&factors).unwrap().unpack().unwrap();
        let grads = loss(&decoder, &ids()).unwrap().backward().unwrap();
        grads.get(&factors).unwrap().clone()
    };
    assert!(distance(&grad(&hyper), &grad(&again)) < 1e-12);
    let params = again.generate_params(&condition(2)).unwrap();
    let decoder = params.unpack().unwrap();
    assert!(decoder.config().recompute);
    let audit = again.audit(&params, &loss(&decoder, &ids()).unwrap()).unwrap();
    assert!(audit.is_complete(), "{audit}");
}

#[test]
fn the_exact_audit_finds_no_fault() {
    let hyper = adapters();
    let audit = hyper
        .audit_exact(&condition(2), |params: &GeneratedParams<Decoder>| {
            loss(&params.unpack()?, &ids())
        })
        .unwrap();
    assert!(audit.is_right(), "{audit}");
}

#[test]
fn each_row_has_its_own_adapter() {
    let hyper = adapters();
    let params = hyper.params_from_flat(&factors(&[2, FACTORS])).unwrap().detach();
    // All at once: no layer takes one set at a time.
    let together = params.unpack().unwrap().forward(&ids()).unwrap();
    assert!(distance(&params.forward(&ids()).unwrap(), &together) < 1e-12);
    for set in 0..2 {
        let alone = params.set(set).unwrap().unpack().unwrap();
        let rows = ids().narrow(0, 2 * set, 2).unwrap().contiguous().unwrap();
        let ours = together.narrow(0, 2 * set, 2).unwrap();
        assert!(distance(&ours, &alone.forward(&rows).unwrap()) < 1e-12);
    }
    let base = decoder(&small(), 5).forward(&ids()).unwrap();
    assert!(distance(&together, &base) > 0.01);
}

#[test]
fn each_prompt_goes_on_with_its_own_adapter() {
    let hyper = adapters();
    let params = hyper.params_from_flat(&factors(&[3, FACTORS])).unwrap().detach();
    let prompts = [vec![3, 1, 4], vec![3, 1, 4], vec![1, 5]];
    let options = GenerateOptions { stop: Vec::new(), ..GenerateOptions::greedy(&small(), 8) };
    let together = generate(&params.unpack().unwrap(), &prompts, &options).unwrap();
    for (set, prompt) in prompts.iter().enumerate() {
        let alone = params.set(set).unwrap().unpack().unwrap();
        let alone = generate(&alone, std::slice::from_ref(prompt), &options).unwrap();
        assert_eq!(alone[0], together[set]);
    }
    // One prompt, two adapters, two texts.
    assert_ne!(together[0], together[1]);
}

#[test]
fn the_upper_blocks_go_on_from_what_the_lower_ones_gave() {
    let decoder = decoder(&small(), 5);
    let whole = decoder.hidden(&ids(), None).unwrap();
    let kept = decoder.blocks(0..1, &decoder.embed(&ids()).unwrap(), None).unwrap();
    assert!(distance(&decoder.forward_from(1, &kept, None).unwrap(), &whole) < 1e-12);
    // The head over some places alone.
    let places = Tensor::new(&[[4u32, 0], [1, 1], [2, 3], [0, 4]], device()).unwrap();
    let picked = decoder.head(&hypernn_models::decoder::pick(&whole, &places).unwrap()).unwrap();
    let logits = decoder.head(&whole).unwrap();
    let index =
        places.unsqueeze(2).unwrap().broadcast_as((4, 2, 29)).unwrap().contiguous().unwrap();
    assert!(distance(&picked, &logits.gather(&index, 1).unwrap()) < 1e-12);
}

#[test]
fn names_are_those_of_hugging_face() {
    let config = DecoderConfig { qkv_bias: true, tie_word_embeddings: false, ..small() };
    let vars = VarMap::new();
    Decoder::with_config(&config, seeded::var_builder(&vars, 1, DType::F32, device())).unwrap();
    let vars = vars.data().lock().unwrap();
    let mut names: Vec<_> =
        vars.keys().filter(|name| !name.contains("layers.1")).cloned().collect();
    names.sort_unstable();
    let expected = [
        "lm_head.weight",
        "model.embed_tokens.weight",
        "model.layers.0.input_layernorm.weight",
        "model.layers.0.mlp.down_proj.weight",
        "model.layers.0.mlp.gate_proj.weight",
        "model.layers.0.mlp.up_proj.weight",
        "model.layers.0.post_attention_layernorm.weight",
        "model.layers.0.self_attn.k_proj.bias",
        "model.layers.0.self_attn.k_proj.weight",
        "model.layers.0.self_attn.o_proj.weight",
        "model.layers.0.self_attn.q_proj.bias",
        "model.layers.0.self_attn.q_proj.weight",
        "model.layers.0.self_attn.v_proj.bias",
        "model.layers.0.self_attn.v_proj.weight",
        "model.norm.weight",
    ];
    assert_eq!(names, expected);
}
