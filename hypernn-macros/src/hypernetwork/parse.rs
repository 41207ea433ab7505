//! The syntax of a declaration:
//!
//! ```text
//! #[attributes]
//! visibility struct Name for Target {
//!     key: value,
//! }
//! ```
//!
//! A call may hold several.

use proc_macro2::{TokenStream, TokenTree};
use syn::buffer::Cursor;
use syn::ext::IdentExt;
use syn::parse::discouraged::Speculative;
use syn::parse::{Parse, ParseBuffer, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Attribute, Expr, Ident, Result, Token, Type, Visibility, braced};

/// A declaration whose keys have not been looked at.
pub(super) struct Declaration {
    pub(super) attrs: Vec<Attribute>,
    pub(super) vis: Visibility,
    pub(super) name: Ident,
    pub(super) target: Type,
    pub(super) entries: Punctuated<Entry, Token![,]>,
}

/// `key: value`.
pub(super) struct Entry {
    /// Documentation and conditions.
    pub(super) attrs: Vec<Attribute>,
    pub(super) key: Ident,
    pub(super) value: TokenStream,
}

const FORM: &str = "the form is `struct HyperNet for Net { embedding: table(64, 8), generator: linear, mode: static }`";

/// All declarations of a call, and what is wrong with one that is none.
pub(super) struct Declarations {
    pub(super) whole: Vec<Declaration>,
    pub(super) broken: Option<syn::Error>,
}

impl Parse for Declarations {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let mut whole = Vec::new();
        loop {
            let ahead = input.fork();
            match ahead.parse() {
                Ok(declaration) => whole.push(declaration),
                Err(error) => {
                    // What follows could only be guessed.
                    input.parse::<TokenStream>()?;
                    return Ok(Self { whole, broken: Some(error) });
                }
            }
            input.advance_to(&ahead);
            if input.is_empty() {
                return Ok(Self { whole, broken: None });
            }
        }
    }
}

impl Parse for Declaration {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let Head { attrs, vis, name, target } = input.parse()?;
        let body = with_form(body(input))?;
        let entries = body.parse_terminated(Entry::parse, Token![,])?;
        Ok(Self { attrs, vis, name, target, entries })
    }
}

/// What stands before the braces.
pub(super) struct Head {
    pub(super) attrs: Vec<Attribute>,
    pub(super) vis: Visibility,
    pub(super) name: Ident,
    pub(super) target: Type,
}

impl Parse for Head {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let attrs = input.call(Attribute::parse_outer)?;
        let vis = input.parse()?;
        let (name, target) = with_form(head(input))?;
        Ok(Self { attrs, vis, name, target })
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
    Ok((name, input.call(Type::without_plus)?))
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
        let attrs = input.call(Attribute::parse_outer)?;
        let key = input.call(Ident::parse_any)?;
        input.parse::<Token![:]>()?;
        let end = if key == "config" {
            end_of(input, Type::without_plus)
        } else {
            end_of(input, Expr::parse)
        };
        let value = match end {
            Some(end) => tokens_until(input, |input| input.cursor() == end),
            None => tokens_until(input, |input| input.peek(Token![,])),
        }?;
        if value.is_empty() {
            return Err(syn::Error::new(key.span(), format!("`{key}:` has no value")));
        }
        Ok(Self { attrs, key, value })
    }
}

/// Where a value ends that can be parsed: it may have commas of its own, in `A<B, C>`.
fn end_of<'a, T>(
    input: ParseStream<'a>,
    parser: fn(ParseStream<'_>) -> Result<T>,
) -> Option<Cursor<'a>> {
    let ahead = input.fork();
    let whole = parser(&ahead).is_ok() && (ahead.is_empty() || ahead.peek(Token![,]));
    whole.then(|| ahead.cursor())
}

fn tokens_until(
    input: ParseStream<'_>,
    ends: impl Fn(ParseStream<'_>) -> bool,
) -> Result<TokenStream> {
    let mut tokens = TokenStream::new();
    while !input.is_empty() && !ends(input) {
        let next_key = input.peek(Ident) && input.peek2(Token![:]) && !input.peek2(Token![::])
            || input.peek(Token![#]);
        if next_key && !tokens.is_empty() {
            return Err(input.error("expected `,` before the next key"));
        }
        tokens.extend([input.parse::<TokenTree>()?]);
    }
    Ok(tokens)
}
