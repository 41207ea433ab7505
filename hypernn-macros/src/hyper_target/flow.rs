//! The shapes along the chain of a `sequential` target, as a constant, and what does not fit.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::Expr;

use super::chain::{Chain, Link};
use super::check::{Header, Target};
use super::field::{Field, FieldKind, member_name};
use super::parse::{Call, Layer, bare};
use super::typed::known_field;
use super::{bounds, call, spec};
use crate::span::{ends, shown_at};

/// The code of a chain's shapes.
pub(crate) struct Flow {
    /// Follows the shape, from `__chain` to `__chain`.
    steps: TokenStream,
    /// Where each problem is shown, if there is one.
    places: Vec<Place>,
}

/// Where the problems of one step are shown.
struct Place {
    /// A size that does not fit.
    takes: (Span, Span),
    /// What can't be given.
    gives: (Span, Span),
}

impl Place {
    fn at(tokens: impl ToTokens) -> Self {
        let ends = ends(tokens);
        Self { takes: ends, gives: ends }
    }

    fn of_call(call: &Call) -> Self {
        let gives = (ends(&call.func).0, shown_at(call.paren.span.close()));
        let takes = call::input_size(call).map_or(gives, ends);
        Self { takes, gives }
    }
}

impl Flow {
    /// Of a checked chain.
    pub(crate) fn new(target: &Target, chain: &Chain) -> Self {
        let mut flow = Self { steps: TokenStream::new(), places: Vec::new() };
        for link in &chain.links {
            let step = flow.link(link, target);
            flow.steps.extend(step);
        }
        flow
    }

    /// A new place; its number.
    fn place(&mut self, place: Place) -> usize {
        self.places.push(place);
        self.places.len() - 1
    }

    fn link(&mut self, link: &Link, target: &Target) -> TokenStream {
        match link {
            Link::Field(i) => self.field(&target.fields[*i]),
            Link::Call(call, name) => {
                let place = self.place(Place::of_call(call));
                between(place, name, &spec::step(call), ends(&call.func).0)
            }
            Link::Value(value, name) => {
                let place = self.place(Place::at(value));
                between(place, name, &spec::step_value(value), ends(value).0)
            }
        }
    }

    fn field(&mut self, field: &Field) -> TokenStream {
        let (name, ty) = (member_name(&field.member), field.ty.to_token_stream());
        match &field.kind {
            FieldKind::Layer { layer, .. } => {
                let known = known_field(field, layer);
                let steps = self.layer(layer, &name, &ty);
                quote!(#known #steps)
            }
            FieldKind::Value(_) => quote! {
                let __chain = if __p::StepOf::<#ty>::KEEPS {
                    __chain
                } else {
                    __chain.unknown(#name)
                };
            },
        }
    }

    fn layer(&mut self, layer: &Layer, name: &str, ty: &TokenStream) -> TokenStream {
        match layer {
            Layer::Call(call) => self.call(call, name),
            Layer::Target(..) => self.target(name, ty),
            Layer::Repeat(layer, count) => {
                let each = self.layer(layer, name, &spec::item(ty));
                quote! {
                    let (mut __all, mut __i) = (__chain, 0);
                    while __i < #count {
                        let __chain = __all;
                        #each
                        __all = __chain;
                        __i += 1;
                    }
                    let __chain = __all;
                }
            }
            Layer::List(layers) => {
                let item = spec::item(ty);
                let layers = layers.iter().enumerate();
                let each =
                    layers.map(|(i, layer)| self.layer(layer, &format!("{name}.{i}"), &item));
                each.collect()
            }
            Layer::When(condition, layer) => {
                let each = self.layer(layer, name, &spec::item(ty));
                quote! {
                    let __chain = if #condition {
                        #each
                        __chain
                    } else {
                        __chain
                    };
                }
            }
        }
    }

    fn call(&mut self, call: &Call, name: &str) -> TokenStream {
        let place = self.place(Place::of_call(call));
        let (spec, span) = (spec::call_spec(call), ends(&call.func).0);
        let known = match call::is_ours(call) {
            true => quote!(&__spec),
            false => quote!((&__field).known(&__spec)),
        };
        // Wrong sizes are a problem of their own, and their shapes could not be computed.
        quote_spanned! {span=>
            let __spec = #spec;
            let __spec = #known;
            let __info = __spec.info();
            let __chain = if __p::Option::is_some(&__info.problem) {
                __chain.unknown(#name)
            } else {
                let __chain = __chain.takes(#place, #name, __info.takes);
                __chain.gives(#place, #name, __spec.gives((&__chain).shape()))
            };
        }
    }

    fn target(&mut self, name: &str, ty: &TokenStream) -> TokenStream {
        let place = self.place(Place::at(ty));
        quote! {
            let __chain = __chain.target(
                #place,
                #name,
                __p::TargetOf::<#ty>::INPUT_SHAPE,
                __p::TargetOf::<#ty>::OUTPUT_SHAPE,
            );
        }
    }

    /// The constants of a target whose sizes are constants, or the function of one whose are not.
    pub(crate) fn constants(&self, target: &Target, chain: &Chain) -> TokenStream {
        let header = &target.header;
        let ident = &header.ident;
        let generics = bounds::buildable(target);
        let (impl_generics, _, where_clause) = generics.split_for_impl();
        let (_, ty_generics, _) = header.generics.split_for_impl();
        let (chain, places) = (self.chain(chain), self.places.len());
        if let Some(config) = &header.config {
            return quote! {
                #[automatically_derived]
                impl #impl_generics #ident #ty_generics #where_clause {
                    fn __chain(config: &#config) -> __p::Chain<#places> {
                        #chain
                    }
                }
            };
        }
        let (input, output) = (quote!((&Self::__CHAIN).input()), quote!(*(&Self::__CHAIN).shape()));
        let shape = quote!(__p::SampleShape);
        quote! {
            #[automatically_derived]
            impl #impl_generics #ident #ty_generics #where_clause {
                const __CHAIN: __p::Chain<#places> = const { #chain };
            }

            #[automatically_derived]
            impl #impl_generics __p::ShapedTarget for #ident #ty_generics #where_clause {
                const INPUT_SHAPE: #shape = #input;
                const OUTPUT_SHAPE: #shape = #output;
            }
        }
    }

    fn chain(&self, chain: &Chain) -> TokenStream {
        let (steps, places) = (&self.steps, self.places.len());
        let input = input(chain);
        quote! {
            use __p::{NoTarget as _, UnknownStep as _};
            let __chain = __p::Chain::<#places>::new(#input);
            #steps
            __chain
        }
    }

    /// Expressions that fail to evaluate where a step does not fit.
    pub(crate) fn checks(&self, chain: &Chain) -> Vec<TokenStream> {
        let input_check = chain.input.as_deref().and_then(|sizes| {
            let (span, end) = (ends(sizes.first()?).0, ends(sizes.last()?).1);
            let input = input(chain);
            Some(deny((span, end), &quote!((&#input).check())))
        });
        let checks = self.places.iter().enumerate().map(|(i, place)| {
            let takes = deny(place.takes, &quote!((&Self::__CHAIN).taken(#i)));
            let gives = deny(place.gives, &quote!((&Self::__CHAIN).given(#i)));
            quote!({ #takes; #gives })
        });
        input_check.into_iter().chain(checks).collect()
    }
}

/// Shapes of which nothing is known, while the declaration is wrong.
pub(crate) fn stub(header: &Header) -> TokenStream {
    if header.config.is_some() {
        return TokenStream::new();
    }
    let Header { ident, generics, .. } = header;
    let (impl_generics, ty_generics, where_clause) = generics.split_for_impl();
    let shape = quote!(__p::SampleShape);
    quote! {
        #[automatically_derived]
        impl #impl_generics __p::ShapedTarget for #ident #ty_generics #where_clause {
            const INPUT_SHAPE: #shape = #shape::ANY;
            const OUTPUT_SHAPE: #shape = #shape::ANY;
        }
    }
}

/// An expression that fails to evaluate where there is a problem, shown between two spans.
fn deny((span, end): (Span, Span), problem: &TokenStream) -> TokenStream {
    let problem = quote_spanned!(end=> (#problem));
    quote_spanned!(span=> __p::deny #problem)
}

/// A step without parameters.
fn between(place: usize, name: &str, step: &TokenStream, span: Span) -> TokenStream {
    quote_spanned! {span=>
        let __step = &#step;
        let __info = __step.info();
        let __chain = if __p::Option::is_some(&__info.problem) {
            __chain.broken(#place, #name, __info.problem)
        } else {
            let __chain = __chain.takes(#place, #name, __info.takes);
            __chain.passes(#place, #name, __step.gives((&__chain).shape()))
        };
    }
}

/// The shape that the chain begins with.
fn input(chain: &Chain) -> TokenStream {
    let shape = quote!(__p::SampleShape);
    let Some(sizes) = &chain.input else { return quote!(#shape::ANY) };
    let sizes = sizes.iter().map(|size| match bare(size) {
        Expr::Infer(_) => quote!(__p::Option::None),
        size => quote!({
            let __size: __p::usize = #size;
            __p::Option::Some(__size)
        }),
    });
    quote!(#shape::of(&[#(#sizes),*]))
}
