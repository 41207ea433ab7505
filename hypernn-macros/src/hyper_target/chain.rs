//! The chain of a `sequential` target: which field or step each of its names is.

use quote::ToTokens;
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{Expr, Ident, Member};

use super::call;
use super::field::{Field, FieldKind, member_name, same_member};
use super::parse::{Call, Layer, Step};
use crate::attr::similar;
use crate::report::Report;

/// The steps without parameters that a chain knows by name, as in `hypernn::nn::step`.
const STEPS: &[&str] = &[
    "relu",
    "gelu",
    "silu",
    "tanh",
    "sigmoid",
    "softmax",
    "log_softmax",
    "dropout",
    "flatten",
    "reshape",
    "max_pool2d",
    "avg_pool2d",
    "global_avg_pool2d",
    "func",
];

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
    /// The shape of one sample, where it is given.
    pub(crate) input: Option<Vec<Expr>>,
    pub(crate) links: Vec<Link>,
}

impl Chain {
    /// The steps as checkpoints name them: layers by their paths, steps without parameters by name, and
    /// `_` for values and steps of the user's own, which may go by another name next time.
    pub(crate) fn in_files(&self, fields: &[Field]) -> String {
        let name = |link: &Link| match link {
            Link::Field(i) => match fields[*i].kind {
                FieldKind::Layer { .. } => fields[*i].name.clone(),
                FieldKind::Value(_) => "_".to_owned(),
            },
            Link::Call(_, name) | Link::Value(_, name) if STEPS.contains(&name.as_str()) => {
                name.clone()
            }
            Link::Call(..) | Link::Value(..) => "_".to_owned(),
        };
        let steps: Vec<_> = self.links.iter().map(name).collect();
        format!("sequential, {}", steps.join(", "))
    }
}

/// One step of a chain.
pub(crate) enum Link {
    /// The field of this number.
    Field(usize),
    /// A step without parameters, and its name.
    Call(Call, String),
    Value(Expr, String),
}

/// Whether the key is that of a chain that may behave otherwise in training.
pub(crate) fn trains(key: &Ident) -> bool {
    key == "sequential_t"
}

/// Finds out what each step is.
pub(crate) fn check(
    raw: RawChain,
    input: Option<Vec<Expr>>,
    fields: &[Field],
    report: &mut Report,
) -> Chain {
    let RawChain { key, steps } = raw;
    let links = match steps {
        None => (0..fields.len()).map(Link::Field).collect(),
        Some(steps) => {
            let links: Vec<_> = steps.into_iter().map(|step| link(step, fields, report)).collect();
            let links: Option<Vec<_>> = links.into_iter().collect();
            // A misspelt field is not left out.
            links.inspect(|links| check_left_out(links, fields, report)).unwrap_or_default()
        }
    };
    Chain { train: trains(&key), input, links }
}

fn link(step: Step, fields: &[Field], report: &mut Report) -> Option<Link> {
    match step {
        Step::Name(member) => named(member, fields, report),
        Step::Call(call) => {
            let name = last_name(&call.func);
            if call.func.path.get_ident().is_some() && call::is_known(&name) {
                report.error(
                    &call.func,
                    format!("`{name}` has parameters: make it a field, and name that here"),
                );
            }
            Some(Link::Call(call, name))
        }
        Step::Value(value) => {
            let name = last_name(&value);
            Some(Link::Value(value, name))
        }
    }
}

fn named(member: Member, fields: &[Field], report: &mut Report) -> Option<Link> {
    if let Some(i) = fields.iter().position(|field| same_member(&field.member, &member)) {
        return Some(Link::Field(i));
    }
    let name = member_name(&member);
    if STEPS.contains(&name.as_str()) {
        let step = Ident::new(&name, member.span());
        let value = syn::parse_quote!(#step);
        return Some(Link::Value(value, name));
    }
    report.error(&member, no_such_step(&name, fields));
    None
}

fn no_such_step(name: &str, fields: &[Field]) -> String {
    let names: Vec<_> = fields.iter().map(|field| member_name(&field.member)).collect();
    let known: Vec<_> = names.iter().map(String::as_str).chain(STEPS.iter().copied()).collect();
    match similar(name, &known) {
        Some(similar) => format!("there is no field or step `{name}`; did you mean `{similar}`?"),
        None => format!(
            "there is no field or step `{name}`: a step of your own is written as a call, or by its path: `self::{name}`"
        ),
    }
}

/// The name by which a message speaks of a step.
fn last_name(step: &impl ToTokens) -> String {
    let idents = step.to_token_stream().into_iter().filter_map(|tree| match tree {
        proc_macro2::TokenTree::Ident(ident) => Some(ident.unraw().to_string()),
        _ => None,
    });
    idents.last().unwrap_or_else(|| "step".to_owned())
}

/// Parameters that the chain does not use would never be trained.
fn check_left_out(links: &[Link], fields: &[Field], report: &mut Report) {
    let used = |i: usize| links.iter().any(|link| matches!(link, Link::Field(j) if *j == i));
    for (i, field) in fields.iter().enumerate() {
        if matches!(field.kind, FieldKind::Layer { .. }) && !used(i) {
            report.error(&field.member, left_out(field));
        }
    }
}

fn left_out(field: &Field) -> String {
    let name = member_name(&field.member);
    let message =
        format!("field `{name}` is no step of the chain: its parameters would have no use");
    match &field.kind {
        FieldKind::Layer { layer: Layer::Target(_, None), .. } => format!(
            "{message}; a field without parameters says how to make it: `#[hyper(value = PhantomData)]`"
        ),
        _ => message,
    }
}

#[cfg(test)]
mod tests {
    use proc_macro2::TokenStream;
    use quote::quote;

    use super::super::{check, parse};
    use super::*;

    fn checked(on_struct: TokenStream) -> (Option<Chain>, Vec<String>) {
        let input = syn::parse_quote! {
            #[hyper(#on_struct)]
            struct S {
                #[hyper(linear(1, 2))]
                a: A,
                #[hyper(value = 0)]
                b: B,
                #[hyper(linear(1, 2))]
                relu: C,
            }
        };
        let mut report = Report::default();
        let raw = parse::parse(input, &mut report);
        let target = check::check(raw, &mut report);
        (target.chain, report.messages())
    }

    fn steps(on_struct: TokenStream) -> Vec<String> {
        let (chain, messages) = checked(on_struct);
        assert_eq!(messages, [""; 0]);
        let links = chain.map_or(Vec::new(), |chain| chain.links);
        let name = |link: &Link| match link {
            Link::Field(i) => format!("field {i}"),
            Link::Call(_, name) => format!("call {name}"),
            Link::Value(_, name) => format!("value {name}"),
        };
        links.iter().map(name).collect()
    }

    #[test]
    fn a_name_in_parentheses_is_that_name() {
        let plain = steps(quote!(sequential = [a, tanh, b, relu]));
        assert_eq!(steps(quote!(sequential = [(a), (tanh), (b), relu])), plain);
    }

    #[test]
    fn all_fields_in_order() {
        assert_eq!(steps(quote!(sequential)), ["field 0", "field 1", "field 2"]);
        assert_eq!(steps(quote!()), [""; 0]);
    }

    #[test]
    fn a_field_comes_before_a_step_of_its_name() {
        let found = steps(quote!(sequential = [relu, tanh, a, own::Step, own::step(1), a]));
        let expected = ["field 2", "value tanh", "field 0", "value Step", "call step", "field 0"];
        assert_eq!(found, expected);
    }

    #[test]
    fn the_key_tells_whether_training_matters() {
        let (chain, _) = checked(quote!(sequential_t, input = (1, _, N)));
        assert!(chain.as_ref().is_some_and(|chain| chain.train));
        assert_eq!(chain.and_then(|chain| chain.input).map_or(0, |sizes| sizes.len()), 3);
    }

    #[test]
    fn all_mistakes_of_a_chain_are_reported() {
        let (_, messages) =
            checked(quote!(sequential = [raa, linear(2, 3), relv], input = 1, input = 2));
        assert_eq!(
            messages,
            [
                "`input` is given twice",
                "there is no field or step `raa`: a step of your own is written as a call, or by its path: `self::raa`",
                "`linear` has parameters: make it a field, and name that here",
                "there is no field or step `relv`; did you mean `relu`?",
            ]
        );
        let (_, messages) = checked(quote!(sequential = [a]));
        assert_eq!(
            messages,
            ["field `relu` is no step of the chain: its parameters would have no use"]
        );
    }

    #[test]
    fn a_step_takes_no_attribute() {
        let (_, messages) = checked(quote!(
            sequential = [
                a,
                #[hyper]
                tanh,
                relu
            ]
        ));
        let form = "the form is `#[hyper(sequential = [conv, relu, flatten, fc])]`";
        assert_eq!(messages, [format!("a step of a chain takes no attribute; {form}")]);
    }
}
