//! The syntax of a declaration:
//!
//! ```text
//! #[attributes]
//! visibility struct Name for Target {
//!     key: value,
//! }
//! ```

use proc_macro2::TokenStream;
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Attribute, Ident, Result, Token, Type, Visibility, braced};

/// A declaration whose keys have not been looked at.
pub(super) struct Declaration {
    pub(super) attrs: Vec<Attribute>,
    pub(super) vis: Visibility,
    pub(super) name: Ident,
    pub(super) target: Type,
    pub(super) entries: Punctuated<Entry, Token![,]>,
}

/// `key: value`, the value up to the next comma outside brackets.
pub(super) struct Entry {
    pub(super) key: Ident,
    pub(super) value: TokenStream,
}

impl Parse for Declaration {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let attrs = input.call(Attribute::parse_outer)?;
        let vis = input.parse()?;
        input.parse::<Token![struct]>()?;
        let name = input.parse()?;
        input.parse::<Token![for]>()?;
        let target = input.parse()?;
        let body;
        braced!(body in input);
        let entries = body.parse_terminated(Entry::parse, Token![,])?;
        Ok(Self { attrs, vis, name, target, entries })
    }
}

impl Parse for Entry {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let key = input.call(Ident::parse_any)?;
        input.parse::<Token![:]>()?;
        let mut value = TokenStream::new();
        while !input.is_empty() && !input.peek(Token![,]) {
            value.extend([input.parse::<proc_macro2::TokenTree>()?]);
        }
        if value.is_empty() {
            return Err(syn::Error::new(key.span(), format!("`{key}:` has no value")));
        }
        Ok(Self { key, value })
    }
}
