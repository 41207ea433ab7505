//! A forward as a graph of its steps, with the shape that each gives.

use std::fmt::{Display, Formatter, Result, Write};

use super::drawing::{for_mermaid, quoted};
use super::{Chain, SampleShape};

/// The steps of a [chain](crate::flow), as [`HyperTarget::network`](crate::HyperTarget::network) gives them.
///
/// Printed, it is a table: each step, what it is, and the shape that one sample has behind it.
///
/// ```
/// use hypernn::HyperTarget;
/// use hypernn::nn::{Conv2d, Linear};
///
/// #[derive(HyperTarget)]
/// #[hyper(sequential = [conv, relu, flatten, fc], input = (1, 8, 8))]
/// struct Net {
///     #[hyper(conv2d(1, 4, 3))]
///     conv: Conv2d,
///     #[hyper(linear(4 * 6 * 6, 10))]
///     fc: Linear,
/// }
///
/// # fn main() -> Result<(), &'static str> {
/// let network = Net::network(&()).ok_or("a chain")?;
/// let table = "\
/// input                           [1, 8, 8]
/// conv     conv2d(1, 4, 3)        [4, 6, 6]
/// relu                            [4, 6, 6]
/// flatten                         [144]
/// fc       linear(4 * 6 * 6, 10)  [10]
/// ";
/// assert_eq!(network.to_string(), table);
/// let drawing = "\
/// digraph {
///     node [shape=box]
///     n0 [label=\"input\\n[1, 8, 8]\"]
///     n1 [label=\"conv\\nconv2d(1, 4, 3)\\n[4, 6, 6]\"]
///     n0 -> n1
///     n2 [label=\"relu\\n[4, 6, 6]\"]
///     n1 -> n2
///     n3 [label=\"flatten\\n[144]\"]
///     n2 -> n3
///     n4 [label=\"fc\\nlinear(4 * 6 * 6, 10)\\n[10]\"]
///     n3 -> n4
/// }
/// ";
/// assert_eq!(network.to_dot(), drawing);
/// assert!(network.to_mermaid().starts_with("flowchart TD\n"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    nodes: Vec<Node>,
    inputs: usize,
    outputs: Vec<SampleShape>,
}

/// An input, a step, or one of several outputs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Node {
    /// The name of the field, the step, the input or the output.
    pub name: &'static str,
    /// What the field is, as its attribute says it; nothing of a step or an input, `output` of an output.
    pub what: &'static str,
    /// The numbers of the nodes whose values it takes, in their order.
    pub inputs: Vec<usize>,
    /// The shape of one sample behind it, as far as it is known. Of steps that are repeated, the last one's.
    pub shape: SampleShape,
}

/// A node as the derive writes it.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct NodeAt {
    pub name: &'static str,
    pub what: &'static str,
    pub inputs: &'static [usize],
    pub place: NodePlace,
}

/// Where the shape of a node is.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub enum NodePlace {
    Input(usize),
    Step(usize),
    Output(usize),
}

impl Network {
    /// The nodes with their shapes.
    #[doc(hidden)]
    pub fn of<const N: usize, const INPUTS: usize, const OUTPUTS: usize>(
        chain: &Chain<N, INPUTS, OUTPUTS>,
        nodes: &[NodeAt],
    ) -> Self {
        let node = |at: &NodeAt| Node {
            name: at.name,
            what: at.what,
            inputs: at.inputs.to_vec(),
            shape: match at.place {
                NodePlace::Input(number) => chain.input_shape(number),
                NodePlace::Step(place) => chain.shape_given(place),
                NodePlace::Output(number) => chain.output_shape(number),
            },
        };
        let inputs = nodes.iter().filter(|at| matches!(at.place, NodePlace::Input(_))).count();
        let outputs = nodes.iter().filter(|at| matches!(at.place, NodePlace::Output(_))).count();
        let outputs = (0..outputs.max(1)).map(|number| chain.output_shape(number)).collect();
        Self { nodes: nodes.iter().map(node).collect(), inputs, outputs }
    }

    /// The shape of one sample of each input.
    pub fn input_shapes(&self) -> Vec<SampleShape> {
        self.nodes[..self.inputs].iter().map(|node| node.shape).collect()
    }

    /// The shape of one sample that the forward gives; of several outputs, the first one's.
    pub fn output_shape(&self) -> SampleShape {
        self.outputs[0]
    }

    /// The shape of one sample of each output.
    pub fn output_shapes(&self) -> &[SampleShape] {
        &self.outputs
    }

    /// The inputs, then the steps in the order in which they are computed, then the outputs where there are several.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// A drawing in the language of [Mermaid](https://mermaid.js.org), which Markdown on GitHub shows in a block
    /// with the word `mermaid`.
    pub fn to_mermaid(&self) -> String {
        let mut text = String::from("flowchart TD\n");
        for (i, node) in self.nodes.iter().enumerate() {
            let lines: Vec<_> = node.lines().iter().map(|line| for_mermaid(line)).collect();
            text.push_str(&format!("    n{i}[\"{}\"]\n", lines.join("<br/>")));
            let arrows = node.inputs.iter().map(|input| format!("    n{input} --> n{i}\n"));
            text.extend(arrows);
        }
        text
    }

    /// The drawing of [`to_mermaid`](Self::to_mermaid) in the language of Graphviz: `dot -Tsvg`.
    pub fn to_dot(&self) -> String {
        let mut text = String::from("digraph {\n    node [shape=box]\n");
        for (i, node) in self.nodes.iter().enumerate() {
            text.push_str(&format!("    n{i} [label={}]\n", quoted(&node.lines().join("\n"))));
            text.extend(node.inputs.iter().map(|input| format!("    n{input} -> n{i}\n")));
        }
        text.push_str("}\n");
        text
    }

    /// The longest text of each column.
    fn widths(&self) -> (usize, usize) {
        let longest = |text: fn(&Node) -> &str| {
            self.nodes.iter().map(|node| text(node).chars().count()).max().unwrap_or(0)
        };
        (longest(|node| node.name), longest(|node| node.what))
    }
}

impl Node {
    /// What stands in its box.
    fn lines(&self) -> Vec<String> {
        let lines = [self.name, self.what].into_iter().filter(|line| !line.is_empty());
        lines.map(str::to_owned).chain([self.shape.to_string()]).collect()
    }
}

impl Display for Network {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let (names, whats) = self.widths();
        for Node { name, what, shape, .. } in &self.nodes {
            write!(f, "{name:names$}  {what:whats$}  {shape}")?;
            f.write_char('\n')?;
        }
        Ok(())
    }
}
