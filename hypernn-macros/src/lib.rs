//! The macros of hypernn; use them through that crate, which documents them.

mod hypernetwork;
mod report;

use proc_macro::TokenStream;

/// Declares a hypernetwork over a target; see the documentation of the hypernn crate.
#[proc_macro]
pub fn hypernetwork(input: TokenStream) -> TokenStream {
    hypernetwork::hypernetwork(input.into()).into()
}
