//! The chain of a `sequential` target: which field, step or value each of its names is.

mod check;
mod names;
pub(crate) mod parse;

use proc_macro2::{Span, TokenStream};
use quote::ToTokens;
use syn::{Expr, Ident, Member};

use self::parse::{RawOutput, Step};
use super::field::{Field, FieldKind};
use super::parse::Call;
use super::spec;
use crate::span::{ends, shown_at};
use crate::tokens::{Found, idents};

pub(crate) use self::check::check;

/// A chain as it was written.
pub(crate) struct RawChain {
    /// `sequential` or `sequential_t`.
    pub(crate) key: Ident,
    /// In the fields' order where there are none.
    pub(crate) steps: Option<Vec<Step>>,
}

/// A chain whose steps are known.
pub(crate) struct Chain {
    /// Whether a step may behave otherwise in training.
    pub(crate) train: bool,
    /// At least one.
    pub(crate) inputs: Vec<Input>,
    pub(crate) block: Block,
    /// None where what the steps give is the only output, else at least two.
    pub(crate) outputs: Vec<Output>,
}

/// The most outputs: those of the longest tuple that is `Outputs`.
pub(crate) const MOST_OUTPUTS: usize = 12;

/// The key, and what follows it.
pub(crate) type RawOutputs = (Ident, Vec<RawOutput>);

/// One of several outputs.
pub(crate) struct Output {
    /// Its place in the tuple where it has no other name.
    pub(crate) name: String,
    /// What it is, behind the steps of the chain.
    pub(crate) operand: Operand,
}

/// One input of a chain.
pub(crate) struct Input {
    pub(crate) name: Option<Ident>,
    /// The shape of one sample, where it is given.
    pub(crate) sizes: Option<Vec<Expr>>,
}

/// Steps one after the other.
pub(crate) struct Block {
    /// What it begins with, where that is not the value before it.
    pub(crate) start: Option<Start>,
    pub(crate) links: Vec<Link>,
}

/// What a block begins with.
#[derive(Clone, Copy)]
pub(crate) enum Start {
    /// The value of this number.
    Kept(usize),
    /// The field of this number, a tensor.
    Tensor(usize),
}

/// One step of a chain.
pub(crate) enum Link {
    /// The field of this number.
    Field(usize),
    /// A step without parameters, and its name.
    Call(Call, String),
    Value(Expr, String),
    /// What has been computed so far is the value of this number.
    Keep(usize),
    Split(Split),
    Join(Join),
    Repeat(Box<Expr>, Block),
}

/// A target that gives several values. The chain goes on from the first.
pub(crate) struct Split {
    pub(crate) field: usize,
    /// The numbers of those that have a name.
    pub(crate) values: Vec<Option<usize>>,
    /// What the names begin and end with.
    pub(crate) ends: (Span, Span),
}

/// A step that takes several values.
pub(crate) struct Join {
    pub(crate) name: String,
    /// What it begins and ends with.
    pub(crate) ends: (Span, Span),
    pub(crate) joined: Joined,
    pub(crate) operands: Vec<Operand>,
}

/// What a field is used as.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Use {
    Step(Takes),
    /// A target that gives several values.
    Split,
    Tensor,
}

/// How many values a step takes.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Takes {
    One,
    /// A target with several inputs, or a step that joins.
    Several,
}

/// What takes the values.
pub(crate) enum Joined {
    /// A step as an expression.
    Step(TokenStream),
    /// A target with several inputs.
    Field(usize),
}

/// One of the values that a step takes.
pub(crate) enum Operand {
    /// What has been computed so far.
    Current,
    /// What a block makes of it.
    Block(Block, (Span, Span)),
    /// The value of this number.
    Kept(usize, Ident),
    /// A field with a tensor, for each sample the same.
    Tensor(usize, Member),
}

impl Operand {
    /// Whether it is made of what has been computed so far.
    fn begins_with_current(&self) -> bool {
        matches!(self, Self::Current | Self::Block(Block { start: None, .. }, _))
    }

    fn in_files(&self, fields: &[Field]) -> String {
        match self {
            Self::Current => "@".to_owned(),
            Self::Block(block, _) => format!("[{}]", block.in_files(fields)),
            Self::Kept(value, _) => format!("@{value}"),
            Self::Tensor(i, _) => field_in_files(&fields[*i]),
        }
    }

    fn expressions(&self) -> Vec<TokenStream> {
        match self {
            Self::Block(block, _) => block.expressions(),
            Self::Current | Self::Kept(..) | Self::Tensor(..) => Vec::new(),
        }
    }

    fn uses(&self) -> Vec<(usize, Use)> {
        match self {
            Self::Block(block, _) => block.uses(),
            Self::Tensor(i, _) => vec![(*i, Use::Tensor)],
            Self::Current | Self::Kept(..) => Vec::new(),
        }
    }

    /// Where it is written, if it is.
    pub(crate) fn ends(&self) -> Option<(Span, Span)> {
        match self {
            Self::Current => None,
            Self::Block(_, (open, close)) => Some((shown_at(*open), shown_at(*close))),
            Self::Kept(_, name) => Some(ends(name)),
            Self::Tensor(_, member) => Some(ends(member)),
        }
    }
}

impl Chain {
    /// The steps as checkpoints name them: layers by their paths, steps without parameters by name, and
    /// `_` for values and steps of the user's own, which may go by another name next time.
    pub(crate) fn in_files(&self, fields: &[Field]) -> String {
        let steps = self.block.in_files(fields);
        let outputs = self.outputs.iter().map(|output| output.operand.in_files(fields));
        match outputs.collect::<Vec<_>>() {
            outputs if outputs.is_empty() => format!("sequential, {steps}"),
            outputs => format!("sequential, {steps}, outputs({})", outputs.join(", ")),
        }
    }

    /// Where an expression of a step reads `config`.
    pub(crate) fn reads_config(&self) -> Vec<Ident> {
        let outputs = self.outputs.iter().flat_map(|output| output.operand.expressions());
        self.block.expressions().into_iter().chain(outputs).flat_map(config_reads).collect()
    }

    /// The fields that it uses, and as what.
    pub(crate) fn uses(&self) -> Vec<(usize, Use)> {
        let outputs = self.outputs.iter().flat_map(|output| output.operand.uses());
        self.block.uses().into_iter().chain(outputs).collect()
    }
}

impl Block {
    fn in_files(&self, fields: &[Field]) -> String {
        let start = self.start.map(|start| match start {
            Start::Kept(value) => format!("@{value}"),
            Start::Tensor(i) => field_in_files(&fields[i]),
        });
        let links = self.links.iter().map(|link| link.in_files(fields));
        start.into_iter().chain(links).collect::<Vec<_>>().join(", ")
    }

    /// The fields that it uses, and as what.
    pub(crate) fn uses(&self) -> Vec<(usize, Use)> {
        let start = match self.start {
            Some(Start::Tensor(i)) => Some((i, Use::Tensor)),
            Some(Start::Kept(_)) | None => None,
        };
        start.into_iter().chain(self.links.iter().flat_map(Link::uses)).collect()
    }

    /// The expressions of its steps.
    fn expressions(&self) -> Vec<TokenStream> {
        self.links.iter().flat_map(Link::expressions).collect()
    }

    /// How many of its steps compute something.
    pub(crate) fn computed(&self) -> usize {
        self.links.iter().filter(|link| !matches!(link, Link::Keep(..))).count()
    }
}

impl Link {
    fn in_files(&self, fields: &[Field]) -> String {
        match self {
            Self::Field(i) => field_in_files(&fields[*i]),
            Self::Call(_, name) | Self::Value(_, name) if names::is_step(name) => name.clone(),
            Self::Call(..) | Self::Value(..) => "_".to_owned(),
            Self::Keep(value) => format!("={value}"),
            Self::Split(split) => split.in_files(fields),
            Self::Repeat(_, block) => format!("repeat({})", block.in_files(fields)),
            Self::Join(join) => join.in_files(fields),
        }
    }

    fn uses(&self) -> Vec<(usize, Use)> {
        match self {
            Self::Field(i) => vec![(*i, Use::Step(Takes::One))],
            Self::Call(..) | Self::Value(..) | Self::Keep(..) => Vec::new(),
            Self::Split(split) => vec![(split.field, Use::Split)],
            Self::Repeat(_, block) => block.uses(),
            Self::Join(join) => join.uses(),
        }
    }

    fn expressions(&self) -> Vec<TokenStream> {
        match self {
            Self::Field(_) | Self::Keep(_) | Self::Split(_) => Vec::new(),
            Self::Call(call, _) => vec![spec::step(call)],
            Self::Value(value, _) => vec![value.to_token_stream()],
            Self::Repeat(count, block) => {
                [vec![count.to_token_stream()], block.expressions()].concat()
            }
            Self::Join(join) => {
                let own = match &join.joined {
                    Joined::Step(step) => vec![step.clone()],
                    Joined::Field(_) => Vec::new(),
                };
                let operands = join.operands.iter().flat_map(Operand::expressions);
                own.into_iter().chain(operands).collect()
            }
        }
    }
}

/// Each `config` among tokens that is no field, method or path of something else.
pub(crate) fn config_reads(tokens: TokenStream) -> impl Iterator<Item = Ident> {
    let read = |found: &Found| found.ident == "config" && !matches!(found.after, Some('.' | ':'));
    idents(tokens).into_iter().filter(read).map(|found| found.ident)
}

fn field_in_files(field: &Field) -> String {
    match field.kind {
        FieldKind::Layer { .. } => field.name.clone(),
        FieldKind::Value(_) => "_".to_owned(),
    }
}

impl Split {
    fn in_files(&self, fields: &[Field]) -> String {
        let value = |value: &Option<usize>| value.map_or("_".to_owned(), |value| value.to_string());
        let values: Vec<_> = self.values.iter().map(value).collect();
        format!("({})={}", values.join(", "), field_in_files(&fields[self.field]))
    }
}

impl Join {
    fn in_files(&self, fields: &[Field]) -> String {
        let name = match self.joined {
            Joined::Field(i) => field_in_files(&fields[i]),
            Joined::Step(_) if parse::words().any(|word| word == self.name) => self.name.clone(),
            Joined::Step(_) => "_".to_owned(),
        };
        let operands = self.operands.iter().map(|operand| operand.in_files(fields));
        format!("{name}({})", operands.collect::<Vec<_>>().join(", "))
    }

    fn uses(&self) -> Vec<(usize, Use)> {
        let own = match self.joined {
            Joined::Field(i) => vec![(i, Use::Step(Takes::Several))],
            Joined::Step(_) => Vec::new(),
        };
        let operands = self.operands.iter().flat_map(Operand::uses);
        own.into_iter().chain(operands).collect()
    }
}

/// Whether the key is that of a chain that may behave otherwise in training.
pub(crate) fn trains(key: &Ident) -> bool {
    key == "sequential_t"
}
