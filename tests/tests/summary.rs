//! The summary of a hypernetwork: every tensor once, sums that are those of the layout and of the variables, and
//! drawings.

#![allow(missing_docs, clippy::unwrap_used)]

use candle_core::{DType, Result, Tensor};
use hypernn::hypernetwork::TensorSummary;
use hypernn::nn::{BatchNorm, Embedding, Linear, Module, ModuleT, VarBuilder, VarMap};
use hypernn::{HyperTarget, hypernetwork};
use hypernn_tests::{device, variables};

/// A tied head, a norm with running statistics, two layers alike.
#[derive(HyperTarget)]
struct Net {
    #[hyper(embedding(10, 6))]
    table: Embedding,
    #[hyper([linear(6, 6); 2])]
    layers: Vec<Linear>,
    #[hyper(batch_norm(6))]
    norm: BatchNorm,
    #[hyper(linear(6, 10), tie(weight = table.weight))]
    head: Linear,
}

impl Module for Net {
    fn forward(&self, tokens: &Tensor) -> Result<Tensor> {
        let states = self
            .layers
            .iter()
            .try_fold(self.table.forward(tokens)?, |xs, layer| layer.forward(&xs))?;
        self.head.forward(&self.norm.forward_t(&states, false)?)
    }
}

hypernetwork! {
    struct All for Net { embedding: table(9, 3), generator: linear, mode: static }

    struct Some for Net {
        roles: [
            ("layers.0.weight", lora(2, 4.)),
            ("layers.*.bias", shared),
            ("table.*", train),
            ("head.bias", generate),
            ("*", freeze),
        ],
        embedding: table(10, 3),
        generator: linear.conditioned(5),
        mode: dynamic,
    }

    struct Tasks for Net { embedding: tasks(2, 9, 3), generator: heads, mode: dynamic }
}

fn some() -> Some {
    // Biases that are shared have to be the same in the network to start from.
    let base = VarBuilder::zeros(DType::F32, device());
    Some::new_from(variables(2, DType::F32).1, base).unwrap()
}

fn row<'a>(rows: &'a [TensorSummary], name: &str) -> &'a TensorSummary {
    rows.iter().find(|row| row.name == name).unwrap()
}

fn sum(rows: &[TensorSummary]) -> usize {
    rows.iter().map(|row| row.num_params).sum()
}

#[test]
fn sums_are_those_of_layout_and_variables() {
    let hyper = All::new(variables(0, DType::F32).1).unwrap();
    let summary = hyper.summary();
    assert_eq!(
        (sum(summary.tensors()), summary.num_generated()),
        (Net::NUM_PARAMS, Net::NUM_PARAMS)
    );
    assert_eq!(
        (sum(summary.variables()), summary.num_trained()),
        (hyper.num_params(), hyper.num_params())
    );
    assert_eq!(summary.variables().len(), hyper.named_tensors().count());
    for rows in [summary.tensors(), summary.variables()] {
        assert!((rows.iter().map(|row| row.share).sum::<f64>() - 1.).abs() < 1e-12);
    }
}

/// Every generated value belongs to a row of the plan that the summary names for its tensor, and no other row does.
#[test]
fn rows_are_those_that_move_a_tensor() {
    let vars = VarMap::new();
    let vb = hypernn::seeded::var_builder(&vars, 0, DType::F32, device());
    let hyper = All::new(vb).unwrap();
    let summary = hyper.summary();
    let table = hypernn_tests::variable(&vars, "embedding.weight").unwrap();
    let before = hyper.generate_params().unwrap().detach();
    let start = table.as_tensor().copy().unwrap();
    for moved in 0..hyper.chunks().rows() {
        let step = Tensor::ones((1, 3), DType::F32, device()).unwrap();
        table
            .set(
                &start
                    .slice_assign(
                        &[moved..moved + 1, 0..3],
                        &(start.narrow(0, moved, 1).unwrap() + step).unwrap(),
                    )
                    .unwrap(),
            )
            .unwrap();
        let after = hyper.generate_params().unwrap();
        for ((info, old), (_, new)) in before.tensors().zip(after.tensors()) {
            let changed =
                (old - new).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap()
                    > 0.;
            let named = row(summary.tensors(), &info.name).rows.clone().unwrap().contains(&moved);
            assert_eq!(changed, named, "row {moved}, `{}`", info.name);
        }
    }
}

#[test]
fn every_role_has_its_rows() {
    let summary = some().summary();
    let of = |name| {
        let row = row(summary.tensors(), name);
        (row.role, row.num_params, row.same_as.as_deref())
    };
    assert_eq!(of("table.weight"), ("train", 60, None));
    assert_eq!(of("layers.0.weight"), ("freeze", 36, None));
    assert_eq!(of("layers.0.weight.lora_a"), ("lora", 12, None));
    assert_eq!(of("layers.0.weight.lora_b"), ("lora", 12, None));
    assert_eq!(of("layers.0.bias"), ("generate", 6, None));
    assert_eq!(of("layers.1.bias"), ("shared", 0, Some("layers.0.bias")));
    assert_eq!(of("layers.1.weight"), ("freeze", 36, None));
    assert_eq!(of("head.weight"), ("tied", 0, Some("table.weight")));
    assert_eq!(of("head.bias"), ("generate", 10, None));
    assert_eq!(of("norm.running_mean"), ("buffer", 0, None));
    assert_eq!(row(summary.tensors(), "layers.1.weight").rows, None);
    assert_eq!(summary.num_generated(), 12 + 12 + 6 + 10);
    assert_eq!(summary.num_of_role("freeze"), 36 + 36 + 6 + 6);
    let text = summary.to_string();
    assert!(text.contains("| layers.1.bias = layers.0.bias "), "{text}");
    assert!(text.contains("\nNet: 40 generated, 60 trained, 84 frozen\n"), "{text}");
}

#[test]
fn what_is_not_trained_counts_nothing() {
    let summary = some().summary();
    let trained = row(summary.variables(), "target.table.weight");
    assert_eq!((trained.role, trained.num_params), ("train", 60));
    let buffer = row(summary.variables(), "buffers.norm.running_var");
    assert_eq!((buffer.role, buffer.num_params), ("buffer", 0));
    let summary = All::new(variables(0, DType::F32).1).unwrap().summary();
    let base = row(summary.variables(), "base.norm.weight");
    assert_eq!((base.role, base.num_params), ("base", 0));
}

#[test]
fn a_table_is_as_wide_in_each_line() {
    let text = some().summary().to_string();
    for table in text.split("\n\n").take(2) {
        let widths: Vec<_> = table.lines().map(|line| line.chars().count()).collect();
        assert!(widths.len() > 3 && widths.iter().all(|width| *width == widths[0]), "{table}");
    }
}

#[test]
fn a_condition_is_drawn_to_the_part_that_takes_it() {
    let mermaid = some().summary().to_mermaid();
    assert!(
        mermaid.contains("condition[\"condition<br/>[G, 5], or [5] for one set\"]"),
        "{mermaid}"
    );
    assert!(
        mermaid.contains("condition --> generator") && !mermaid.contains("condition --> embedding")
    );
    let mermaid = Tasks::new(variables(0, DType::F32).1).unwrap().summary().to_mermaid();
    assert!(
        mermaid.contains("condition --> embedding") && !mermaid.contains("condition --> generator")
    );
    // One row feeds all: no arrow says which.
    assert!(mermaid.contains("chunks --> layer0") && !mermaid.contains("rows"), "{mermaid}");
}

#[test]
fn graphviz_gets_the_same_drawing() {
    let expected = "\
digraph {
    rankdir=LR
    node [shape=box]
    condition [label=\"condition\\n[G, 5], or [5] for one set\"]
    embedding [label=\"embedding\\ntable(10, 3)\"]
    generator [label=\"generator\\nlinear.conditioned(5)\"]
    chunks [label=\"10 chunks of 4\"]
    subgraph cluster_target {
        label=\"Net\"
        layer0 [label=\"table\\n60 trained\", style=dashed]
        layer1 [label=\"layers.0\\n30 generated\\n36 frozen\"]
        layer2 [label=\"layers.1\\n36 frozen\"]
        layer3 [label=\"norm\\n12 frozen\", style=dashed]
        layer4 [label=\"head\\n10 generated\"]
    }
    condition -> generator
    embedding -> generator
    generator -> chunks
    chunks -> layer1 [label=\"rows 0..8\"]
    chunks -> layer2 [label=\"rows 6..8\"]
    chunks -> layer4 [label=\"rows 7..10\"]
}
";
    assert_eq!(some().summary().to_dot(), expected);
}

#[test]
fn a_summary_is_written_by_serde() {
    let json = serde_json::to_value(some().summary()).unwrap();
    assert_eq!(json["tensors"][0]["name"], "table.weight");
    assert_eq!(json["tensors"][0]["rows"], serde_json::Value::Null);
    assert_eq!((&json["mode"], &json["chunks"]["rows"]), (&"dynamic".into(), &10.into()));
}

/// Two heads on a trunk.
#[derive(HyperTarget)]
#[hyper(sequential = [trunk, relu], input = (T, 6), output = (values = [value], [policy, softmax]))]
struct Heads {
    #[hyper(linear(6, 8))]
    trunk: Linear,
    #[hyper(linear(8, 1))]
    value: Linear,
    #[hyper(linear(8, 3))]
    policy: Linear,
}

hypernetwork! {
    struct OfHeads for Heads { embedding: tasks(2, 9, 3), generator: linear, mode: dynamic }
}

#[test]
fn the_steps_of_a_chain_come_first() {
    let summary = OfHeads::new(variables(0, DType::F32).1).unwrap().summary();
    let table = "\
| step of Heads |              | shape  |
|:--------------|:-------------|:-------|
| input         |              | [T, 6] |
| trunk         | linear(6, 8) | [T, 8] |
| relu          |              | [T, 8] |
| value         | linear(8, 1) | [T, 1] |
| policy        | linear(8, 3) | [T, 3] |
| softmax       |              | [T, 3] |
| values        | output       | [T, 1] |
| 1             | output       | [T, 3] |

| tensor of Heads |";
    assert!(summary.to_string().starts_with(table), "{summary}");
    let network = summary.network().unwrap();
    assert_eq!(Some(network), Heads::network(&()).as_ref());
    assert!(network.to_mermaid().contains("    n3 --> n6\n"));
    assert!(network.to_dot().contains("    n7 [label=\"1\\noutput\\n[T, 3]\"]\n    n5 -> n7\n"));
    // A forward by hand has no steps that anybody knows.
    assert!(some().summary().network().is_none());
}
