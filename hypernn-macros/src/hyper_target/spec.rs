//! The expressions that a field's layer becomes: its spec, its count, its checks.
//!
//! A method that takes `&self` is called on a reference: on a value, a trait of the user's with a method
//! of that name by value, `impl<T> Check for T { fn check(self) }`, would come first.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::Expr;
use syn::spanned::Spanned;

use super::call;
use super::parse::{Call, Layer};
use crate::span::{ends, shown_at};

/// The layer's spec as an expression.
pub(crate) fn spec(layer: &Layer) -> TokenStream {
    match layer {
        Layer::Call(call) => call_spec(call),
        Layer::Target(_, None) => quote!(__p::NestedSpec(())),
        Layer::Target(_, Some(config)) => quote!(__p::NestedSpec(#config)),
        Layer::Repeat(layer, count) => {
            let spec = spec(layer);
            quote!(__p::Repeat { spec: #spec, count: #count })
        }
        Layer::List(layers) => {
            let specs = layers.iter().map(spec);
            quote!([#(#specs),*])
        }
        Layer::When(condition, layer) => {
            let (spec, option) = (spec(layer), quote!(__p::Option));
            quote!(if #condition { #option::Some(#spec) } else { #option::None })
        }
    }
}

/// A constructor's spec as an expression; its name is known by the import around all generated code.
pub(crate) fn call_spec(call: &Call) -> TokenStream {
    call::lower(call).spec
}

/// A step between the fields of a chain, as an expression.
pub(crate) fn step(call: &Call) -> TokenStream {
    among_steps(&call.func, &call::lower(call).spec)
}

/// A chain's step that is not a call: a name that is known, or the user's own path.
pub(crate) fn step_value(value: &Expr) -> TokenStream {
    match value {
        Expr::Path(path) if path.path.get_ident().is_some() => {
            quote_spanned!(ends(value).0=> __p::step::#value)
        }
        _ => value.to_token_stream(),
    }
}

/// A block whose glob import makes the steps' names known, whatever is imported around.
fn among_steps(shown: &impl ToTokens, step: &TokenStream) -> TokenStream {
    let (span, _) = ends(shown);
    quote_spanned!(span=> {
        use __p::step::*;
        #step
    })
}

/// Where a call begins.
fn span(call: &Call) -> Span {
    shown_at(call.func.span())
}

/// The specs with candle's configurations as they were written.
pub(crate) fn configs(layer: &Layer) -> Vec<TokenStream> {
    calls(layer).into_iter().filter_map(|call| call::lower(call).config).collect()
}

/// How many layers a list or repetition has.
pub(crate) fn len(layer: &Layer) -> Option<TokenStream> {
    match layer {
        Layer::Repeat(_, count) => Some(count.to_token_stream()),
        Layer::List(layers) => Some(layers.len().to_token_stream()),
        Layer::Call(_) | Layer::Target(..) | Layer::When(..) => None,
    }
}

fn calls(layer: &Layer) -> Vec<&Call> {
    match layer {
        Layer::Call(call) => vec![call],
        Layer::Target(..) => Vec::new(),
        Layer::Repeat(layer, _) | Layer::When(_, layer) => calls(layer),
        Layer::List(layers) => layers.iter().flat_map(calls).collect(),
    }
}

/// Whether the layer is built of calls alone, which are constants where the target has no configuration.
pub(crate) fn is_constant(layer: &Layer) -> bool {
    !calls(layer).is_empty() && !passes_config(layer)
}

/// Whether the layer's number of parameters depends on the value of a nested configuration.
pub(crate) fn passes_config(layer: &Layer) -> bool {
    match layer {
        Layer::Call(_) => false,
        Layer::Target(_, config) => config.is_some(),
        Layer::Repeat(layer, _) | Layer::When(_, layer) => passes_config(layer),
        Layer::List(layers) => layers.iter().any(passes_config),
    }
}

/// What a container of type `ty` holds.
pub(crate) fn item(ty: &TokenStream) -> TokenStream {
    quote!(__p::ItemOf<#ty>)
}

/// Which of a layer's values are generated.
pub(crate) enum Counted {
    All,
    /// All but those of `weight`.
    Untied,
    /// Those of low-rank adapters of this role.
    Adapters(TokenStream),
}

/// A call's spec by reference. One that the macro does not know may be anything: it is asked for where
/// `__field` is known to be built from it, and elsewhere one takes its place that nothing is wrong with, since
/// the field's own error says it.
pub(crate) fn known(call: &Call) -> TokenStream {
    let (spec, span) = (call_spec(call), span(call));
    match call::is_ours(call) {
        true => quote_spanned!(span=> (&#spec)),
        false => quote_spanned!(span=> (&__field).known(&#spec)),
    }
}

/// Whether [`known`] asks a `__field`.
pub(crate) fn asks_field(layer: &Layer) -> bool {
    calls(layer).into_iter().any(|call| !call::is_ours(call))
}

/// The number of generated values of a layer of type `ty`, as a constant expression, where
/// [`known`] can be asked.
pub(crate) fn count(layer: &Layer, ty: &TokenStream, counted: &Counted) -> TokenStream {
    let count_item = |layer| count(layer, &item(ty), counted);
    match layer {
        Layer::Call(call) => count_call(call, counted),
        Layer::Target(..) => quote!(<#ty as __p::FixedTarget>::NUM_PARAMS),
        Layer::Repeat(layer, n) => {
            let each = count_item(layer);
            quote!((#n) * #each)
        }
        Layer::List(layers) => {
            let counts = layers.iter().map(count_item);
            quote!((0 #(+ #counts)*))
        }
        Layer::When(condition, layer) => {
            let count = count_item(layer);
            quote!((if #condition { #count } else { 0 }))
        }
    }
}

fn count_call(call: &Call, counted: &Counted) -> TokenStream {
    let (spec, span) = (known(call), span(call));
    match counted {
        Counted::All => quote_spanned!(span=> #spec.info().num_params),
        Counted::Untied => {
            quote_spanned!(span=> (#spec.info().num_params - #spec.info().num_weights))
        }
        Counted::Adapters(role) => {
            let rank = rank(role);
            quote_spanned!(span=> (&(&#spec.info()).adapter #rank).num_params())
        }
    }
}

/// Expressions that fail to evaluate where a size is invalid.
pub(crate) fn checks(layer: &Layer) -> Vec<TokenStream> {
    check_calls(layer, &check_call)
}

/// Checks of the ranks of low-rank adapters, whose problems are shown at the rank.
pub(crate) fn adapter_checks(
    layer: &Layer,
    role: &TokenStream,
    rank: &TokenStream,
) -> Vec<TokenStream> {
    let (span, end) = ends(rank);
    check_calls(layer, &|call| {
        let (spec, rank) = (known(call), self::rank(role));
        let info = quote_spanned!(self::span(call)=> (&#spec.info()));
        let checked = quote_spanned!(end=> (#info.check_adapter #rank));
        quote_spanned!(span=> __p::deny #checked)
    })
}

fn check_calls(layer: &Layer, check: &dyn Fn(&Call) -> TokenStream) -> Vec<TokenStream> {
    match layer {
        Layer::Call(call) => vec![check(call)],
        Layer::Target(..) => Vec::new(),
        Layer::Repeat(layer, _) => check_calls(layer, check),
        Layer::List(layers) => layers.iter().flat_map(|layer| check_calls(layer, check)).collect(),
        Layer::When(condition, layer) => {
            let checks = check_calls(layer, check);
            checks.into_iter().map(|check| quote!(if #condition { #check })).collect()
        }
    }
}

/// The rank of adapters of this role, in parentheses.
fn rank(role: &TokenStream) -> TokenStream {
    quote!((__p::Role::rank(#role)))
}

fn check_call(call: &Call) -> TokenStream {
    let spec = known(call);
    let end = shown_at(call.paren.span.close());
    let info = quote_spanned!(span(call)=> #spec.info());
    let checked = quote_spanned!(end=> (#info.problem));
    quote_spanned!(span(call)=> __p::deny #checked)
}
