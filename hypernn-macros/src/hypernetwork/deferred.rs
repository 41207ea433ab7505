//! Declarations that go through a derive: of a derive's input, the compiler has looked at every
//! `#[cfg]` and `#[cfg_attr]`, which no other macro can; and what a derive writes may name what is
//! deprecated.

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote};
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream};
use syn::{Attribute, Data, DeriveInput, Ident, Meta, Path, Result, Token, braced, parse_quote};

use super::parse::{Declaration, Entry, Head};
use crate::attr;

/// Whether a declaration goes through the derive.
pub(super) fn is_deferred(declaration: &Declaration) -> bool {
    let keys = declaration.entries.iter().flat_map(|entry| &entry.attrs);
    keys.into_iter().any(is_condition)
        || declaration.attrs.iter().any(|attr| deprecates(&attr.meta))
}

fn is_condition(attr: &Attribute) -> bool {
    attr.path().is_ident("cfg") || attr.path().is_ident("cfg_attr")
}

fn deprecates(meta: &Meta) -> bool {
    let under = |(_, metas): (TokenStream, Vec<Meta>)| metas.iter().any(deprecates);
    meta.path().is_ident("deprecated") || attr::conditional(meta).is_some_and(under)
}

/// A type without use but for its derive, which is given the declaration: one field per key.
pub(super) fn defer(declaration: &Declaration) -> TokenStream {
    let krate = match krate(declaration) {
        Ok(krate) => krate,
        Err(error) => return error.into_compile_error(),
    };
    let Declaration { attrs, vis, name, target, entries } = declaration;
    let conditions = attr::passed_on(attrs);
    let carrier = format_ident!("__DeclarationOf{}", name.unraw(), span = Span::call_site());
    let fields = entries
        .iter()
        .map(|Entry { attrs, key, value }| quote!(#(#attrs)* #[hyper(#key: #value)] ()));
    quote! {
        #conditions
        #[derive(#krate::__private::Declaration)]
        #[hyper(declaration { #(#attrs)* #vis struct #name for #target })]
        struct #carrier(#(#fields),*);
    }
}

/// Where the derive is.
fn krate(declaration: &Declaration) -> Result<Path> {
    let Some(entry) = declaration.entries.iter().find(|entry| entry.key == "crate") else {
        return Ok(parse_quote!(::hypernn));
    };
    if entry.attrs.iter().any(is_condition) {
        let message = "`crate` takes no `#[cfg]`: put it on the whole declaration, of which there may be several";
        return Err(syn::Error::new(entry.key.span(), message));
    }
    syn::parse::Parser::parse2(attr::crate_path, entry.value.clone())
}

/// What the derive is given.
pub(super) fn declaration(input: DeriveInput) -> Result<Declaration> {
    let mut heads = input.attrs.iter().filter(|attr| attr.path().is_ident("hyper"));
    let head = heads.next().ok_or_else(|| missing(&input.ident))?;
    let Head { attrs, vis, name, target } = head.parse_args_with(head_in_braces)?;
    let Data::Struct(data) = input.data else { return Err(missing(&input.ident)) };
    let entries = data.fields.into_iter().map(|field| entry(field.attrs));
    Ok(Declaration { attrs, vis, name, target, entries: entries.collect::<Result<_>>()? })
}

/// Only `hypernetwork!` writes the derive.
fn missing(at: &Ident) -> syn::Error {
    syn::Error::new(at.span(), "a hypernetwork is declared by `hypernetwork!`")
}

fn head_in_braces(input: ParseStream<'_>) -> Result<Head> {
    input.parse::<Ident>()?;
    let content;
    braced!(content in input);
    input.parse::<Option<Token![,]>>()?;
    content.parse()
}

fn entry(attrs: Vec<Attribute>) -> Result<Entry> {
    let (entries, others): (Vec<_>, _) =
        attrs.into_iter().partition(|attr| attr.path().is_ident("hyper"));
    let written = entries.into_iter().next();
    let written = written.ok_or_else(|| syn::Error::new(Span::call_site(), "a key is missing"))?;
    Ok(Entry { attrs: others, ..written.parse_args_with(Entry::parse)? })
}
