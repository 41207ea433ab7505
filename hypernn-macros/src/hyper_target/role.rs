//! The role of a field: what becomes of tensors that are not generated as they are.

use proc_macro2::{Ident, TokenStream, TokenTree};
use syn::ext::IdentExt;

use super::parse::{Layer, RawRole};
use crate::report::Report;

/// What becomes of a field's tensors that are not generated as they are.
pub(crate) enum Role {
    Train,
    Freeze,
    Lora(Lora),
}

/// The role of low-rank adapters, as it was written.
pub(crate) struct Lora {
    pub(crate) name: Ident,
    pub(crate) args: TokenStream,
    /// The first of the arguments.
    pub(crate) rank: TokenStream,
}

impl Lora {
    fn new(name: &Ident, args: &TokenStream) -> Self {
        let is_comma =
            |tree: &TokenTree| matches!(tree, TokenTree::Punct(punct) if punct.as_char() == ',');
        let rank = args.clone().into_iter().take_while(|tree| !is_comma(tree)).collect();
        Self { name: name.clone(), args: args.clone(), rank }
    }
}

/// What else the field's attribute says.
#[derive(Clone, Copy)]
pub(super) struct Holds<'a> {
    pub(super) layer: Option<&'a Layer>,
    pub(super) tied: bool,
}

/// A role of all that the field holds.
pub(super) fn check(raw: &RawRole, holds: Holds<'_>, report: &mut Report) -> Option<Role> {
    let RawRole { name: role, args } = raw;
    match (role.unraw().to_string().as_str(), args) {
        ("lora" | "lora_dropout", Some(args)) => {
            check_adapted(role, holds, report);
            Some(Role::Lora(Lora::new(role, args)))
        }
        (name @ ("lora" | "lora_dropout"), None) => {
            let form = if name == "lora" { "lora(8, 16.)" } else { "lora_dropout(8, 16., 0.1)" };
            report.error(role, format!("`{name}` needs its arguments: `role = {form}`"));
            None
        }
        (name @ ("train" | "freeze" | "generate" | "shared"), Some(_)) => {
            report.error(role, format!("the role `{name}` takes no arguments"));
            None
        }
        (name, _) => plain_role(role, name, report),
    }
}

/// What has low-rank adapters must have tensors of its own, whose number is known.
fn check_adapted(role: &Ident, holds: Holds<'_>, report: &mut Report) {
    if holds.tied {
        report.error(role, "`tie` and a low-rank adapter don't go together: the weight that is adapted is another field's");
    }
    if !holds.layer.is_some_and(is_own) {
        report.error(role, "a target in the target has low-rank adapters by name: in `hypernetwork!`, `roles: [(\"field.*.weight\", lora(8, 16.))]`");
    }
}

/// Whether all of it are layers, and no targets.
fn is_own(layer: &Layer) -> bool {
    match layer {
        Layer::Call(_) => true,
        Layer::Target(..) => false,
        Layer::Repeat(layer, _) | Layer::When(_, layer) => is_own(layer),
        Layer::List(layers) => layers.iter().all(is_own),
    }
}

fn plain_role(role: &Ident, name: &str, report: &mut Report) -> Option<Role> {
    match name {
        "train" => Some(Role::Train),
        "freeze" => Some(Role::Freeze),
        "generate" => {
            report
                .error(role, "every field has the role `generate` that has no other: leave it out");
            None
        }
        "shared" => {
            report.error(role, "fields share a tensor by `tie(weight = field.weight)`; the role `shared` is for names, in `hypernetwork!`: `roles: [(\"layers.*.weight\", shared)]`");
            None
        }
        other => {
            report.error(
                role,
                format!("unknown role `{other}`: a field has `train`, `freeze` or `lora(8, 16.)`"),
            );
            None
        }
    }
}
