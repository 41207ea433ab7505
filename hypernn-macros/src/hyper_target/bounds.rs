//! The bounds that a generic field needs.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::ext::IdentExt;
use syn::{Expr, Generics, Type, WherePredicate, parse_quote};

use super::check::{Header, Target};
use super::field::{Field, FieldKind};
use super::parse::{Layer, bare};
use super::spec;
use crate::tokens::idents;

/// The generics, with a bound for each field that must be buildable.
pub(crate) fn buildable(target: &Target) -> Generics {
    let header = &target.header;
    with_bounds(header.generics.clone(), generic_layers(target), |field, layer| {
        let ty = &field.ty;
        if let Layer::Target(_, config) = layer {
            let config = config_type(config.as_deref(), header)?;
            return Some(parse_quote!(for<'__config> #ty: __p::HyperTarget<Config = #config>));
        }
        let spec = spec_type(layer, header)?;
        Some(parse_quote!(for<'__config> #ty: __p::HyperLayer<#spec>))
    })
}

/// The generics under which a target can be built ([`buildable`]) and has a fixed size: with a bound for each
/// target in a field, whose size must be a constant where it counts.
///
/// The lifetime lets the bound stand on types that do not meet it: the impl then does not apply,
/// without an error of its own.
pub(crate) fn fixed(target: &Target) -> Generics {
    with_bounds(buildable(target), layers(target), |field, layer| {
        if field.role.is_some() {
            return None;
        }
        let ty = nested_type(layer, field.ty.to_token_stream())?;
        Some(parse_quote!(for<'__fixed> #ty: __p::FixedTarget))
    })
}

fn with_bounds(
    mut generics: Generics,
    fields: Vec<(&Field, &Layer)>,
    bound: impl Fn(&Field, &Layer) -> Option<WherePredicate>,
) -> Generics {
    let bounds: Vec<_> = fields.into_iter().filter_map(|(f, layer)| bound(f, layer)).collect();
    if !bounds.is_empty() {
        generics.make_where_clause().predicates.extend(bounds);
    }
    generics
}

/// The layers whose type mentions a type parameter.
fn generic_layers(target: &Target) -> Vec<(&Field, &Layer)> {
    layers(target).into_iter().filter(|(field, _)| is_generic(field, target)).collect()
}

/// Whether a field's type mentions a type parameter.
pub(crate) fn is_generic(field: &Field, target: &Target) -> bool {
    let params = target.header.generics.type_params();
    let params: Vec<_> = params.map(|param| param.ident.unraw().to_string()).collect();
    mentions(field.ty.to_token_stream(), &params)
}

/// Whether a type mentions a type parameter or a lifetime of the target, so that it need not be `'static`.
pub(crate) fn mentions_generics(ty: &Type, target: &Target) -> bool {
    let generics = &target.header.generics;
    let types = generics.type_params().map(|param| param.ident.unraw().to_string());
    let lifetimes = generics.lifetimes().map(|param| param.lifetime.ident.unraw().to_string());
    mentions(ty.to_token_stream(), &types.chain(lifetimes).collect::<Vec<_>>())
}

fn layers(target: &Target) -> Vec<(&Field, &Layer)> {
    let layers = target.fields.iter().filter_map(|field| match &field.kind {
        FieldKind::Layer { layer, .. } => Some((field, layer)),
        FieldKind::Value(_) => None,
    });
    layers.collect()
}

fn mentions(tokens: TokenStream, names: &[String]) -> bool {
    idents(tokens).iter().any(|found| names.contains(&found.ident.unraw().to_string()))
}

/// The type of a layer's spec, where the syntax tells: the type of a call or of a configuration is
/// only known to the compiler, and a user's bound names it. `target(config)` is known.
fn spec_type(layer: &Layer, header: &Header) -> Option<TokenStream> {
    match layer {
        Layer::Call(_) => None,
        Layer::Target(_, None) => Some(quote!(__p::NestedSpec<()>)),
        Layer::Target(_, Some(config)) => {
            let config = header.config.as_ref().filter(|_| is_config(config))?;
            Some(quote!(__p::NestedSpec<&'__config #config>))
        }
        Layer::Repeat(layer, _) => {
            let spec = spec_type(layer, header)?;
            Some(quote!(__p::Repeat<#spec>))
        }
        Layer::List(layers) => {
            let (spec, n) = (spec_type(layers.first()?, header)?, layers.len());
            Some(quote!([#spec; #n]))
        }
        Layer::When(_, layer) => {
            let spec = spec_type(layer, header)?;
            Some(quote!(__p::Option<#spec>))
        }
    }
}

/// The type of the configuration that a target in a field is given, where the syntax tells.
fn config_type(config: Option<&Expr>, header: &Header) -> Option<TokenStream> {
    match config {
        None => Some(quote!(())),
        Some(config) => {
            let config = header.config.as_ref().filter(|_| is_config(config))?;
            Some(config.to_token_stream())
        }
    }
}

/// Whether an expression is the target's own `config`.
fn is_config(expr: &Expr) -> bool {
    matches!(bare(expr), Expr::Path(path) if path.path.is_ident("config"))
}

/// The type of the targets in a layer of type `ty`.
fn nested_type(layer: &Layer, ty: TokenStream) -> Option<TokenStream> {
    let item = spec::item(&ty);
    match layer {
        Layer::Call(_) | Layer::Target(_, Some(_)) => None,
        Layer::Target(_, None) => Some(ty),
        Layer::Repeat(layer, _) | Layer::When(_, layer) => nested_type(layer, item),
        Layer::List(layers) => nested_type(layers.first()?, item),
    }
}
