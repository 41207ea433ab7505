//! A field's type and the spec of its attribute, brought together.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};

use super::field::Field;
use super::parse::Layer;
use super::spec;
use crate::span::ends;

/// The field's type brought together with its `__spec`. The same tokens stand wherever they are
/// needed, so that a type without such a spec is one error.
pub(crate) fn typed_spec(field: &Field, layer: &Layer) -> TokenStream {
    let (ty, (span, end)) = (&field.ty, ends(&field.ty));
    if let Layer::Target(..) = layer {
        return quote_spanned!(span=> __p::Spec(&__spec).target::<#ty>());
    }
    let (asked, layer) = (quote_spanned!(span=> __p::HyperLayer::), quote_spanned!(end=> OF));
    quote_spanned!(span=> __p::Spec(&__spec).of::<#ty>(#asked #layer))
}

/// The field as `__field`, which knows whether it is built from what its attribute says, where that is
/// asked.
pub(crate) fn known_field(field: &Field, layer: &Layer) -> Option<TokenStream> {
    let (spec, typed) = (spec::spec(layer), typed_spec(field, layer));
    spec::asks_field(layer).then(|| {
        quote! {
            let __spec = #spec;
            let __field = #typed;
        }
    })
}

pub(crate) fn where_known(field: &Field, layer: &Layer, expr: TokenStream) -> TokenStream {
    match known_field(field, layer) {
        Some(known) => quote!({ #known #expr }),
        None => expr,
    }
}
