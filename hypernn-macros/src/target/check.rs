//! From what was written to what is meant; collects everything that is wrong.

use quote::ToTokens;
use syn::ext::IdentExt;
use syn::{
    Expr, FnArg, Generics, Ident, LitStr, Member, Pat, Path, ReceiverKind, ReturnType, Safety,
    Signature, Type, Visibility, parse_quote,
};

use super::call;
use super::parse::{Body, Call, FieldItem, Layer, RawField, RawTarget, StructItem, Tie};
use crate::attr::{similar, unknown_key};
use crate::report::Report;

const STRUCT_KEYS: &[&str] = &["config", "crate", "forward"];
const FIELD_KEYS: &[&str] = &["value", "name", "tie"];

/// A target without errors, unless the report has some.
pub(crate) struct Target {
    pub(crate) header: Header,
    pub(crate) fields: Vec<Field>,
}

/// What stands on the struct.
pub(crate) struct Header {
    pub(crate) ident: Ident,
    pub(crate) vis: Visibility,
    pub(crate) generics: Generics,
    pub(crate) krate: Path,
    pub(crate) config: Option<Type>,
    pub(crate) forwards: Vec<Forward>,
}

/// A method that also gets a function over flat parameters.
pub(crate) struct Forward {
    pub(crate) name: Ident,
    pub(crate) args: Vec<(Ident, Type)>,
    pub(crate) output: Type,
}

/// A field, and the name it has in the layout.
pub(crate) struct Field {
    pub(crate) member: Member,
    pub(crate) ty: Type,
    pub(crate) name: String,
    pub(crate) kind: FieldKind,
}

/// What a field is made of.
pub(crate) enum FieldKind {
    Value(Expr),
    Layer { layer: Layer, tie: Option<Tie> },
}

/// Checks a target.
pub(crate) fn check(raw: RawTarget, report: &mut Report) -> Target {
    let header = header(raw.ident, raw.vis, raw.generics, raw.items, report);
    let fields = match raw.body {
        Body::Struct(fields) => check_fields(&header.ident, fields, report),
        Body::Enum(token) => not_a_struct(token, report),
        Body::Union(token) => not_a_struct(token, report),
    };
    Target { header, fields }
}

fn not_a_struct(token: impl ToTokens, report: &mut Report) -> Vec<Field> {
    report.error(token, "a target is a struct whose fields are layers");
    Vec::new()
}

fn header(
    ident: Ident,
    vis: Visibility,
    generics: Generics,
    items: Vec<StructItem>,
    report: &mut Report,
) -> Header {
    let (mut config, mut krate, mut forwards) = (Once::new(), Once::new(), Vec::new());
    for item in items {
        match item {
            StructItem::Config(key, ty) => config.set(&key, ty, report),
            StructItem::Crate(key, path) => krate.set(&key, path, report),
            StructItem::Forward(signature) => forwards.extend(forward(*signature, report)),
            StructItem::Unknown(key) => unknown_on_struct(&key, report),
        }
    }
    check_distinct_forwards(&forwards, report);
    let krate = krate.value.unwrap_or_else(|| parse_quote!(::hypernn));
    Header { ident, vis, generics, krate, config: config.value, forwards }
}

/// A key that may be given once.
struct Once<T> {
    value: Option<T>,
}

impl<T> Once<T> {
    fn new() -> Self {
        Self { value: None }
    }

    fn set(&mut self, key: &Ident, value: T, report: &mut Report) {
        if self.value.is_some() {
            report.error(key, format!("`{key}` is given twice"));
        } else {
            self.value = Some(value);
        }
    }
}

fn unknown_on_struct(key: &Ident, report: &mut Report) {
    let name = key.to_string();
    if FIELD_KEYS.contains(&name.as_str()) || call::is_known(&name) || name == "target" {
        report.error(key, format!("`{name}` belongs on a field"));
    } else {
        report.error(key, unknown_key(&name, STRUCT_KEYS));
    }
}

fn check_distinct_forwards(forwards: &[Forward], report: &mut Report) {
    for (i, forward) in forwards.iter().enumerate() {
        if forwards[..i].iter().any(|earlier| earlier.name == forward.name) {
            report.error(&forward.name, format!("`forward` of `{}` is given twice", forward.name));
        }
    }
}

/// The pieces of a `forward` signature, if it is one that can be called without further knowledge.
fn forward(signature: Signature, report: &mut Report) -> Option<Forward> {
    let receiver = check_receiver(&signature);
    let plain = check_plain(&signature);
    let output = check_output(&signature);
    let args = signature.inputs.iter().filter_map(|input| match input {
        FnArg::Typed(typed) => Some(argument(&typed.pat, &typed.ty)),
        _ => None,
    });
    let args: Vec<_> = args.map(|arg| report.take(arg)).collect();
    let shape = (report.take(receiver), report.take(plain), report.take(output));
    let (Some(()), Some(()), Some(output)) = shape else { return None };
    Some(Forward { name: signature.ident, args: args.into_iter().collect::<Option<_>>()?, output })
}

fn check_receiver(signature: &Signature) -> syn::Result<()> {
    let (at, message) = match signature.receiver().map(|receiver| (receiver, &receiver.kind)) {
        Some((_, ReceiverKind::Reference(_, _, None))) => return Ok(()),
        Some((receiver, _)) => (receiver.to_token_stream(), "a forward function takes `&self`"),
        None => (
            signature.ident.to_token_stream(),
            "a forward function takes `&self`: `fn step(&self, xs: &Tensor) -> Result<Tensor>`",
        ),
    };
    Err(syn::Error::new_spanned(at, message))
}

fn check_plain(signature: &Signature) -> syn::Result<()> {
    let generics = &signature.generics;
    let unsafety = !matches!(signature.safety, Safety::Default);
    if !generics.params.is_empty() {
        let message = "a forward function has no generics: write the types it is called with";
        return Err(syn::Error::new_spanned(generics, message));
    }
    let qualified = signature.constness.is_some() || signature.asyncness.is_some() || unsafety;
    if qualified || signature.abi.is_some() || signature.variadic.is_some() {
        let message = "a forward function is a plain `fn`";
        return Err(syn::Error::new_spanned(signature, message));
    }
    Ok(())
}

fn check_output(signature: &Signature) -> syn::Result<Type> {
    match &signature.output {
        ReturnType::Type(_, output) => Ok((**output).clone()),
        ReturnType::Default => Err(syn::Error::new_spanned(
            &signature.ident,
            "a forward function returns a `Result`: `fn step(&self, xs: &Tensor) -> Result<Tensor>`",
        )),
    }
}

fn argument(pat: &Pat, ty: &Type) -> syn::Result<(Ident, Type)> {
    match pat {
        Pat::Ident(pat) if pat.subpat.is_none() => Ok((pat.ident.clone(), ty.clone())),
        _ => Err(syn::Error::new_spanned(pat, "an argument here is a name: `xs: &Tensor`")),
    }
}

fn check_fields(ident: &Ident, raw: Vec<RawField>, report: &mut Report) -> Vec<Field> {
    let members: Vec<_> = raw.iter().map(|field| field.member.clone()).collect();
    let mut fields: Vec<Field> = Vec::with_capacity(raw.len());
    for field in raw {
        let field = check_field(field, &fields, &members, report);
        fields.push(field);
    }
    if !fields.iter().any(|field| matches!(field.kind, FieldKind::Layer { .. })) {
        report.error(ident, format!("`{ident}` has no parameters: a target has at least one field with a layer, such as `#[hyper(linear(64, 10))] fc: Linear`"));
    }
    fields
}

/// The items of one field, by kind.
struct Items {
    layer: Option<Layer>,
    value: Option<(Ident, Expr)>,
    name: Option<(Ident, LitStr)>,
    tie: Option<(Ident, Tie)>,
}

fn check_field(
    field: RawField,
    earlier: &[Field],
    members: &[Member],
    report: &mut Report,
) -> Field {
    let RawField { member, ty, items } = field;
    let items = sort_items(items, report);
    check_combination(&items, report);
    let name = layout_name(&member, items.name.map(|(_, name)| name), earlier, report);
    let kind = match items.value {
        Some((_, value)) => FieldKind::Value(value),
        None => {
            let layer = items.layer.unwrap_or_else(|| nested(&member));
            check_calls(&layer, report);
            let tie = items.tie.map(|(_, tie)| tie);
            if let Some(tie) = &tie {
                check_tie(tie, &layer, (&member, earlier, members), report);
            }
            FieldKind::Layer { layer, tie }
        }
    };
    Field { member, ty, name, kind }
}

/// A field without a layer of its own is a target.
fn nested(member: &Member) -> Layer {
    let span = match member {
        Member::Named(ident) => ident.span(),
        Member::Unnamed(index) => index.span,
    };
    Layer::Target(Ident::new("target", span), None)
}

fn sort_items(items: Vec<FieldItem>, report: &mut Report) -> Items {
    let (mut layer, mut value) = (None, Once::new());
    let (mut name, mut tie) = (Once::new(), Once::new());
    for item in items {
        match item {
            FieldItem::Layer(new) => set_layer(&mut layer, new, report),
            FieldItem::Value(key, new) => value.set(&key.clone(), (key, new), report),
            FieldItem::Name(key, new) => name.set(&key.clone(), (key, new), report),
            FieldItem::Tie(key, new) => tie.set(&key.clone(), (key, new), report),
            FieldItem::Unknown(key) => unknown_on_field(&key, report),
        }
    }
    Items { layer, value: value.value, name: name.value, tie: tie.value }
}

fn set_layer(layer: &mut Option<Layer>, new: Layer, report: &mut Report) {
    if layer.is_none() {
        *layer = Some(new);
        return;
    }
    let at = first_tokens(&new);
    match similar(&at.to_string(), FIELD_KEYS) {
        Some(_) => report.error(&at, unknown_key(&at.to_string(), FIELD_KEYS)),
        None => report.error(
            &at,
            "a field has one layer; several go into a list: `[linear(8, 16), linear(16, 2)]`",
        ),
    }
}

/// Where to point at for a layer.
fn first_tokens(layer: &Layer) -> proc_macro2::TokenStream {
    match layer {
        Layer::Call(call) => call.func.to_token_stream(),
        Layer::Target(key, _) => key.to_token_stream(),
        Layer::Repeat(layer, _) | Layer::When(_, layer) => first_tokens(layer),
        Layer::List(layers) => layers.iter().map(first_tokens).collect(),
    }
}

fn unknown_on_field(key: &Ident, report: &mut Report) {
    let name = key.to_string();
    if STRUCT_KEYS.contains(&name.as_str()) {
        report.error(key, format!("`{name}` belongs on the struct, above its name"));
    } else {
        report.error(key, unknown_key(&name, FIELD_KEYS));
    }
}

fn check_combination(items: &Items, report: &mut Report) {
    let Some((key, _)) = &items.value else { return };
    if items.layer.is_some() {
        report.error(key, "a field has a layer or a `value`, not both");
    }
    if let Some((key, _)) = &items.name {
        report
            .error(key, "`name` needs a layer: a field with a `value` has no place in the layout");
    }
    if let Some((key, _)) = &items.tie {
        report.error(key, "`tie` needs a layer: a field with a `value` has no parameters");
    }
}

fn layout_name(
    member: &Member,
    name: Option<LitStr>,
    earlier: &[Field],
    report: &mut Report,
) -> String {
    let field = member_name(member);
    let Some(literal) = name else {
        check_distinct_name(member, &field, earlier, report);
        return field;
    };
    let name = literal.value();
    if name.is_empty() {
        report.error(&literal, "an empty name: write `name = \"path\"`");
    } else {
        check_distinct_name(&literal, &name, earlier, report);
    }
    name
}

fn check_distinct_name(at: impl ToTokens, name: &str, earlier: &[Field], report: &mut Report) {
    let same = earlier
        .iter()
        .find(|field| matches!(field.kind, FieldKind::Layer { .. }) && field.name == name);
    if let Some(same) = same {
        let field = member_name(&same.member);
        report.error(at, format!("`{name}` is already the name of field `{field}` in the layout"));
    }
}

/// A field's name as it is spoken of: without `r#`, and a number in a tuple struct.
pub(crate) fn member_name(member: &Member) -> String {
    match member {
        Member::Named(ident) => ident.unraw().to_string(),
        Member::Unnamed(index) => index.index.to_string(),
    }
}

fn check_calls(layer: &Layer, report: &mut Report) {
    match layer {
        Layer::Call(call) => check_call(call, report),
        Layer::Target(..) => {}
        Layer::Repeat(layer, _) | Layer::When(_, layer) => check_calls(layer, report),
        Layer::List(layers) => layers.iter().for_each(|layer| check_calls(layer, report)),
    }
}

fn check_call(call: &Call, report: &mut Report) {
    if let Some((at, message)) = call::surplus(call) {
        report.error(at, message);
    }
}

/// A tie names a parameter of a layer above, so that the tensor exists when it is needed.
fn check_tie(
    tie: &Tie,
    layer: &Layer,
    (own, earlier, members): (&Member, &[Field], &[Member]),
    report: &mut Report,
) {
    if tie.param != "weight" {
        report.error(&tie.param, "only `weight` can be tied: `tie(weight = field.weight)`");
    }
    if !matches!(layer, Layer::Call(_)) {
        report.error(first_tokens(layer), "a tied field is one layer, written as a call: `linear_no_bias(8, 100), tie(weight = field.weight)`");
    }
    match earlier.iter().find(|field| field.member == tie.field) {
        Some(Field { kind: FieldKind::Layer { layer: Layer::Call(_), .. }, .. }) => {}
        Some(_) => report.error(&tie.field, tie_source_is_no_call(tie)),
        None => report.error(&tie.field, no_such_field(tie, own, earlier, members)),
    }
}

fn tie_source_is_no_call(tie: &Tie) -> String {
    let field = member_name(&tie.field);
    format!("field `{field}` can't be tied to: its layer is not written as a call")
}

fn no_such_field(tie: &Tie, own: &Member, earlier: &[Field], members: &[Member]) -> String {
    let field = member_name(&tie.field);
    if tie.field == *own {
        return format!("field `{field}` can't be tied to itself");
    }
    if members.contains(&tie.field) {
        return format!("field `{field}` comes later: a tie names a field above");
    }
    let names: Vec<_> = earlier.iter().map(|field| member_name(&field.member)).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let guess = similar(&field, &names).map(|name| format!("; did you mean `{name}`?"));
    format!("there is no field `{field}`{}", guess.unwrap_or_default())
}
