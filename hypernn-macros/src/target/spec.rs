//! The expressions that a field's layer becomes: its spec, its count, its checks.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Expr, Path};

use super::call;
use super::parse::{Call, Layer};
use crate::span::{ends, private_at, shown_at};

/// The layer's spec as an expression.
pub(crate) fn spec(layer: &Layer, krate: &Path) -> TokenStream {
    match layer {
        Layer::Call(call) => call_spec(call, krate),
        Layer::Target(_, None) => quote!(#krate::__private::NestedSpec(())),
        Layer::Target(_, Some(config)) => quote!(#krate::__private::NestedSpec(#config)),
        Layer::Repeat(layer, count) => {
            let spec = spec(layer, krate);
            quote!(#krate::__private::Repeat { spec: #spec, count: #count })
        }
        Layer::List(layers) => {
            let specs = layers.iter().map(|layer| spec(layer, krate));
            quote!([#(#specs),*])
        }
        Layer::When(condition, layer) => {
            let (spec, option) = (spec(layer, krate), quote!(#krate::__private::Option));
            quote!(if #condition { #option::Some(#spec) } else { #option::None })
        }
    }
}

/// A constructor's spec as an expression.
pub(crate) fn call_spec(call: &Call, krate: &Path) -> TokenStream {
    among_constructors(call, &call::lower(call, krate).spec, krate)
}

/// A step between the fields of a chain, as an expression.
pub(crate) fn step(call: &Call, krate: &Path) -> TokenStream {
    among_steps(&call.func, &call::lower(call, krate).spec, krate)
}

/// As [`step`], for one that is not a call.
pub(crate) fn step_value(value: &Expr, krate: &Path) -> TokenStream {
    among_steps(value, &value.to_token_stream(), krate)
}

/// A block whose glob import makes the steps' names known, whatever is imported around.
fn among_steps(shown: &impl ToTokens, step: &TokenStream, krate: &Path) -> TokenStream {
    let (span, _) = ends(shown);
    let private = private_at(krate, span);
    quote_spanned!(span=> {
        #[allow(unused_imports)]
        use #private::step::*;
        #step
    })
}

/// A block whose glob import makes the constructors' names mean specs, whatever is imported around.
fn among_constructors(call: &Call, spec: &TokenStream, krate: &Path) -> TokenStream {
    let private = private_at(krate, span(call));
    quote_spanned!(span(call)=> {
        #[allow(unused_imports)]
        use #private::spec::*;
        #spec
    })
}

/// Where a call begins.
fn span(call: &Call) -> Span {
    shown_at(call.func.span())
}

/// The specs with candle's configurations as they were written.
pub(crate) fn configs(layer: &Layer, krate: &Path) -> Vec<TokenStream> {
    let configured = calls(layer).into_iter().filter_map(|call| {
        let config = call::lower(call, krate).config?;
        Some(among_constructors(call, &config, krate))
    });
    configured.collect()
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

/// Whether the layer is built of calls.
pub(crate) fn has_calls(layer: &Layer) -> bool {
    !calls(layer).is_empty()
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
pub(crate) fn item(ty: &TokenStream, krate: &Path) -> TokenStream {
    quote!(#krate::__private::ItemOf<#ty>)
}

/// The number of parameters of a layer of type `ty`, as a constant expression.
pub(crate) fn count(layer: &Layer, ty: &TokenStream, tied: bool, krate: &Path) -> TokenStream {
    let count_item = |layer| count(layer, &item(ty, krate), false, krate);
    match layer {
        Layer::Call(call) => count_call(call, tied, krate),
        Layer::Target(..) => quote!(<#ty as #krate::FixedTarget>::NUM_PARAMS),
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

fn count_call(call: &Call, tied: bool, krate: &Path) -> TokenStream {
    let spec = call_spec(call, krate);
    let minus = tied.then(|| quote_spanned!(span(call)=> - __spec.num_weights()));
    quote_spanned!(span(call)=> {
        let __spec = #spec;
        __spec.num_params() #minus
    })
}

/// Statements that fail to evaluate where a size is invalid.
pub(crate) fn checks(layer: &Layer, krate: &Path) -> Vec<TokenStream> {
    match layer {
        Layer::Call(call) => vec![check_call(call, krate)],
        Layer::Target(..) => Vec::new(),
        Layer::Repeat(layer, _) => checks(layer, krate),
        Layer::List(layers) => layers.iter().flat_map(|layer| checks(layer, krate)).collect(),
        Layer::When(condition, layer) => {
            let checks = checks(layer, krate);
            checks.into_iter().map(|check| quote!(if #condition { #check })).collect()
        }
    }
}

fn check_call(call: &Call, krate: &Path) -> TokenStream {
    let (spec, private) = (call_spec(call, krate), private_at(krate, span(call)));
    let checked = quote_spanned!(shown_at(call.paren.span.close())=> (__spec.check()));
    quote_spanned!(span(call)=> {
        let __spec = #spec;
        #private::deny #checked;
    })
}
