//! From syntax to what was written, without judging it.

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{
    Data, DeriveInput, Expr, ExprPath, Fields, Generics, Ident, LitStr, Member, Path, Result,
    Signature, Token, Type, Visibility, braced, bracketed, parenthesized, token,
};

use super::chain::parse::{RawInput, RawOutput, Step, chain, inputs, outputs};
use crate::attr;
use crate::report::Report;

const TIE_FORM: &str = "…, tie(weight = field.weight)";
const VALUE_FORM: &str = "value = EXPR";
const ROLE_FORM: &str = "…, role = freeze";
const NAME_FORM: &str = "…, name = \"path\"";
const LAYER_FORMS: &str = "expected a layer: `linear(64, 10)`, `[layer; n]`, `[layer, layer]`, `if condition { layer }`, `tensor([3, 4])`, `target`, or `value = EXPR` for a field without parameters";

/// A struct as it was written.
pub(crate) struct RawTarget {
    pub(crate) ident: Ident,
    /// What is allowed on the struct and on its fields.
    pub(crate) shared: TokenStream,
    pub(crate) vis: Visibility,
    pub(crate) generics: Generics,
    pub(crate) items: Vec<StructItem>,
    pub(crate) body: Body,
}

/// What stands between the braces.
pub(crate) enum Body {
    Struct(Vec<RawField>),
    Enum(Token![enum]),
    Union(Token![union]),
}

/// One item of the struct's `#[hyper(…)]`; the key comes first.
pub(crate) enum StructItem {
    Config(Ident, Type),
    Crate(Ident, Path),
    Forward(Box<Signature>),
    /// `sequential` or `sequential_t`, with its steps where they are named.
    Sequential(Ident, Option<Vec<Step>>),
    Input(Ident, Vec<RawInput>),
    Output(Ident, Vec<RawOutput>),
    Unknown(Ident),
}

/// A field as it was written.
pub(crate) struct RawField {
    pub(crate) member: Member,
    pub(crate) ty: Type,
    pub(crate) items: Vec<FieldItem>,
}

/// One item of a field's `#[hyper(…)]`; the key comes first.
pub(crate) enum FieldItem {
    Layer(Layer),
    Value(Ident, Expr),
    Name(Ident, LitStr),
    Tie(Ident, Tie),
    Role(Ident, RawRole),
    Unknown(Ident),
}

/// A role as it was written, and its arguments where it has some.
pub(crate) struct RawRole {
    pub(crate) name: Ident,
    pub(crate) args: Option<TokenStream>,
}

/// What a field is made of.
pub(crate) enum Layer {
    Call(Call),
    Target(Ident, Option<Box<Expr>>),
    Repeat(Box<Layer>, Box<Expr>),
    List(Vec<Layer>),
    When(Box<Expr>, Box<Layer>),
}

impl Layer {
    /// Where it is a container, what its first layer is.
    pub(crate) fn inner(&self) -> Option<&Self> {
        match self {
            Self::Call(_) | Self::Target(..) => None,
            Self::Repeat(layer, _) | Self::When(_, layer) => Some(layer),
            Self::List(layers) => layers.first(),
        }
    }
}

/// A layer's constructor, without `vb`.
pub(crate) struct Call {
    pub(crate) func: ExprPath,
    pub(crate) paren: token::Paren,
    pub(crate) args: Vec<Arg>,
}

/// An argument of a constructor.
pub(crate) enum Arg {
    Positional(Expr),
    Named(Ident, Expr),
}

/// `tie(param = field.source)`.
#[derive(Clone)]
pub(crate) struct Tie {
    pub(crate) param: Ident,
    pub(crate) field: Member,
    pub(crate) source: Ident,
}

/// Takes the input apart.
pub(crate) fn parse(input: DeriveInput, report: &mut Report) -> RawTarget {
    let items = attr::items(&input.attrs, report, StructItem::parse);
    let shared = shared(&input);
    let body = match input.data {
        Data::Struct(data) => Body::Struct(fields(data.fields, report)),
        Data::Enum(data) => Body::Enum(data.enum_token),
        Data::Union(data) => Body::Union(data.union_token),
    };
    let DeriveInput { ident, vis, generics, .. } = input;
    RawTarget { ident, shared, vis, generics, items, body }
}

/// What is emitted repeats the types and expressions of all fields.
fn shared(input: &DeriveInput) -> TokenStream {
    let on_struct = attr::passed_on(&input.attrs);
    let Data::Struct(data) = &input.data else { return on_struct };
    data.fields.iter().fold(on_struct, |mut shared, field| {
        shared.extend(attr::passed_on(&field.attrs));
        shared
    })
}

fn fields(fields: Fields, report: &mut Report) -> Vec<RawField> {
    let members: Vec<Member> = fields.members().collect();
    for member in &members {
        // Rust itself will refuse it.
        if matches!(member, Member::Named(name) if name == "_") {
            report.error(member, "a field has a name");
        }
    }
    let fields = fields.into_iter().zip(members);
    let raw = fields.map(|(field, member)| RawField {
        member,
        items: attr::items(&field.attrs, report, FieldItem::parse),
        ty: closed(field.ty),
    });
    raw.collect()
}

/// Bounds stand in parentheses, so that the type can stand anywhere.
fn closed(ty: Type) -> Type {
    match ty {
        Type::TraitObject(_) | Type::ImplTrait(_) => syn::parse_quote!((#ty)),
        ty => ty,
    }
}

impl Parse for StructItem {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let key = input.call(Ident::parse_any)?;
        match key.to_string().as_str() {
            "config" => attr::with_form(assigned(input, Type::without_plus), "config = Type")
                .map(|config| Self::Config(key, config)),
            "crate" => attr::with_form(assigned(input, attr::crate_path), "crate = path")
                .map(|path| Self::Crate(key, path)),
            "forward" => attr::with_form(
                signature(input),
                "forward(fn step(&self, xs: &Tensor) -> Result<Tensor>)",
            )
            .map(|signature| Self::Forward(Box::new(signature))),
            "sequential" | "sequential_t" => {
                let steps = chain(&key, input)?;
                Ok(Self::Sequential(key, steps))
            }
            "input" => attr::with_form(assigned(input, inputs), "input = (1, 28, 28)")
                .map(|inputs| Self::Input(key, inputs)),
            "output" => outputs(input).map(|outputs| Self::Output(key, outputs)),
            _ => attr::skip_item(input).map(|()| Self::Unknown(key)),
        }
    }
}

fn assigned<T>(input: ParseStream<'_>, value: fn(ParseStream<'_>) -> Result<T>) -> Result<T> {
    input.parse::<Token![=]>()?;
    value(input)
}

/// The content of parentheses, to the end.
fn in_parens<T>(input: ParseStream<'_>, value: fn(ParseStream<'_>) -> Result<T>) -> Result<T> {
    let content;
    parenthesized!(content in input);
    let parsed = value(&content)?;
    if content.is_empty() { Ok(parsed) } else { Err(content.error("unexpected token")) }
}

fn signature(input: ParseStream<'_>) -> Result<Signature> {
    in_parens(input, Signature::parse)
}

impl Parse for FieldItem {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let word = attr::next_word(input).map(|word| word.to_string());
        let assigns = input.peek2(Token![=]) && !input.peek2(Token![==]);
        match word.as_deref() {
            Some("value") => keyed(input, |input| assigned(input, Expr::parse), VALUE_FORM)
                .map(|(key, value)| Self::Value(key, value)),
            Some("name") => {
                keyed(input, |input| assigned(input, <LitStr as Parse>::parse), NAME_FORM)
                    .map(|(key, name)| Self::Name(key, name))
            }
            Some("tie") => keyed(input, |input| in_parens(input, Tie::parse), TIE_FORM)
                .map(|(key, tie)| Self::Tie(key, tie)),
            Some("role") => keyed(input, |input| assigned(input, RawRole::parse), ROLE_FORM)
                .map(|(key, role)| Self::Role(key, role)),
            Some(_) if assigns => unknown(input),
            _ => input.parse().map(Self::Layer),
        }
    }
}

fn keyed<T>(
    input: ParseStream<'_>,
    value: fn(ParseStream<'_>) -> Result<T>,
    form: &str,
) -> Result<(Ident, T)> {
    let key = input.call(Ident::parse_any)?;
    Ok((key, attr::with_form(value(input), form)?))
}

fn unknown(input: ParseStream<'_>) -> Result<FieldItem> {
    let key = input.call(Ident::parse_any)?;
    attr::skip_item(input)?;
    Ok(FieldItem::Unknown(key))
}

impl Parse for RawRole {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let name = input.call(Ident::parse_any)?;
        let called = input.peek(token::Paren);
        Ok(Self { name, args: called.then(|| in_parens(input, TokenStream::parse)).transpose()? })
    }
}

impl Parse for Tie {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let param = input.parse()?;
        input.parse::<Token![=]>()?;
        let field = input.parse()?;
        input.parse::<Token![.]>()?;
        Ok(Self { param, field, source: input.parse()? })
    }
}

impl Parse for Layer {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        if input.peek(Token![if]) {
            when(input)
        } else if input.peek(token::Bracket) {
            several(input)
        } else if input.peek(token::Paren) {
            in_parens(input, Self::parse)
        } else if input.peek(Ident::peek_any) || input.peek(Token![::]) || input.peek(Token![<]) {
            named(input)
        } else {
            Err(input.error(LAYER_FORMS))
        }
    }
}

/// `if condition { layer }`.
fn when(input: ParseStream<'_>) -> Result<Layer> {
    input.parse::<Token![if]>()?;
    let condition = input.call(Expr::parse_without_eager_brace)?;
    let content;
    braced!(content in input);
    let layer = Layer::parse(&content)?;
    if !content.is_empty() {
        return Err(content.error("expected one layer in the braces: `if condition { layer }`"));
    }
    if input.peek(Token![else]) {
        return Err(input.error("an optional layer has no `else`: it is `None` otherwise"));
    }
    Ok(Layer::When(Box::new(condition), Box::new(layer)))
}

/// `[layer; n]` or `[layer, layer, …]`.
fn several(input: ParseStream<'_>) -> Result<Layer> {
    let content;
    let bracket = bracketed!(content in input);
    if content.is_empty() {
        let message = "the list has no layers: write `[layer; n]` or `[layer, layer]`";
        return Err(syn::Error::new(bracket.span.join(), message));
    }
    let first = Layer::parse(&content)?;
    if !content.peek(Token![;]) {
        return rest_of_list(first, &content);
    }
    content.parse::<Token![;]>()?;
    Ok(Layer::Repeat(Box::new(first), Box::new(content.parse()?)))
}

fn rest_of_list(first: Layer, content: ParseStream<'_>) -> Result<Layer> {
    let mut layers = vec![first];
    while !content.is_empty() {
        content.parse::<Token![,]>()?;
        if !content.is_empty() {
            layers.push(content.parse()?);
        }
    }
    Ok(Layer::List(layers))
}

/// `target`, `target(EXPR)` or a call.
fn named(input: ParseStream<'_>) -> Result<Layer> {
    let func: ExprPath = input.parse()?;
    let called = input.peek(token::Paren);
    match func.path.get_ident() {
        Some(ident) if ident == "target" => target(ident.clone(), called, input),
        _ if called => arguments(func, input).map(Layer::Call),
        _ => Err(syn::Error::new_spanned(&func, not_a_call(&func))),
    }
}

fn not_a_call(func: &ExprPath) -> String {
    let name = func.to_token_stream().to_string();
    format!("`{name}` is not a call; {LAYER_FORMS}")
}

fn target(ident: Ident, called: bool, input: ParseStream<'_>) -> Result<Layer> {
    let config = called.then(|| in_parens(input, Expr::parse)).transpose();
    Ok(Layer::Target(ident, attr::with_form(config, "target(EXPR)")?.map(Box::new)))
}

pub(crate) fn arguments(func: ExprPath, input: ParseStream<'_>) -> Result<Call> {
    let content;
    let paren = parenthesized!(content in input);
    let args = Punctuated::<Arg, Token![,]>::parse_terminated(&content)?;
    Ok(Call { func, paren, args: args.into_iter().collect() })
}

impl Parse for Arg {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        if !(input.peek(Ident) && input.peek2(Token![=]) && !input.peek2(Token![==])) {
            return input.parse().map(Self::Positional);
        }
        let name = input.parse()?;
        input.parse::<Token![=]>()?;
        Ok(Self::Named(name, input.parse()?))
    }
}

/// The expression in the parentheses that may be around it, and in the invisible groups that the
/// arguments of macros come in.
pub(crate) fn bare(expr: &Expr) -> &Expr {
    match expr {
        Expr::Group(group) => bare(&group.expr),
        Expr::Paren(paren) => bare(&paren.expr),
        expr => expr,
    }
}
