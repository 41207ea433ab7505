//! The forward of a `sequential` target: each step of its chain, in order.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote, quote_spanned};
use syn::{Generics, WherePredicate, parse_quote};

use super::chain::{Chain, Link};
use super::check::{Header, Target};
use super::field::{FieldKind, used};
use super::parse::Layer;
use super::{bounds, spec};
use crate::span::ends;

/// `impl Module`, or `impl ModuleT`.
pub(crate) fn module(target: &Target, chain: &Chain) -> TokenStream {
    let mut xs = quote!(__xs);
    let mut steps = Vec::with_capacity(chain.links.len());
    for link in &chain.links {
        steps.push(step(link, &xs, target, chain));
        xs = quote!(&__ys);
    }
    let body = quote! {
        #(#steps)*
        __p::StdResult::Ok(__ys)
    };
    implement(&target.header, &with_steps(target, chain), chain.train, &body)
}

/// What stands in for it while the declaration is wrong.
pub(crate) fn stub(header: &Header, train: bool) -> TokenStream {
    implement(header, &header.generics, train, &quote!(__p::invalid()))
}

fn implement(header: &Header, generics: &Generics, train: bool, body: &TokenStream) -> TokenStream {
    let ident = &header.ident;
    let (impl_generics, _, where_clause) = generics.split_for_impl();
    let (_, ty_generics, _) = header.generics.split_for_impl();
    let (name, function, argument) = match train {
        false => (quote!(Module), quote!(forward), TokenStream::new()),
        true => (quote!(ModuleT), quote!(forward_t), quote!(__train: __p::bool,)),
    };
    quote! {
        #[automatically_derived]
        impl #impl_generics __p::#name for #ident #ty_generics #where_clause {
            fn #function(
                &self,
                __xs: &__p::Tensor,
                #argument
            ) -> __p::Result<__p::Tensor> {
                #body
            }
        }
    }
}

fn step(link: &Link, xs: &TokenStream, target: &Target, chain: &Chain) -> TokenStream {
    match link {
        Link::Field(i) => {
            let field = &target.fields[*i];
            let (member, ty) = (used(&field.member), &field.ty);
            let value = quote!(self.#member);
            match &field.kind {
                FieldKind::Layer { layer, .. } if is_container(layer) => {
                    several(layer, &value, xs, chain)
                }
                _ => {
                    let applied = apply(ty, &quote!(&#value), xs, chain);
                    quote!(let __ys = #applied?;)
                }
            }
        }
        Link::Call(call, _) => between(&spec::step(call), &call.func, xs, chain),
        Link::Value(value, _) => between(&spec::step_value(value), value, xs, chain),
    }
}

fn between(
    step: &TokenStream,
    shown: &impl ToTokens,
    xs: &TokenStream,
    chain: &Chain,
) -> TokenStream {
    let step = quote_spanned!(ends(shown).0=> &#step);
    let applied = apply_shown(shown, &step, xs, chain);
    quote!(let __ys = #applied?;)
}

fn is_container(layer: &Layer) -> bool {
    !matches!(layer, Layer::Call(_) | Layer::Target(..))
}

/// The layers of a container, one after the other.
fn several(layer: &Layer, value: &TokenStream, xs: &TokenStream, chain: &Chain) -> TokenStream {
    let each = each(layer, &quote!(__item), chain);
    quote! {
        let mut __ys = __p::Clone::clone(#xs);
        for __item in __p::Container::items(&#value) {
            #each
        }
    }
}

fn each(layer: &Layer, item: &TokenStream, chain: &Chain) -> TokenStream {
    let inner = match layer {
        Layer::Repeat(layer, _) | Layer::When(_, layer) => &**layer,
        Layer::List(layers) => &layers[0],
        Layer::Call(_) | Layer::Target(..) => layer,
    };
    if is_container(inner) {
        let each = each(inner, item, chain);
        return quote!(for #item in __p::Container::items(#item) { #each });
    }
    let applied = apply_shown(&shown(inner), item, &quote!(&__ys), chain);
    quote!(__ys = #applied?;)
}

/// What an error about a layer in a container is shown at.
fn shown(layer: &Layer) -> TokenStream {
    match layer {
        Layer::Call(call) => call.func.to_token_stream(),
        Layer::Target(key, _) => key.to_token_stream(),
        Layer::Repeat(layer, _) | Layer::When(_, layer) => shown(layer),
        Layer::List(layers) => shown(&layers[0]),
    }
}

/// A step of a known type, which an error is shown at.
fn apply(ty: &impl ToTokens, value: &TokenStream, xs: &TokenStream, chain: &Chain) -> TokenStream {
    let (span, _) = ends(ty);
    match chain.train {
        false => quote_spanned!(span=> <#ty as __p::Step>::step(#value, #xs)),
        true => quote_spanned!(span=> <#ty as __p::StepT>::step_t(#value, #xs, __train)),
    }
}

fn apply_shown(
    shown: &impl ToTokens,
    value: &TokenStream,
    xs: &TokenStream,
    chain: &Chain,
) -> TokenStream {
    let (span, _) = ends(shown);
    match chain.train {
        false => quote_spanned!(span=> __p::Step::step(#value, #xs)),
        true => quote_spanned!(span=> __p::StepT::step_t(#value, #xs, __train)),
    }
}

/// The generics, with a bound for each field of a generic type.
fn with_steps(target: &Target, chain: &Chain) -> Generics {
    let mut generics = bounds::buildable(target);
    let predicates: Vec<_> =
        chain.links.iter().filter_map(|link| bound(link, target, chain)).collect();
    if !predicates.is_empty() {
        generics.make_where_clause().predicates.extend(predicates);
    }
    generics
}

fn bound(link: &Link, target: &Target, chain: &Chain) -> Option<WherePredicate> {
    let Link::Field(i) = link else { return None };
    let field = &target.fields[*i];
    if !bounds::is_generic(field, target) {
        return None;
    }
    let ty = match &field.kind {
        FieldKind::Layer { layer, .. } => innermost(layer, field.ty.to_token_stream()),
        FieldKind::Value(_) => field.ty.to_token_stream(),
    };
    Some(match chain.train {
        false => parse_quote!(#ty: __p::Step),
        true => parse_quote!(#ty: __p::StepT),
    })
}

/// The type of one layer in containers of them.
fn innermost(layer: &Layer, ty: TokenStream) -> TokenStream {
    let inner = match layer {
        Layer::Call(_) | Layer::Target(..) => return ty,
        Layer::Repeat(layer, _) | Layer::When(_, layer) => layer,
        Layer::List(layers) => &layers[0],
    };
    innermost(inner, quote!(<#ty as __p::Container>::Item))
}
