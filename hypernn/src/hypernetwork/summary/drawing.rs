//! A summary as a drawing: the way from condition and embedding to the layers of the target.

use std::fmt::Write;
use std::ops::Range;

use super::table::grouped;
use super::{Summary, TensorSummary};
use crate::condition::Condition;
use crate::flow::drawing::{for_mermaid, quoted};

/// With more layers than this, those below one path are drawn as one.
const MOST_LAYERS: usize = 24;

/// A box: its lines of text, and whether nothing in it is generated.
struct Node {
    id: String,
    lines: Vec<String>,
    kept: bool,
}

struct Arrow {
    from: &'static str,
    to: String,
    label: Option<String>,
}

/// The boxes before the target, those in it, and what leads where.
struct Drawing {
    parts: Vec<Node>,
    layers: Vec<Node>,
    arrows: Vec<Arrow>,
}

impl Summary {
    /// The drawing in Mermaid's language, which GitHub, GitLab, mdBook's plug-ins and notebooks show: the condition,
    /// the embedding, the generator, the chunks, and which rows feed which layer of the target. Layers in which
    /// nothing is generated have a dashed line. A target of more than 24 layers is drawn by the modules that they
    /// belong to.
    ///
    /// ```
    /// # use candle_core::{DType, Device, Result};
    /// # use hypernn::nn::{Linear, VarBuilder, VarMap};
    /// # use hypernn::{HyperTarget, hypernetwork};
    /// # #[derive(HyperTarget)]
    /// # #[hyper(sequential = [hidden, relu, out], input = 64)]
    /// # struct Net {
    /// #     #[hyper(linear(64, 64))]
    /// #     hidden: Linear,
    /// #     #[hyper(linear(64, 10))]
    /// #     out: Linear,
    /// # }
    /// # hypernetwork! { struct HyperNet for Net { embedding: table(37, 8), generator: linear, mode: static } }
    /// # fn main() -> Result<()> {
    /// let hyper = HyperNet::new(VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu))?;
    /// let expected = r#"flowchart LR
    ///     embedding["embedding<br/>table(37, 8)"]
    ///     generator["generator<br/>linear"]
    ///     chunks["37 chunks of 130"]
    ///     subgraph target["Net"]
    ///         layer0["hidden<br/>4,160 generated"]
    ///         layer1["out<br/>650 generated"]
    ///     end
    ///     embedding --> generator
    ///     generator --> chunks
    ///     chunks -->|"rows 0..32"| layer0
    ///     chunks -->|"rows 32..37"| layer1
    /// "#;
    /// assert_eq!(hyper.summary().to_mermaid(), expected);
    /// # Ok(())
    /// # }
    /// ```
    pub fn to_mermaid(&self) -> String {
        let drawing = self.drawing();
        let mut text = String::from("flowchart LR\n");
        let mut line = |indent: usize, content: &str| {
            let _ = writeln!(text, "{}{content}", "    ".repeat(indent));
        };
        drawing.parts.iter().for_each(|node| line(1, &node.mermaid()));
        line(1, &format!("subgraph target[\"{}\"]", for_mermaid(&self.target)));
        drawing.layers.iter().for_each(|node| line(2, &node.mermaid()));
        line(1, "end");
        drawing.arrows.iter().for_each(|arrow| line(1, &arrow.mermaid()));
        if drawing.layers.iter().any(|node| node.kept) {
            line(1, "classDef kept stroke-dasharray: 4");
        }
        text
    }

    /// The drawing of [`to_mermaid`](Self::to_mermaid) in the language of Graphviz: `dot -Tsvg`.
    pub fn to_dot(&self) -> String {
        let drawing = self.drawing();
        let mut text = String::from("digraph {\n");
        let mut line = |indent: usize, content: &str| {
            let _ = writeln!(text, "{}{content}", "    ".repeat(indent));
        };
        line(1, "rankdir=LR");
        line(1, "node [shape=box]");
        drawing.parts.iter().for_each(|node| line(1, &node.dot()));
        line(1, "subgraph cluster_target {");
        line(2, &format!("label={}", quoted(&self.target)));
        drawing.layers.iter().for_each(|node| line(2, &node.dot()));
        line(1, "}");
        drawing.arrows.iter().for_each(|arrow| line(1, &arrow.dot()));
        line(0, "}");
        text
    }

    fn drawing(&self) -> Drawing {
        let mut drawing = Drawing { parts: Vec::new(), layers: Vec::new(), arrows: Vec::new() };
        self.draw_condition(&mut drawing);
        let (rows, chunk) = (self.chunks.rows(), self.chunks.chunk());
        drawing.part("embedding", &["embedding", &self.embedding]);
        drawing.part("generator", &["generator", &self.generator]);
        drawing.part("chunks", &[&format!("{} chunks of {}", grouped(rows), grouped(chunk))]);
        drawing.arrow("embedding", "generator", None);
        drawing.arrow("generator", "chunks", None);
        for (index, layer) in layers(&self.tensors).iter().enumerate() {
            let id = format!("layer{index}");
            // All of a target that is generated in one row comes from that row.
            let rows = layer
                .rows
                .as_ref()
                .map(|fed| (rows > 1).then(|| format!("rows {}..{}", fed.start, fed.end)));
            rows.into_iter().for_each(|label| drawing.arrow("chunks", &id, label));
            drawing.layers.push(layer.node(id));
        }
        drawing
    }

    fn draw_condition(&self, drawing: &mut Drawing) {
        let (embedding, generator) = self.conditions;
        let condition = embedding.join(generator);
        if condition == Condition::None {
            return;
        }
        drawing.part("condition", &["condition", &condition.form()]);
        for (taken, part) in [(embedding, "embedding"), (generator, "generator")] {
            if taken != Condition::None {
                drawing.arrow("condition", part, None);
            }
        }
    }
}

impl Drawing {
    fn part(&mut self, id: &str, lines: &[&str]) {
        let lines = lines.iter().map(|line| (*line).to_owned()).collect();
        self.parts.push(Node { id: id.to_owned(), lines, kept: false });
    }

    fn arrow(&mut self, from: &'static str, to: &str, label: Option<String>) {
        self.arrows.push(Arrow { from, to: to.to_owned(), label });
    }
}

/// Tensors below one path: how many values have which role, and the rows that feed them.
struct Layer {
    path: String,
    /// Generated, trained and frozen.
    counts: [usize; 3],
    rows: Option<Range<usize>>,
}

impl Layer {
    fn add(&mut self, tensor: &TensorSummary) {
        let at = match tensor.role {
            "train" => 1,
            "freeze" => 2,
            _ => 0,
        };
        self.counts[at] += tensor.num_params;
        self.rows = match (self.rows.take(), tensor.rows.clone()) {
            (Some(own), Some(more)) => Some(own.start.min(more.start)..own.end.max(more.end)),
            (own, more) => own.or(more),
        };
    }

    fn node(&self, id: String) -> Node {
        let counts = self.counts.iter().zip(["generated", "trained", "frozen"]);
        let counts = counts.filter(|(count, _)| **count > 0);
        let counts = counts.map(|(count, what)| format!("{} {what}", grouped(*count)));
        let lines = std::iter::once(self.path.clone()).chain(counts).collect();
        Node { id, lines, kept: self.rows.is_none() }
    }
}

/// The tensors by layer, or by the modules that have the layers where there are too many.
fn layers(tensors: &[TensorSummary]) -> Vec<Layer> {
    let depth = |tensor: &TensorSummary| tensor.layer.split('.').count();
    let deepest = tensors.iter().map(depth).max().unwrap_or(1);
    let by_depth = (1..=deepest).rev().map(|depth| layers_at(tensors, depth));
    let mut fewest = Vec::new();
    for layers in by_depth {
        fewest = layers;
        if fewest.len() <= MOST_LAYERS {
            break;
        }
    }
    fewest
}

/// The tensors by the first `depth` parts of their layers' paths.
fn layers_at(tensors: &[TensorSummary], depth: usize) -> Vec<Layer> {
    let mut layers: Vec<Layer> = Vec::new();
    for tensor in tensors {
        let path = tensor.layer.split('.').take(depth).collect::<Vec<_>>().join(".");
        let at = layers.iter().position(|layer| layer.path == path).unwrap_or_else(|| {
            layers.push(Layer { path, counts: [0; 3], rows: None });
            layers.len() - 1
        });
        layers[at].add(tensor);
    }
    layers
}

impl Node {
    fn mermaid(&self) -> String {
        let lines: Vec<_> = self.lines.iter().map(|line| for_mermaid(line)).collect();
        let class = if self.kept { ":::kept" } else { "" };
        format!("{}[\"{}\"]{class}", self.id, lines.join("<br/>"))
    }

    fn dot(&self) -> String {
        let style = if self.kept { ", style=dashed" } else { "" };
        format!("{} [label={}{style}]", self.id, quoted(&self.lines.join("\n")))
    }
}

impl Arrow {
    fn mermaid(&self) -> String {
        let Self { from, to, label } = self;
        match label {
            Some(label) => format!("{from} -->|\"{label}\"| {to}"),
            None => format!("{from} --> {to}"),
        }
    }

    fn dot(&self) -> String {
        let Self { from, to, label } = self;
        match label {
            Some(label) => format!("{from} -> {to} [label={}]", quoted(label)),
            None => format!("{from} -> {to}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(layer: &str, rows: Option<Range<usize>>) -> TensorSummary {
        let role = if rows.is_some() { "generate" } else { "freeze" };
        TensorSummary {
            name: format!("{layer}.weight"),
            shape: vec![2],
            role,
            rows,
            num_params: 2,
            share: 0.,
            same_as: None,
            layer: layer.to_owned(),
        }
    }

    #[test]
    fn many_layers_are_drawn_by_their_modules() {
        let tensors: Vec<_> = (0..40)
            .flat_map(|block| {
                let path = format!("model.{}.{block}.fc", block / 20);
                [tensor(&path, Some(block..block + 1)), tensor(&format!("{path}.inner"), None)]
            })
            .collect();
        let drawn = layers(&tensors);
        let drawn: Vec<_> = drawn.iter().map(|layer| (layer.path.as_str(), layer.counts)).collect();
        assert_eq!(drawn, [("model.0", [40, 0, 40]), ("model.1", [40, 0, 40])]);
        assert_eq!(layers(&tensors)[1].rows, Some(20..40));
    }

    #[test]
    fn few_layers_are_drawn_one_by_one() {
        let tensors = [tensor("a.b", Some(0..2)), tensor("a.c", None), tensor("a.b", Some(1..3))];
        let drawn = layers(&tensors);
        assert_eq!((drawn[0].path.as_str(), drawn[0].rows.clone()), ("a.b", Some(0..3)));
        assert_eq!((drawn[1].path.as_str(), drawn[1].rows.clone()), ("a.c", None));
    }

    #[test]
    fn signs_of_both_languages_are_escaped() {
        assert_eq!(for_mermaid("Net<\"a\"> #1"), "Net#lt;#quot;a#quot;#gt; #35;1");
        assert_eq!(quoted("a\\b \"c\"\nd"), r#""a\\b \"c\"\nd""#);
    }
}
