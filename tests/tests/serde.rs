//! Configurations as JSON, and back.

#![allow(missing_docs, clippy::unwrap_used)]

use std::fmt::Debug;

use candle_core::{Result, Tensor};
use hypernn::embedding::spec::{
    encoder, gru, perceiver, pooled, rotary, table, tasks, transformer, unordered,
};
use hypernn::embedding::{PerceiverSpec, TransformerSpec};
use hypernn::generated::TargetPlan;
use hypernn::generator::spec::{cos_sin, heads, linear, low_rank, mlp, per_module, relu, tanh};
use hypernn::init::InitScheme;
use hypernn::nn::{Linear, Module};
use hypernn::target::role::spec::{freeze, generate, lora, lora_dropout, shared, train};
use hypernn::{ChunkPlan, HyperTarget, Role};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{from_str, json, to_value};

/// The value, its JSON, and the value again.
#[track_caller]
fn there_and_back<T: Serialize + DeserializeOwned + PartialEq + Debug>(
    value: T,
    json: serde_json::Value,
) {
    assert_eq!(to_value(&value).unwrap(), json);
    assert_eq!(from_str::<T>(&json.to_string()).unwrap(), value);
}

#[test]
fn what_is_declared() {
    there_and_back(InitScheme::HyperNn, json!("hyper_nn"));
    there_and_back((relu, cos_sin), json!(["relu", "cos_sin"]));
    there_and_back(
        [generate, train, freeze, shared],
        json!(["generate", "train", "freeze", "shared"]),
    );
    there_and_back(
        lora_dropout(8, 16., 0.5),
        json!({"lora": {"rank": 8, "alpha": 16., "dropout": 0.5}}),
    );
    there_and_back(table(64, 8), json!({"num_embeddings": 64, "embedding_dim": 8}));
    there_and_back(
        tasks(3, 64, 8),
        json!({"num_tasks": 3, "num_embeddings": 64, "embedding_dim": 8}),
    );
    there_and_back(
        gru(5, 64, 8).encoding(cos_sin),
        json!({"cell": "gru", "width": 5, "num_embeddings": 64, "embedding_dim": 8, "encoding": "cos_sin"}),
    );
    there_and_back(
        encoder(5, [6, 7], tanh, 64, 8),
        json!({"width": 5, "widths": [6, 7], "activation": "tanh", "num_embeddings": 64, "embedding_dim": 8, "encoding": "raw"}),
    );
    there_and_back(
        perceiver(5, 64, 8, 2, 4).positions(rotary),
        json!({"width": 5, "num_embeddings": 64, "embedding_dim": 8, "depth": 2, "heads": 4, "positions": "rotary"}),
    );
    there_and_back(
        transformer(5, 64, 8, 2, 4).positions(unordered),
        json!({"width": 5, "num_embeddings": 64, "embedding_dim": 8, "depth": 2, "heads": 4, "positions": "unordered"}),
    );
    there_and_back(
        pooled(5, [6, 7], tanh, 64, 8),
        json!({"width": 5, "widths": [6, 7], "activation": "tanh", "num_embeddings": 64, "embedding_dim": 8, "encoding": "raw"}),
    );
    there_and_back(linear, json!(null));
    there_and_back(heads, json!(null));
    there_and_back(mlp([6, 7], relu), json!({"widths": [6, 7], "activation": "relu"}));
    there_and_back(low_rank(4), to_value(low_rank(4)).unwrap());
    there_and_back(
        per_module(8, [6], tanh),
        json!({"width": 8, "widths": [6], "activation": "tanh", "reads": "all"}),
    );
    there_and_back(
        per_module(8, [6], tanh).by_row(),
        json!({"width": 8, "widths": [6], "activation": "tanh", "reads": "row"}),
    );
    there_and_back(
        mlp([6], relu).conditioned(5),
        json!({"spec": {"widths": [6], "activation": "relu"}, "width": 5, "encoding": "raw"}),
    );
}

/// What has a default may be left out; what does not exist may not stand there.
#[test]
fn what_can_be_read() {
    let role: Role = from_str(r#"{"lora": {"rank": 2, "alpha": 4.0}}"#).unwrap();
    assert_eq!(role, lora(2, 4.));
    // Positions are those of the function of this name.
    let sizes = r#"{"width": 5, "num_embeddings": 4, "embedding_dim": 8, "depth": 2, "heads": 4}"#;
    assert_eq!(from_str::<PerceiverSpec>(sizes).unwrap(), perceiver(5, 4, 8, 2, 4));
    assert_eq!(from_str::<TransformerSpec>(sizes).unwrap(), transformer(5, 4, 8, 2, 4));
    let message = |json: &str| {
        let read = [
            from_str::<Role>(json).map(drop),
            from_str(json).map(|read| assert_eq!(mlp([1, 2], relu), read)),
            from_str(json).map(|read| assert_eq!(table(1, 2), read)),
        ];
        read.map(|read| read.map_err(|err| err.to_string()).err())
    };
    let [role, ..] = message(r#""frozen""#);
    assert_eq!(
        role.as_deref(),
        Some(
            "unknown variant `frozen`, expected one of `generate`, `train`, `freeze`, `shared`, `lora` at line 1 column 8"
        )
    );
    let [_, mlp, _] = message(r#"{"widths": [1, 2, 3], "activation": "relu"}"#);
    assert_eq!(mlp.as_deref(), Some("3 hidden widths, expected 2 at line 1 column 20"));
    let [_, _, table] = message(r#"{"num_embeddings": 1, "embedding_dim": 2, "width": 3}"#);
    assert_eq!(
        table.as_deref(),
        Some(
            "unknown field `width`, expected `num_embeddings` or `embedding_dim` at line 1 column 49"
        )
    );
}

#[derive(HyperTarget)]
struct Net {
    #[hyper([linear(3, 3), linear(3, 3)])]
    layers: [Linear; 2],
    #[hyper(linear(3, 2))]
    out: Linear,
}

impl Module for Net {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.layers
            .iter()
            .try_fold(xs.clone(), |xs, layer| layer.forward(&xs))
            .and_then(|xs| self.out.forward(&xs))
    }
}

/// Roles from a file, and the layout that they give.
#[test]
fn a_layout() -> Result<()> {
    let roles: Vec<(String, Role)> = from_str(
        r#"[["layers.*.weight", "shared"], ["*.bias", "freeze"], ["out.weight", {"lora": {"rank": 1, "alpha": 2.0}}]]"#,
    )
    .unwrap();
    let roles: Vec<_> = roles.iter().map(|(pattern, role)| (pattern.as_str(), *role)).collect();
    let plan = TargetPlan::<Net>::new(&())?.with_roles(&roles)?;
    let bias = |name: &str, len: usize| json!({"name": name, "shape": [len], "kind": "bias", "role": "freeze"});
    assert_eq!(
        to_value(plan.layout()).unwrap(),
        json!({
            "params": [
                {"name": "layers.0.weight", "shape": [3, 3], "offset": 0, "kind": "weight"},
                {"name": "out.weight.lora_a", "shape": [1, 3], "offset": 9, "kind": "down"},
                {"name": "out.weight.lora_b", "shape": [2, 1], "offset": 12, "kind": "up"},
            ],
            "kept": [
                bias("layers.0.bias", 3),
                bias("layers.1.bias", 3),
                {"name": "out.weight", "shape": [2, 3], "kind": "weight", "role": "freeze"},
                bias("out.bias", 2),
            ],
            "buffers": [],
            "places": [
                ["layers.0.weight", {"generated": 0}],
                ["layers.0.bias", {"kept": 0}],
                ["layers.1.weight", {"generated": 0}],
                ["layers.1.bias", {"kept": 1}],
                ["out.weight", {"adapted": {"base": 2, "down": 1, "scale": 2., "dropout": 0.}}],
                ["out.bias", {"kept": 3}],
            ],
            "num_params": 14,
            "hash": plan.layout().hash(),
            "one_set_layer": null,
        })
    );
    let chunks = ChunkPlan::new(9, 2);
    assert_eq!(to_value(chunks).unwrap(), json!({"num_params": 9, "rows": 2, "chunk": 5}));
    Ok(())
}
