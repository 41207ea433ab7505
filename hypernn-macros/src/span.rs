//! Where generated code is shown.

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::Path;
use syn::spanned::Spanned;

/// The path of `__private`, placed at `span`: an expression that starts with it is shown there.
pub(crate) fn private_at(krate: &Path, span: Span) -> TokenStream {
    let path = quote!(#krate::__private).into_iter().map(|mut tree| {
        tree.set_span(tree.span().located_at(span));
        tree
    });
    path.collect()
}

/// Generated code that is shown at `span`. Its names still resolve as all generated code's do, even
/// where the tokens at `span` come out of a macro of the user's.
pub(crate) fn shown_at(span: Span) -> Span {
    Span::call_site().located_at(span)
}

/// The spans at which generated code is shown that begins and ends where `tokens` do.
pub(crate) fn ends(tokens: impl ToTokens) -> (Span, Span) {
    let first = tokens.span();
    let last = tokens.into_token_stream().into_iter().last().map(|tree| match tree {
        TokenTree::Group(group) => group.span_close(),
        tree => tree.span(),
    });
    (shown_at(first), shown_at(last.unwrap_or(first)))
}
