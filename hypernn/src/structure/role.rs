//! Roles: which of a target's tensors are generated, trained, frozen, shared or adapted.
//!
//! A role stands at a field, `#[hyper(linear(64, 10), role = freeze)]`, where it holds for all that is
//! below, also in a target in the target; or it is given by name for any target, in `hypernetwork!`:
//!
//! ```text
//! roles: [("head.*", generate), ("*", freeze)],                              // only a head
//! roles: [("*.bias", generate), ("*norm*.weight", generate), ("*", freeze)], // only biases and gains
//! ```
//!
//! `*` stands for any characters, dots included. The first pattern that matches a tensor's name says
//! its role; where none does, its field's role stands, and that is `generate` where it has none. A
//! pattern that decides nothing is an error.
//!
//! ```
//! use candle_core::{DType, Device, Module, Result, Tensor};
//! use hypernn::nn::{Linear, VarBuilder, VarMap};
//! use hypernn::{HyperTarget, hypernetwork};
//!
//! #[derive(HyperTarget)]
//! struct Net {
//!     #[hyper(linear(4, 8))]
//!     trunk: Linear,
//!     #[hyper(linear(8, 2))]
//!     head: Linear,
//! }
//!
//! impl Module for Net {
//!     fn forward(&self, xs: &Tensor) -> Result<Tensor> {
//!         self.head.forward(&self.trunk.forward(xs)?.relu()?)
//!     }
//! }
//!
//! hypernetwork! {
//!     struct HyperHead for Net {
//!         roles: [("head.weight", generate), ("head.bias", train), ("*", freeze)],
//!         embedding: table(4, 3),
//!         generator: linear,
//!         mode: static,
//!     }
//! }
//!
//! # fn main() -> Result<()> {
//! let trained = VarMap::new();
//! let net = Net::new(VarBuilder::from_varmap(&trained, DType::F32, &Device::Cpu))?;
//!
//! let vars = VarMap::new();
//! let vb = VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu);
//! let pretrained = VarBuilder::from_varmap(&trained, DType::F32, &Device::Cpu);
//! let hyper = HyperHead::new_from(vb, pretrained)?;
//! // Sixteen weights are generated: four embeddings of width 3, and (3 + 1) × 4 for the generator.
//! // The bias has two values of its own.
//! assert_eq!(hyper.num_target_params(), 16);
//! assert_eq!(hyper.num_params(), 12 + 16 + 2);
//! // It starts as the network that it was given.
//! let xs = Tensor::randn(0f32, 1., (5, 4), &Device::Cpu)?;
//! assert_eq!(hyper.forward(&xs)?.to_vec2::<f32>()?, net.forward(&xs)?.to_vec2::<f32>()?);
//! # Ok(())
//! # }
//! ```

use candle_core::Result;

use crate::files::nearest;

/// What becomes of one of a target's tensors.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Role {
    /// It comes from the generator, the default.
    #[default]
    Generate,
    /// It is a variable of its own, `target.NAME` in the hypernetwork's builder, and the same for all
    /// weight sets.
    Train,
    /// It is that of a [pretrained network](crate::Pretrained), gets no gradient and is the same for
    /// all weight sets. Checkpoints hold a hash of it, not its values.
    Freeze,
    /// It is one tensor with all others that the same pattern matches, generated once. They have one
    /// shape; the first in the layout gives the tensor its name.
    Shared,
    /// It is frozen, and a difference of low rank is generated; see [`adapter`](super::adapter).
    Lora {
        /// The rank of the difference.
        rank: usize,
        /// The difference is multiplied by `alpha / rank`.
        alpha: f64,
        #[cfg_attr(feature = "serde", serde(default))]
        /// In training, the part of the difference's input that is dropped.
        dropout: f32,
    },
}

impl Role {
    /// The name used in declarations, layouts and files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Generate => "generate",
            Self::Train => "train",
            Self::Freeze => "freeze",
            Self::Shared => "shared",
            Self::Lora { .. } => "lora",
        }
    }

    /// The rank of the low-rank adapter, 0 where there is none.
    pub const fn rank(self) -> usize {
        match self {
            Self::Lora { rank, .. } => rank,
            _ => 0,
        }
    }
}

/// The roles as they are written in `roles: […]` and after `role =`.
#[allow(non_upper_case_globals)]
pub mod spec {
    use super::Role;

    /// The role of a tensor that the generator makes: [`Role::Generate`].
    pub const generate: Role = Role::Generate;

    /// The role of a tensor that is trained itself: [`Role::Train`].
    pub const train: Role = Role::Train;

    /// The role of a tensor that stays as it is: [`Role::Freeze`].
    pub const freeze: Role = Role::Freeze;

    /// The role of tensors that are one generated tensor: [`Role::Shared`].
    pub const shared: Role = Role::Shared;

    /// The role of a frozen tensor with a generated low-rank adapter: [`Role::Lora`], without dropout.
    pub const fn lora(rank: usize, alpha: f64) -> Role {
        lora_dropout(rank, alpha, 0.)
    }

    /// The role of a frozen tensor with a generated low-rank adapter: [`Role::Lora`], with dropout.
    pub const fn lora_dropout(rank: usize, alpha: f64, dropout: f32) -> Role {
        Role::Lora { rank, alpha, dropout }
    }
}

/// Whether a name is of this pattern, in which `*` stands for any characters.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(tail) = name.strip_prefix(head) else { return false };
    tail.char_indices().any(|(at, _)| matches(rest, &tail[at..])) || matches(rest, "")
}

/// Roles by pattern.
#[derive(Default)]
pub(crate) struct Roles {
    patterns: Vec<(String, Role)>,
    decided: Vec<bool>,
}

impl Roles {
    pub(crate) fn new(patterns: &[(String, Role)]) -> Self {
        Self { decided: vec![false; patterns.len()], patterns: patterns.to_vec() }
    }

    /// The role of the first pattern that matches, and that pattern's number.
    pub(crate) fn of(&mut self, name: &str) -> Option<(usize, Role)> {
        let number = self.patterns.iter().position(|(pattern, _)| matches(pattern, name))?;
        self.decided[number] = true;
        Some((number, self.patterns[number].1))
    }

    /// Every pattern has decided something, of tensors of these names.
    pub(crate) fn finish(&self, names: &[&str]) -> Result<()> {
        let idle = self.patterns.iter().zip(&self.decided).find(|(_, decided)| !**decided);
        let Some(((pattern, role), _)) = idle else { return Ok(()) };
        let idle = format!("role `{}` of \"{pattern}\"", role.name());
        if let Some(name) = names.iter().find(|name| matches(pattern, name)) {
            crate::error::bail!(
                declaration,
                "{idle}: no tensor of the target has a name of this pattern that no pattern before it has; `{name}` has an earlier one"
            );
        }
        let near = nearest(pattern, names.iter().copied());
        crate::error::bail!(
            declaration,
            "{idle}: no tensor of the target has a name of this pattern that no pattern before it has; the nearest names are {near}"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_any_characters() {
        let yes = [("*", ""), ("*", "a.b"), ("a", "a"), ("a.*", "a."), ("*.bias", "a.b.bias")];
        let more = [("*a*a", "aaa"), ("layer.*.q*", "layer.10.query"), ("é*", "éé"), ("**", "x")];
        for (pattern, name) in yes.into_iter().chain(more) {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("", "a"),
            ("a", "ab"),
            ("a.*", "a"),
            ("*.bias", "bias"),
            ("*a*a", "a"),
            ("a*b", "abc"),
        ] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn the_first_pattern_decides() {
        let patterns = [("a.*", Role::Train), ("*", Role::Freeze), ("b", Role::Shared)];
        let mut roles = Roles::new(&patterns.map(|(pattern, role)| (pattern.to_owned(), role)));
        assert_eq!(roles.of("a.b"), Some((0, Role::Train)));
        assert_eq!(roles.of("b"), Some((1, Role::Freeze)));
        let message =
            roles.finish(&["a.b", "b"]).map_err(|err| err.to_string()).err().unwrap_or_default();
        assert_eq!(
            message.lines().next(),
            Some(
                "role `shared` of \"b\": no tensor of the target has a name of this pattern that no pattern before it has; `b` has an earlier one"
            )
        );
    }
}
