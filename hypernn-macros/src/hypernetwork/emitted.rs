//! What every part of the emitted type names.

use proc_macro2::TokenStream;
use quote::quote;
use syn::Ident;

use super::check::{Checked, Mode};
use crate::span::shown_at;

/// An item beside the type, on which the attributes hold that do for all of it.
pub(super) fn item(checked: &Checked, item: &TokenStream) -> TokenStream {
    let shared = &checked.shared;
    quote!(#shared #item)
}

/// The type where it is used. It is shown where it is declared, but is not the user's own use of it, which
/// `#[deprecated]` would be reported at.
pub(super) fn name(checked: &Checked) -> Ident {
    let mut name = checked.name.clone();
    name.set_span(shown_at(name.span()));
    name
}

/// The type of the runtime crate that is wrapped.
pub(super) fn network(checked: &Checked) -> TokenStream {
    let Checked { target, krate, .. } = checked;
    match checked.mode {
        Mode::Static => quote!(#krate::__private::StaticHyperNetwork<#target>),
        Mode::Dynamic => quote!(#krate::__private::DynamicHyperNetwork<#target>),
    }
}

/// What holds where the input can condition its own weights, as far as constants tell.
pub(super) fn own_condition(checked: &Checked) -> TokenStream {
    if !has_own_condition(checked) {
        return TokenStream::new();
    }
    let (krate, name) = (&checked.krate, name(checked));
    let private = quote!(#krate::__private);
    quote! {,
        for<'__a> #name: #private::ConditionIsVector<{ #name::__OWN_CONDITION.is_vector }>,
        for<'__a> #name: #private::ConditionIsOne<{ #name::__OWN_CONDITION.is_many }>,
        for<'__a> #name: #private::InputIsCondition<
            { #name::__OWN_CONDITION.condition },
            { #name::__OWN_CONDITION.input },
        >
    }
}

/// Whether constants tell if the input can condition its own weights.
pub(super) fn has_own_condition(checked: &Checked) -> bool {
    checked.mode == Mode::Dynamic && checked.has_constants()
}
