//! Collects errors, so that all of a declaration's problems are shown at once.

use std::fmt::Display;

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};

/// The errors found so far.
#[derive(Default)]
pub(crate) struct Report {
    errors: Vec<syn::Error>,
}

impl Report {
    /// Adds an error at `tokens`.
    pub(crate) fn error(&mut self, tokens: impl ToTokens, message: impl Display) {
        self.errors.push(syn::Error::new_spanned(tokens, message));
    }

    /// The value, or `None` after its error has been added.
    pub(crate) fn take<T>(&mut self, result: syn::Result<T>) -> Option<T> {
        result.map_err(|error| self.errors.push(error)).ok()
    }

    /// A `compile_error!` for each error, if there are any, under the declaration's conditions.
    pub(crate) fn into_compile_errors(self, conditions: &TokenStream) -> Option<TokenStream> {
        let errors = self.errors.iter().flat_map(syn::Error::clone);
        let errors = errors.map(|error| error.into_compile_error());
        (!self.errors.is_empty()).then(|| errors.map(|error| quote!(#conditions #error)).collect())
    }

    /// The messages, for tests.
    #[cfg(test)]
    pub(crate) fn messages(&self) -> Vec<String> {
        self.errors.iter().map(ToString::to_string).collect()
    }
}
