//! What a name in a chain stands for.

use proc_macro2::TokenTree;
use quote::ToTokens;
use syn::ext::IdentExt;
use syn::{Ident, Member};

use super::super::field::{Field, member_name, same, same_member};
use super::parse::words;
use crate::attr::similar;

/// The steps without parameters that a chain knows by name alone, as in `hypernn::nn::step`.
const PLAIN_STEPS: &[&str] = &[
    "relu",
    "gelu",
    "silu",
    "tanh",
    "sigmoid",
    "softmax",
    "log_softmax",
    "flatten",
    "merge_heads",
    "global_avg_pool2d",
];

/// Those that have settings: `mean(0)` is a step, and `mean` may be a value.
const SET_STEPS: &[&str] = &[
    "dropout",
    "flatten_from",
    "reshape",
    "permute",
    "take",
    "mean",
    "split_heads",
    "rotary",
    "max_pool2d",
    "avg_pool2d",
    "upsample2d",
    "func",
];

pub(super) fn is_step(name: &str) -> bool {
    PLAIN_STEPS.contains(&name) || SET_STEPS.contains(&name)
}

/// What stands behind a name.
pub(super) enum Found {
    /// The field of this number.
    Field(usize),
    /// A step without parameters.
    Step,
    /// The value of this number: an input, or what a step gave.
    Value(usize),
    Nothing,
}

/// The names that are known so far.
pub(super) struct Names<'a> {
    fields: &'a [Field],
    values: Vec<Kept>,
    /// Values, also those whose names are no longer known.
    count: usize,
    unused: Vec<Ident>,
    /// Names that values can't have.
    refused: Vec<Ident>,
    /// Whether a value was asked for that there is not, which may be one that nothing takes.
    missed: bool,
}

/// A value with a name.
struct Kept {
    name: Ident,
    value: usize,
    used: bool,
}

impl<'a> Names<'a> {
    pub(super) fn new(fields: &'a [Field]) -> Self {
        Self {
            fields,
            values: Vec::new(),
            count: 0,
            unused: Vec::new(),
            refused: Vec::new(),
            missed: false,
        }
    }

    pub(super) fn find(&mut self, member: &Member) -> Found {
        let field = self.fields.iter().position(|field| same_member(&field.member, member));
        if let Some(i) = field {
            return Found::Field(i);
        }
        let value = match member {
            Member::Named(name) => self.value(name),
            Member::Unnamed(_) => None,
        };
        match value {
            Some(value) => Found::Value(value),
            None if is_step(&member_name(member)) => Found::Step,
            None => Found::Nothing,
        }
    }

    /// The value of this name, which is then used.
    pub(super) fn value(&mut self, name: &Ident) -> Option<usize> {
        let kept = self.values.iter_mut().find(|kept| same(&kept.name, name))?;
        kept.used = true;
        Some(kept.value)
    }

    /// An input that nothing names.
    pub(super) fn no_name(&mut self) -> usize {
        self.count += 1;
        self.count - 1
    }

    pub(super) fn keep(&mut self, name: &Ident) -> usize {
        let value = self.no_name();
        self.values.push(Kept { name: name.clone(), value, used: false });
        value
    }

    /// What a chain goes on from is used.
    pub(super) fn use_value(&mut self, value: Option<usize>) {
        let kept = self.values.iter_mut().find(|kept| Some(kept.value) == value);
        kept.into_iter().for_each(|kept| kept.used = true);
    }

    /// A value whose name it can't have.
    pub(super) fn keep_refused(&mut self, name: &Ident) -> usize {
        self.refused.push(name.clone());
        self.no_name()
    }

    /// Whether this was to be the name of a value, so that nothing more is to be said of it.
    pub(super) fn is_refused(&self, member: &Member) -> bool {
        let Member::Named(name) = member else { return false };
        self.refused.iter().any(|refused| same(refused, name))
    }

    /// Why a value can't have this name, if it can't.
    pub(super) fn refused(&self, name: &Ident) -> Option<String> {
        let text = name.unraw().to_string();
        if self.fields.iter().any(|field| member_name(&field.member) == text) {
            return Some(format!("`{text}` is a field: a value has another name"));
        }
        if PLAIN_STEPS.contains(&text.as_str()) || words().any(|word| word == text) {
            return Some(format!("`{text}` is a step: a value has another name"));
        }
        let twice = self.values.iter().any(|kept| same(&kept.name, name));
        twice.then(|| format!("`{text}` is already the name of a value"))
    }

    /// Names from here on are known up to where the scope is left.
    pub(super) fn scope(&self) -> usize {
        self.values.len()
    }

    pub(super) fn leave(&mut self, scope: usize) {
        let left = self.values.drain(scope..);
        self.unused.extend(left.filter(|kept| !kept.used).map(|kept| kept.name));
    }

    /// The names that nothing took, and what to say of them.
    pub(super) fn unused(&mut self) -> Vec<(Ident, String)> {
        self.leave(0);
        if self.missed {
            return Vec::new();
        }
        let message = |name: Ident| {
            let text = format!(
                "no step takes `{name}`: a value with a name stands in a later step, `add({name})`, `concat(0, {name})`, or in `output`"
            );
            (name, text)
        };
        self.unused.drain(..).map(message).collect()
    }

    pub(super) fn no_such_step(&mut self, name: &str) -> String {
        self.missed = true;
        match self.similar(name, &[PLAIN_STEPS, SET_STEPS].concat()) {
            Some(similar) => {
                format!("there is no field or step `{name}`; did you mean `{similar}`?")
            }
            None => format!(
                "there is no field or step `{name}`: a step of your own is written as a call, or by its path: `self::{name}`"
            ),
        }
    }

    pub(super) fn no_such_value(&mut self, name: &str) -> String {
        self.missed = true;
        match self.similar(name, &[]) {
            Some(similar) => format!("there is no value `{name}`; did you mean `{similar}`?"),
            None => format!(
                "there is no value `{name}` yet: an earlier step gives it its name, `{name} = [conv, relu]`, or `input = (x: (1, 28, 28), {name}: (10))`"
            ),
        }
    }

    /// A name that may have been meant, of a field, a value or one of `others`.
    fn similar(&self, name: &str, others: &[&str]) -> Option<String> {
        let fields = self.fields.iter().map(|field| member_name(&field.member));
        let values = self.values.iter().map(|kept| kept.name.unraw().to_string());
        let names: Vec<_> = fields.chain(values).collect();
        let known: Vec<_> =
            names.iter().map(String::as_str).chain(others.iter().copied()).collect();
        similar(name, &known).map(str::to_owned)
    }
}

/// The name by which a message speaks of a step.
pub(super) fn last_name(step: &impl ToTokens) -> String {
    let idents = step.to_token_stream().into_iter().filter_map(|tree| match tree {
        TokenTree::Ident(ident) => Some(ident.unraw().to_string()),
        _ => None,
    });
    idents.last().unwrap_or_else(|| "step".to_owned())
}
