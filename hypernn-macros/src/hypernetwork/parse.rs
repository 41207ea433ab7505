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
use syn::parse::{Parse, ParseBuffer, ParseStream};
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

const FORM: &str = "the form is `struct HyperNet for Net { embedding: table(64, 8), generator: linear, mode: static }`";

impl Parse for Declaration {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let attrs = input.call(Attribute::parse_outer)?;
        let vis = input.parse()?;
        let (name, target) = with_form(head(input))?;
        let body = with_form(body(input))?;
        let entries = body.parse_terminated(Entry::parse, Token![,])?;
        if !input.is_empty() {
            return Err(input.error("a `hypernetwork!` declares one hypernetwork"));
        }
        Ok(Self { attrs, vis, name, target, entries })
    }
}

/// `struct Name for Target`.
fn head(input: ParseStream<'_>) -> Result<(Ident, Type)> {
    input.parse::<Token![struct]>()?;
    let name = input.parse()?;
    if input.peek(Token![<]) {
        return Err(input.error("a hypernetwork has no generics"));
    }
    input.parse::<Token![for]>()?;
    Ok((name, input.parse()?))
}

fn body(input: ParseStream<'_>) -> Result<ParseBuffer<'_>> {
    let body;
    braced!(body in input);
    Ok(body)
}

fn with_form<T>(parsed: Result<T>) -> Result<T> {
    parsed.map_err(|error| syn::Error::new(error.span(), format!("{error}; {FORM}")))
}

impl Parse for Entry {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let key = input.call(Ident::parse_any)?;
        input.parse::<Token![:]>()?;
        let mut value = TokenStream::new();
        while !input.is_empty() && !input.peek(Token![,]) {
            if !value.is_empty()
                && input.peek(Ident)
                && input.peek2(Token![:])
                && !input.peek2(Token![::])
            {
                return Err(input.error("expected `,` before the next key"));
            }
            value.extend([input.parse::<proc_macro2::TokenTree>()?]);
        }
        if value.is_empty() {
            return Err(syn::Error::new(key.span(), format!("`{key}:` has no value")));
        }
        Ok(Self { key, value })
    }
}
