//! The fields of a checked target.

use syn::ext::IdentExt;
use syn::{Expr, Ident, Member, Type};

use super::parse::{Layer, Tie};
use super::role::Role;
use crate::span::shown_at;

/// A field, and the name it has in the layout.
pub(crate) struct Field {
    pub(crate) member: Member,
    pub(crate) ty: Type,
    pub(crate) name: String,
    /// None where its tensors are generated.
    pub(crate) role: Option<Role>,
    pub(crate) kind: FieldKind,
}

/// What a field is made of.
pub(crate) enum FieldKind {
    Value(Expr),
    Layer { layer: Layer, tie: Option<Tie> },
}

/// A field's name as it is spoken of: without `r#`, and a number in a tuple struct.
pub(crate) fn member_name(member: &Member) -> String {
    match member {
        Member::Named(ident) => ident.unraw().to_string(),
        Member::Unnamed(index) => index.index.to_string(),
    }
}

/// Whether two names are one: `r#a` is `a`.
pub(crate) fn same(a: &Ident, b: &Ident) -> bool {
    a.unraw() == b.unraw()
}

/// Whether two names of fields are one.
pub(crate) fn same_member(a: &Member, b: &Member) -> bool {
    match (a, b) {
        (Member::Named(a), Member::Named(b)) => same(a, b),
        (Member::Unnamed(a), Member::Unnamed(b)) => a.index == b.index,
        _ => false,
    }
}

/// A field where it is used. It is shown where it is declared, but is not the user's own use of it, which
/// `#[deprecated]` would be reported at.
pub(crate) fn used(member: &Member) -> Member {
    let mut member = member.clone();
    match &mut member {
        Member::Named(ident) => ident.set_span(shown_at(ident.span())),
        Member::Unnamed(index) => index.span = shown_at(index.span),
    }
    member
}
