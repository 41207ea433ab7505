//! From what was written to what is meant; collects everything that is wrong.

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::ext::IdentExt;
use syn::{
    Expr, FnArg, Generics, Ident, LitStr, Member, Pat, Path, ReceiverKind, ReturnType, Safety,
    Signature, Type, Visibility, parse_quote,
};

use super::call;
use super::chain::parse::RawInput;
use super::chain::{self, Chain, RawChain, RawOutputs};
use super::field::{Field, FieldKind, member_name, same, same_member};
use super::parse::{
    Arg, Body, Call, FieldItem, Layer, RawField, RawRole, RawTarget, StructItem, Tie,
};
use super::role::{self, Holds};
use crate::attr::{similar, unknown_key};
use crate::report::Report;
use crate::span::shown_at;
use crate::tokens::{Found, idents};

const STRUCT_KEYS: &[&str] =
    &["config", "crate", "forward", "sequential", "sequential_t", "input", "output"];
const FIELD_KEYS: &[&str] = &["value", "name", "tie", "role"];

/// A target without errors, unless the report has some.
pub(crate) struct Target {
    pub(crate) header: Header,
    pub(crate) fields: Vec<Field>,
    pub(crate) chain: Option<Chain>,
}

/// What stands on the struct.
pub(crate) struct Header {
    /// The struct's name where it is used: shown where it is declared, but not the user's own use.
    pub(crate) ident: Ident,
    /// The attributes of all that is emitted.
    pub(crate) shared: TokenStream,
    pub(crate) vis: Visibility,
    pub(crate) generics: Generics,
    pub(crate) krate: Path,
    pub(crate) config: Option<Type>,
    pub(crate) forwards: Vec<Forward>,
    /// The key of the chain, where the target is one.
    pub(crate) sequential: Option<Ident>,
    /// The names of the chain's inputs, of which there is at least one.
    pub(crate) inputs: Vec<Option<Ident>>,
    /// At least one.
    pub(crate) num_outputs: usize,
    /// Whether a target in it is one of its own kind, which lies in a `Box`.
    pub(crate) holds_itself: bool,
}

/// A method that also gets a function over flat parameters.
pub(crate) struct Forward {
    pub(crate) name: Ident,
    pub(crate) args: Vec<(Ident, Type)>,
    pub(crate) output: Type,
}

/// Checks a target.
pub(crate) fn check(raw: RawTarget, report: &mut Report) -> Target {
    let mut items = raw.items;
    let chain = take_chain(&mut items, report);
    let input = take_input(&mut items, chain.is_some(), report);
    let output = take_output(&mut items, chain.is_some(), report);
    let ident = raw.ident.clone();
    let mut header = header(raw.vis, (raw.ident, raw.generics, raw.shared), items, report);
    header.sequential = chain.as_ref().map(|chain| chain.key.clone());
    let fields = match raw.body {
        Body::Struct(fields) => check_fields(&ident, fields, report),
        Body::Enum(token) => not_a_struct(token, report),
        Body::Union(token) => not_a_struct(token, report),
    };
    if header.config.is_none() {
        check_recursion(&header.ident, &fields, report);
    }
    header.holds_itself = fields.iter().any(|field| {
        matches!(field.kind, FieldKind::Layer { .. })
            && find_itself(field.ty.to_token_stream(), &header.ident).is_some()
    });
    if let Some(inputs) = &input {
        header.inputs = inputs.iter().map(|input| input.name.clone()).collect();
    }
    header.num_outputs = output.as_ref().map_or(1, |(_, outputs)| outputs.len().max(1));
    let chain = chain.map(|chain| chain::check(chain, (input, output), &fields, report));
    let target = Target { header, fields, chain };
    check_configs(&target, report);
    target
}

impl Target {
    /// The field that keeps the configuration, where steps of the chain read it.
    pub(crate) fn read_config(&self) -> Option<&Field> {
        let reads = self.chain.as_ref().is_some_and(|chain| !chain.reads_config().is_empty());
        self.header.config.as_ref().filter(|_| reads)?;
        kept_config(&self.fields)
    }
}

/// A step is made in each forward, where the configuration is what the target keeps of it.
fn check_configs(target: &Target, report: &mut Report) {
    let Target { header, fields, chain } = target;
    let (Some(chain), Some(config)) = (chain, &header.config) else { return };
    if kept_config(fields).is_some() {
        return;
    }
    let config = config.to_token_stream();
    for at in chain.reads_config() {
        report.error(&at, format!("`config` is known when the target is built, and this step is made in each forward: keep it, `#[hyper(value = config.clone())] config: {config}`, or make the step a field, as in `#[hyper(value = split_heads(config.heads))] heads: SplitHeads`"));
    }
}

/// The field `config` with a value, which steps read.
fn kept_config(fields: &[Field]) -> Option<&Field> {
    fields.iter().find(|field| {
        matches!(field.kind, FieldKind::Value(_)) && member_name(&field.member) == "config"
    })
}

/// A target in itself, whose size has no end.
fn check_recursion(ident: &Ident, fields: &[Field], report: &mut Report) {
    for field in fields {
        let FieldKind::Layer { layer, .. } = &field.kind else { continue };
        if !holds_target(layer) {
            continue;
        }
        if let Some(at) = find_itself(field.ty.to_token_stream(), ident) {
            let name = ident.unraw();
            report.error(at, format!("`{name}` holds itself, and nothing says how deep: give it a configuration, `#[hyper(config = Type)]`, and the field a condition, `#[hyper(if config.depth > 0 {{ target(config.below()) }})]`"));
        }
    }
}

/// Whether there is a target in the layer that takes no configuration.
fn holds_target(layer: &Layer) -> bool {
    match layer {
        Layer::Call(_) => false,
        Layer::Target(_, config) => config.is_none(),
        Layer::Repeat(layer, _) | Layer::When(_, layer) => holds_target(layer),
        Layer::List(layers) => layers.iter().any(holds_target),
    }
}

/// Where a type names the struct that it stands in: by its name alone, or as `Self`.
fn find_itself(ty: TokenStream, ident: &Ident) -> Option<Ident> {
    let is_itself = |found: &Found| {
        found.after != Some(':') && (same(&found.ident, ident) || found.ident == "Self")
    };
    idents(ty).into_iter().find(is_itself).map(|found| found.ident)
}

/// The one chain among the items.
fn take_chain(items: &mut Vec<StructItem>, report: &mut Report) -> Option<RawChain> {
    let mut chain = Once::new();
    for item in items.extract_if(.., |item| matches!(item, StructItem::Sequential(..))) {
        let StructItem::Sequential(key, steps) = item else { continue };
        match &chain.value {
            Some(RawChain { key: first, .. }) if *first != key => {
                report.error(&key, format!("a target has one chain, and `{first}` is given"));
            }
            _ => chain.set(&key.clone(), RawChain { key, steps }, report),
        }
    }
    chain.value
}

/// The shape of a sample, which only a chain can take.
fn take_input(
    items: &mut Vec<StructItem>,
    chained: bool,
    report: &mut Report,
) -> Option<Vec<RawInput>> {
    let mut input = Once::new();
    for item in items.extract_if(.., |item| matches!(item, StructItem::Input(..))) {
        let StructItem::Input(key, inputs) = item else { continue };
        if !chained {
            report.error(&key, "`input` needs `sequential`: the shapes of a forward that is written by hand are not known");
        }
        input.set(&key, inputs, report);
    }
    input.value
}

/// What a chain gives, where that is several values.
fn take_output(
    items: &mut Vec<StructItem>,
    chained: bool,
    report: &mut Report,
) -> Option<RawOutputs> {
    let mut output = Once::new();
    for item in items.extract_if(.., |item| matches!(item, StructItem::Output(..))) {
        let StructItem::Output(key, outputs) = item else { continue };
        if !chained {
            report.error(&key, "`output` needs `sequential`: a forward that is written by hand says itself what it gives");
        }
        output.set(&key.clone(), (key, outputs), report);
    }
    output.value
}

fn not_a_struct(token: impl ToTokens, report: &mut Report) -> Vec<Field> {
    report.error(token, "a target is a struct whose fields are layers");
    Vec::new()
}

fn header(
    vis: Visibility,
    (mut ident, generics, shared): (Ident, Generics, TokenStream),
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
            // Taken before.
            StructItem::Sequential(..) | StructItem::Input(..) | StructItem::Output(..) => {}
        }
    }
    check_distinct_forwards(&forwards, report);
    ident.set_span(shown_at(ident.span()));
    let (krate, config) = (krate.value.unwrap_or_else(|| parse_quote!(::hypernn)), config.value);
    Header {
        ident,
        shared,
        vis,
        generics,
        krate,
        config,
        forwards,
        sequential: None,
        inputs: vec![None],
        num_outputs: 1,
        holds_itself: false,
    }
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
        if forwards[..i].iter().any(|earlier| same(&earlier.name, &forward.name)) {
            let name = forward.name.unraw();
            report.error(&forward.name, format!("`forward` of `{name}` is given twice"));
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
        let name = ident.unraw();
        report.error(ident, format!("`{name}` has no parameters: a target has at least one field with a layer, such as `#[hyper(linear(64, 10))] fc: Linear`"));
    }
    fields
}

/// The items of one field, by kind.
struct Items {
    layer: Option<Layer>,
    value: Option<(Ident, Expr)>,
    name: Option<(Ident, LitStr)>,
    tie: Option<(Ident, Tie)>,
    role: Option<(Ident, RawRole)>,
}

fn check_field(
    field: RawField,
    earlier: &[Field],
    members: &[Member],
    report: &mut Report,
) -> Field {
    let RawField { member, ty, items } = field;
    check_self(&items, report);
    let items = sort_items(items, report);
    check_combination(&items, report);
    let holds = Holds { layer: items.layer.as_ref(), tied: items.tie.is_some() };
    let role = items.role.as_ref().and_then(|(_, role)| role::check(role, holds, report));
    let name = layout_name(&member, items.name.map(|(_, name)| name), earlier, report);
    let kind = match items.value {
        Some((_, value)) if items.layer.is_none() => FieldKind::Value(value),
        _ => {
            let layer = items.layer.unwrap_or_else(|| nested(&member));
            check_calls(&layer, report);
            let tie = items.tie.map(|(_, tie)| tie);
            if let Some(tie) = &tie {
                check_tie(tie, &layer, (&member, earlier, members), report);
            }
            FieldKind::Layer { layer, tie }
        }
    };
    Field { member, ty, name, role, kind }
}

/// There is no `self` before its fields are made.
fn check_self(items: &[FieldItem], report: &mut Report) {
    for item in items {
        let expressions = match item {
            FieldItem::Layer(layer) => expressions(layer),
            FieldItem::Value(_, value) => vec![value],
            FieldItem::Name(..)
            | FieldItem::Tie(..)
            | FieldItem::Role(..)
            | FieldItem::Unknown(_) => Vec::new(),
        };
        let role = match item {
            FieldItem::Role(_, role) => role.args.clone(),
            _ => None,
        };
        let tokens = expressions.into_iter().map(ToTokens::to_token_stream).chain(role);
        for at in tokens.filter_map(find_self) {
            report.error(at, "there is no `self` here: the fields are made before the struct is; use a constant or the struct's `config`");
        }
    }
}

/// The expressions in a layer.
fn expressions(layer: &Layer) -> Vec<&Expr> {
    match layer {
        Layer::Call(call) => {
            let values = call.args.iter().map(|arg| match arg {
                Arg::Positional(value) | Arg::Named(_, value) => value,
            });
            values.collect()
        }
        Layer::Target(_, config) => config.iter().map(|config| &**config).collect(),
        Layer::Repeat(layer, expr) | Layer::When(expr, layer) => {
            expressions(layer).into_iter().chain([&**expr]).collect()
        }
        Layer::List(layers) => layers.iter().flat_map(expressions).collect(),
    }
}

/// The first `self` among tokens.
fn find_self(tokens: TokenStream) -> Option<Ident> {
    idents(tokens).into_iter().map(|found| found.ident).find(|ident| ident == "self")
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
    let (mut name, mut tie, mut role) = (Once::new(), Once::new(), Once::new());
    for item in items {
        match item {
            FieldItem::Layer(new) => set_layer(&mut layer, new, report),
            FieldItem::Value(key, new) => value.set(&key.clone(), (key, new), report),
            FieldItem::Name(key, new) => name.set(&key.clone(), (key, new), report),
            FieldItem::Tie(key, new) => tie.set(&key.clone(), (key, new), report),
            FieldItem::Role(key, new) => role.set(&key.clone(), (key, new), report),
            FieldItem::Unknown(key) => unknown_on_field(&key, report),
        }
    }
    Items { layer, value: value.value, name: name.value, tie: tie.value, role: role.value }
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
fn first_tokens(layer: &Layer) -> TokenStream {
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
    if let Some((key, _)) = &items.role {
        report.error(key, "`role` needs a layer: a field with a `value` has no parameters");
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
    if tie.param.unraw() != "weight" {
        report.error(&tie.param, "only `weight` can be tied: `tie(weight = field.weight)`");
    }
    if !matches!(layer, Layer::Call(_)) {
        report.error(first_tokens(layer), "a tied field is one layer, written as a call: `linear_no_bias(8, 100), tie(weight = field.weight)`");
    }
    match earlier.iter().find(|field| same_member(&field.member, &tie.field)) {
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
    if same_member(&tie.field, own) {
        return format!("field `{field}` can't be tied to itself");
    }
    if members.iter().any(|member| same_member(member, &tie.field)) {
        return format!("field `{field}` comes later: a tie names a field above");
    }
    let names: Vec<_> = earlier.iter().map(|field| member_name(&field.member)).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let guess = similar(&field, &names).map(|name| format!("; did you mean `{name}`?"));
    format!("there is no field `{field}`{}", guess.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use quote::quote;

    use super::*;
    use crate::hyper_target::parse;

    /// The messages for a declaration.
    fn messages(input: TokenStream) -> Vec<String> {
        let mut report = Report::default();
        let Ok(input) = syn::parse2(input) else { return vec!["not an item".to_owned()] };
        check(parse::parse(input, &mut report), &mut report);
        report.messages()
    }

    /// The only message for a declaration.
    fn message(input: TokenStream) -> String {
        let messages = messages(input);
        assert_eq!(messages.len(), 1, "{messages:#?}");
        messages.concat()
    }

    /// The only message for a field after `embed: Linear`.
    fn field(attr: TokenStream) -> String {
        message(quote! {
            struct S {
                #[hyper(linear_no_bias(2, 3))]
                embed: Linear,
                #attr
                field: Linear,
                #[hyper(linear(2, 3))]
                later: Linear,
            }
        })
    }

    /// The only message for attributes of a struct.
    fn on_struct(attrs: TokenStream) -> String {
        message(quote!(#attrs struct S { #[hyper(linear(1, 2))] fc: Linear }))
    }

    #[test]
    fn a_right_declaration_has_no_errors() {
        let right = quote! {
            #[hyper(config = Sizes<A, B>, crate = ::renamed::hypernn)]
            #[hyper(forward(fn step(&self, xs: &Tensor, by: f64) -> Result<Tensor>))]
            struct S<'a, T, const N: usize> where T: Sized {
                #[hyper(conv2d(1, 8, 5, stride = 2), name = "first")]
                #[doc = "text"]
                a: Conv2d,
                #[hyper([if config.b { (linear(1, 2)) }, if !config.b { linear(1, 2) }])]
                b: Vec<Option<Linear>>,
                #[hyper(linear(1, 2))]
                c: Linear,
                #[hyper(linear(1, 2))]
                #[hyper(tie(weight = c.weight))]
                d: Linear,
                #[hyper(value = f(x, y))]
                e: &'a str,
            }
        };
        assert_eq!(messages(right), Vec::<String>::new());
        let right = quote! {
            struct S(#[hyper([target(&config.a); 3])] A, B, #[hyper(target)] C, #[hyper(a::b(1))] D,
                #[hyper(linear(1, 2))] Linear, #[hyper(linear(1, 2), tie(weight = 4.weight))] E);
        };
        assert_eq!(messages(right), Vec::<String>::new());
    }

    #[test]
    fn only_structs_with_parameters_are_targets() {
        let no_struct = "a target is a struct whose fields are layers";
        assert_eq!(
            message(quote!(
                enum E {
                    A,
                }
            )),
            no_struct
        );
        assert_eq!(message(quote!(union U { a: u8 })), no_struct);
        for empty in [
            quote!(
                struct S;
            ),
            quote!(
                struct S {}
            ),
            quote!(
                struct S(#[hyper(value = 1)] u8);
            ),
        ] {
            assert!(message(empty).starts_with("`S` has no parameters: "));
        }
    }

    #[test]
    fn a_target_in_itself_needs_a_configuration() {
        let holds = |attr: TokenStream, ty: TokenStream| {
            messages(quote!(struct r#S { #[hyper(linear(1, 2))] fc: Linear, #attr next: #ty }))
        };
        let when = quote!(#[hyper(if DEEP { target })]);
        for ty in [quote!(Option<Box<S>>), quote!(Box<Self>), quote!([S; 2]), quote!((u8, S))] {
            let found = holds(when.clone(), ty);
            assert!(found.concat().starts_with("`S` holds itself, and nothing says"), "{found:?}");
        }
        for ty in [quote!(other::S), quote!(S2), quote!(Option<::a::S>)] {
            assert_eq!(holds(when.clone(), ty), [""; 0]);
        }
        assert_eq!(holds(quote!(#[hyper(own::layer(1))]), quote!(Own<S>)), [""; 0]);
        let configured = quote! {
            #[hyper(config = Sizes)]
            struct S { #[hyper(if config.deep { target(config) })] next: Option<Box<S>> }
        };
        assert_eq!(messages(configured), [""; 0]);
    }

    #[test]
    fn a_key_stands_once() {
        assert_eq!(on_struct(quote!(#[hyper(config = A, config = B)])), "`config` is given twice");
        assert_eq!(
            on_struct(quote!(#[hyper(crate = a)] #[hyper(crate = b)])),
            "`crate` is given twice"
        );
        assert_eq!(
            field(quote!(#[hyper(linear(1, 2), name = "a", name = "b")])),
            "`name` is given twice"
        );
        assert_eq!(
            field(quote!(#[hyper(value = 1)] #[hyper(value = 2)])),
            "`value` is given twice"
        );
        let tie = quote!(tie(weight = embed.weight));
        assert_eq!(field(quote!(#[hyper(linear(1, 2), #tie, #tie)])), "`tie` is given twice");
        assert!(
            field(quote!(#[hyper(linear(1, 2), linear(2, 3))]))
                .starts_with("a field has one layer")
        );
    }

    #[test]
    fn unknown_keys_are_named() {
        assert_eq!(
            on_struct(quote!(#[hyper(confg = A)])),
            "unknown key `confg`; did you mean `config`? (known here: `config`, `crate`, `forward`, `sequential`, `sequential_t`, `input`, `output`)"
        );
        assert_eq!(
            field(quote!(#[hyper(linear(1, 2), bias = true)])),
            "unknown key `bias` (known here: `value`, `name`, `tie`, `role`)"
        );
        assert!(
            field(quote!(#[hyper(linear(1, 2), tei(weight = embed.weight))])).contains("`tie`?")
        );
    }

    #[test]
    fn a_key_in_the_wrong_place_is_sent_to_the_right_one() {
        assert_eq!(on_struct(quote!(#[hyper(linear(1, 2))])), "`linear` belongs on a field");
        assert_eq!(on_struct(quote!(#[hyper(tie(weight = a.weight))])), "`tie` belongs on a field");
        assert_eq!(
            field(quote!(#[hyper(config = A)])),
            "`config` belongs on the struct, above its name"
        );
    }

    #[test]
    fn a_value_excludes_what_needs_a_layer() {
        assert_eq!(
            field(quote!(#[hyper(linear(1, 2), value = 1)])),
            "a field has a layer or a `value`, not both"
        );
        assert!(field(quote!(#[hyper(value = 1, name = "a")])).starts_with("`name` needs a layer"));
        let tied = quote!(#[hyper(value = 1, tie(weight = embed.weight))]);
        assert!(field(tied).starts_with("`tie` needs a layer"));
    }

    fn tied(tie: TokenStream) -> String {
        field(quote!(#[hyper(linear(2, 3), tie(#tie))]))
    }

    #[test]
    fn a_tie_names_a_layer_above() {
        assert_eq!(
            tied(quote!(weight = embd.weight)),
            "there is no field `embd`; did you mean `embed`?"
        );
        assert_eq!(tied(quote!(weight = other.weight)), "there is no field `other`");
        assert_eq!(tied(quote!(weight = field.weight)), "field `field` can't be tied to itself");
        assert!(tied(quote!(weight = later.weight)).starts_with("field `later` comes later"));
        assert!(tied(quote!(bias = embed.bias)).starts_with("only `weight` can be tied"));
    }

    #[test]
    fn both_ends_of_a_tie_are_calls() {
        let list = quote!(#[hyper([linear(2, 3); 2], tie(weight = embed.weight))]);
        assert!(field(list).starts_with("a tied field is one layer"));
        let nested = quote! {
            struct S { a: A, #[hyper(linear(1, 2), tie(weight = a.weight))] b: Linear }
        };
        assert!(message(nested).starts_with("field `a` can't be tied to"));
    }

    #[test]
    fn a_malformed_item_shows_the_right_form() {
        let form = "the form is `#[hyper(…, tie(weight = field.weight))]`";
        for tie in [quote!(weight = embed), quote!(weight), quote!(), quote!(weight = embed.a.b)] {
            assert!(tied(tie).ends_with(form));
        }
        assert!(field(quote!(#[hyper(value)])).ends_with("`#[hyper(value = EXPR)]`"));
        assert!(field(quote!(#[hyper(linear(1, 2), name = a)])).contains("name = \"path\""));
        assert!(on_struct(quote!(#[hyper(config(A))])).ends_with("`#[hyper(config = Type)]`"));
        assert!(on_struct(quote!(#[hyper(forward)])).contains("forward(fn step(&self"));
    }

    #[test]
    fn what_is_no_layer_is_told_what_is() {
        assert!(
            field(quote!(#[hyper(linear)])).starts_with("`linear` is not a call; expected a layer")
        );
        assert!(field(quote!(#[hyper("linear")])).starts_with("expected a layer"));
        assert!(field(quote!(#[hyper([])])).starts_with("the list has no layers"));
        assert!(field(quote!(#[hyper(if A { linear(1, 2) } else { x })])).contains("no `else`"));
        assert!(
            field(quote!(#[hyper(if A { linear(1, 2), x })])).contains("one layer in the braces")
        );
        assert!(field(quote!(#[hyper(linear(1, 2, vb))])).starts_with("leave out `vb`"));
        assert!(field(quote!(#[hyper([linear(1, 2, 3); 2])])).starts_with("`linear` takes 2"));
    }

    #[test]
    fn names_in_the_layout_differ() {
        let taken = "`embed` is already the name of field `embed` in the layout";
        assert_eq!(field(quote!(#[hyper(linear(1, 2), name = "embed")])), taken);
        assert!(field(quote!(#[hyper(linear(1, 2), name = "")])).starts_with("an empty name"));
        let later = "`later` is already the name of field `field` in the layout";
        assert_eq!(field(quote!(#[hyper(linear(1, 2), name = "later")])), later);
    }

    fn forward(signature: TokenStream) -> String {
        on_struct(quote!(#[hyper(forward(#signature))]))
    }

    #[test]
    fn a_forward_function_can_be_called_as_it_stands() {
        for receiver in [quote!(), quote!(self), quote!(&mut self), quote!(self: Box<Self>)] {
            let message = forward(quote!(fn step(#receiver) -> Result<Tensor>));
            assert!(message.starts_with("a forward function takes `&self`"), "{message}");
        }
        assert!(forward(quote!(fn step<T>(&self) -> Result<T>)).contains("no generics"));
        assert!(forward(quote!(async fn step(&self) -> Result<T>)).contains("plain `fn`"));
        assert!(forward(quote!(fn step(&self))).contains("returns a `Result`"));
        assert!(forward(quote!(fn step(&self, (a, b): P) -> R)).contains("is a name"));
        let twice = quote!(#[hyper(forward(fn f(&self) -> R), forward(fn f(&self) -> R))]);
        assert_eq!(on_struct(twice), "`forward` of `f` is given twice");
    }

    #[test]
    fn all_errors_are_reported_at_once() {
        let found = messages(quote! {
            #[hyper(confg = A, forward(fn step<T>() -> R))]
            struct S {
                #[hyper(linear)]
                a: Linear,
                #[hyper(linear(1, 2, 3), vaule = 1, tie(bias = z.weight))]
                b: Linear,
            }
        });
        assert_eq!(found.len(), 8, "{found:#?}");
    }
}
