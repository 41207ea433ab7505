//! The code of a checked target. Everything is named by its full path, and every generated local
//! name begins with `__`, so that nothing in the user's scope can get in the way.

use proc_macro2::{Group, Span, TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::{Generics, Ident, Member, Type, parse_quote};

use super::check::{Forward, Header, Target};
use super::field::{Field, FieldKind, member_name, used};
use super::flow::{self, Flow};
use super::parse::{Layer, Tie};
use super::role::{Lora, Role};
use super::spec::Counted;
use super::typed::{typed_spec, where_known};
use super::{bounds, forward, spec};
use crate::span::{ends, shown_at};

/// All that a target needs.
pub(crate) fn expand(target: &Target) -> TokenStream {
    let implementation = among_names(&target.header, &implementation(target));
    let (values, imports) = (values(target), imports(&target.header, is_fixed(target)));
    quote!(#imports #implementation #values)
}

/// The traits whose constants are the target's own, `Net::NUM_PARAMS`, in the scope of its declaration. They are no
/// inherent constants, so that the struct may have such of its own.
fn imports(header: &Header, fixed: bool) -> TokenStream {
    let Header { krate, shared, sequential, config, .. } = header;
    let fixed = fixed.then(|| quote!(#shared use #krate::FixedTarget as _;));
    let shaped = sequential.is_some() && config.is_none();
    let shaped = shaped.then(|| quote!(#shared use #krate::ShapedTarget as _;));
    quote!(#fixed #shaped)
}

/// A scope in which the constructors' names mean specs, and generated code is short to write.
fn among_names(header: &Header, implementation: &TokenStream) -> TokenStream {
    let krate = &header.krate;
    let shared = &header.shared;
    quote! {
        #shared
        const _: () = {
            use #krate::__private::{self as __p, NoLayer as _, spec::*};
            #implementation
        };
    }
}

fn implementation(target: &Target) -> TokenStream {
    let header = &target.header;
    let (buildable, fixed) = (bounds::buildable(target), bounds::fixed(target));
    let count = is_fixed(target).then(|| num_params(target));
    let parts = [
        hyper_target(header, &buildable, &build(target), &network(target)),
        parameters(header, &buildable, &visit(target)),
        hyper_layer(header, &buildable),
        count.map(|count| fixed_target(header, &fixed, &count)).unwrap_or_default(),
        forwards(header, &buildable),
        chain(target),
        constants(target),
    ];
    parts.into_iter().collect()
}

/// A function for each field without parameters: its expression means what it means to the user.
fn values(target: &Target) -> TokenStream {
    let header = &target.header;
    let functions: Vec<_> = target.fields.iter().filter_map(|field| value(field, header)).collect();
    if functions.is_empty() {
        return TokenStream::new();
    }
    let Header { ident, generics, shared, .. } = header;
    let (impl_generics, ty_generics, where_clause) = generics.split_for_impl();
    quote! {
        #shared
        impl #impl_generics #ident #ty_generics #where_clause {
            #(#functions)*
        }
    }
}

fn value(field: &Field, header: &Header) -> Option<TokenStream> {
    let FieldKind::Value(value) = &field.kind else { return None };
    let (ty, function) = (&field.ty, value_function(&field.member));
    let (argument, config) = (config_argument(header), config_type(header));
    // In parentheses: an expression may mean something else in the place of a statement.
    let value = quote_spanned!(ends(value).1=> (#value));
    Some(quote!(fn #function(#argument: &#config) -> #ty { #value }))
}

pub(crate) fn value_function(member: &Member) -> Ident {
    format_ident!("__value_of_{}", member_name(member), span = Span::mixed_site())
}

/// Impls that let the rest of the program compile while the declaration is wrong.
pub(crate) fn stub(header: &Header) -> TokenStream {
    let generics = &header.generics;
    let parts = [
        hyper_target(header, generics, &quote!(__p::invalid()), &TokenStream::new()),
        parameters(header, generics, &quote!(__p::StdResult::Ok(()))),
        hyper_layer(header, generics),
        fixed_target(header, generics, &quote!(0)),
        forwards(header, generics),
        chain_stub(header),
    ];
    let (imports, stubs) = (imports(header, true), parts.into_iter().collect());
    let stubs = among_names(header, &stubs);
    quote!(#imports #stubs)
}

/// The forward of a chain, and its shapes.
fn chain(target: &Target) -> TokenStream {
    let Some(chain) = &target.chain else { return TokenStream::new() };
    let Some(key) = &target.header.sequential else { return TokenStream::new() };
    let (module, flow) = (forward::module(target, chain, key), Flow::new(target, chain));
    let constants = flow.constants(target, chain);
    quote!(#module #constants)
}

fn chain_stub(header: &Header) -> TokenStream {
    let Some(key) = &header.sequential else { return TokenStream::new() };
    let (module, shapes) = (forward::stub(header, key), flow::stub(header));
    quote!(#module #shapes)
}

fn config_type(header: &Header) -> TokenStream {
    header.config.as_ref().map_or(quote!(()), ToTokens::to_token_stream)
}

/// The argument that the user's expressions read, by the name they read it.
pub(crate) fn config_argument(header: &Header) -> Ident {
    match header.config {
        Some(_) => Ident::new("config", Span::call_site()),
        None => Ident::new("__config", Span::mixed_site()),
    }
}

/// The steps of a chain with their shapes.
fn network(target: &Target) -> TokenStream {
    target.chain.as_ref().map(|chain| Flow::new(target, chain).network()).unwrap_or_default()
}

fn hyper_target(
    header: &Header,
    generics: &Generics,
    body: &TokenStream,
    network: &TokenStream,
) -> TokenStream {
    let Header { ident, .. } = header;
    let (config, argument) = (config_type(header), config_argument(header));
    let name = ident.unraw().to_string();
    let (impl_generics, _, where_clause) = generics.split_for_impl();
    let (_, ty_generics, _) = header.generics.split_for_impl();
    quote! {
        #[automatically_derived]
        impl #impl_generics __p::HyperTarget for #ident #ty_generics #where_clause {
            type Config = #config;

            const NAME: &'static __p::str = #name;

            // Each of its fields tells for itself.
            const TAKES_SETS: __p::bool = true;

            fn build(
                #argument: &Self::Config,
                __source: &mut dyn __p::ParamSource,
            ) -> __p::Result<Self> {
                #body
            }

            #network
        }
    }
}

fn parameters(header: &Header, generics: &Generics, body: &TokenStream) -> TokenStream {
    let Header { ident, .. } = header;
    let (impl_generics, ty_generics, where_clause) = generics.split_for_impl();
    quote! {
        #[automatically_derived]
        impl #impl_generics __p::Parameters for #ident #ty_generics #where_clause {
            fn visit(&self, __visitor: &mut __p::Visitor<'_>) -> __p::Result<()> {
                #body
            }
        }
    }
}

/// A target is also a layer, so that it can be a field of another.
fn hyper_layer(header: &Header, generics: &Generics) -> TokenStream {
    let Header { ident, .. } = header;
    let config = config_type(header);
    let mut with_config = generics.clone();
    with_config.params.push(parse_quote!(__B: __p::Configures<#config>));
    let (impl_generics, _, _) = with_config.split_for_impl();
    let (_, ty_generics, where_clause) = generics.split_for_impl();
    quote! {
        #[automatically_derived]
        impl #impl_generics __p::HyperLayer<__p::NestedSpec<__B>> for #ident #ty_generics
        #where_clause
        {
            // Each of its fields tells for itself.
            const TAKES_SETS: __p::bool = true;

            fn build(
                __spec: &__p::NestedSpec<__B>,
                __source: &mut dyn __p::ParamSource,
            ) -> __p::Result<Self> {
                let __config = <__B as __p::Configures<#config>>::config(&__spec.0);
                <Self as __p::HyperTarget>::build(__config, __source)
            }
        }
    }
}

fn fixed_target(header: &Header, generics: &Generics, count: &TokenStream) -> TokenStream {
    let Header { ident, .. } = header;
    let (impl_generics, ty_generics, where_clause) = generics.split_for_impl();
    quote! {
        #[automatically_derived]
        impl #impl_generics __p::FixedTarget for #ident #ty_generics #where_clause {
            const NUM_PARAMS: __p::usize = #count;
        }
    }
}

fn forwards(header: &Header, generics: &Generics) -> TokenStream {
    let ident = &header.ident;
    let functions: Vec<_> =
        header.forwards.iter().map(|forward| functional(header, forward)).collect();
    if functions.is_empty() {
        return TokenStream::new();
    }
    let (impl_generics, ty_generics, where_clause) = generics.split_for_impl();
    quote! {
        #[automatically_derived]
        impl #impl_generics #ident #ty_generics #where_clause {
            #(#functions)*
        }
    }
}

/// A method as a function of the flat parameters.
fn functional(header: &Header, forward: &Forward) -> TokenStream {
    let vis = &header.vis;
    let Forward { name, args, output } = forward;
    let span = shown_at(name.span());
    let function = format_ident!("functional_{}", name.unraw(), span = span);
    let doc = format!("`unpack(flat)?.{}(…)`.", name.unraw());
    let (names, types): (Vec<_>, Vec<_>) = args.iter().cloned().unzip();
    let flat = Ident::new("flat", Span::mixed_site());
    let config = Ident::new("config", Span::mixed_site());
    let (span, end) = ends(output);
    let (argument, unpacked) = match &header.config {
        Some(ty) => (
            quote!(#config: &#ty,),
            quote_spanned!(span=> __p::GeneratedParams::<Self>::from_flat(#config, #flat)?.unpack()),
        ),
        None => {
            (TokenStream::new(), quote_spanned!(span=> <Self as __p::HyperTarget>::unpack(#flat)))
        }
    };
    // The result is shown at the output's type.
    let arguments = quote_spanned!(end=> (#(#names),*));
    let body = quote_spanned! {span=>
        #unpacked?.#name #arguments
    };
    quote! {
        #[doc = #doc]
        ///
        /// # Errors
        /// The vector's length or rank is not the target's, or the method's own.
        #vis fn #function(
            #argument
            #flat: &__p::Tensor,
            #(#names: #types),*
        ) -> #output {
            #body
        }
    }
}

/// The variable that holds a field while the target is built.
fn local(member: &Member) -> Ident {
    format_ident!("__field_{}", member_name(member), span = Span::mixed_site())
}

/// The body of `build`: a statement per field, in order.
fn build(target: &Target) -> TokenStream {
    let checks = is_generic(target).then(|| generic_checks(target));
    let shapes = configured_shapes(target);
    let fields = target.fields.iter().map(|field| build_field(field, target));
    let members = target.fields.iter().map(|field| {
        let (member, built) = (used(&field.member), local(&field.member));
        quote!(#member: #built)
    });
    let described = described(target);
    quote! {
        #checks
        #shapes
        #described
        #(#fields)*
        __p::StdResult::Ok(Self { #(#members),* })
    }
}

/// What a checkpoint says of a chain.
fn described(target: &Target) -> Option<TokenStream> {
    let text = target.chain.as_ref()?.in_files(&target.fields);
    Some(quote!(__p::ParamSource::describe(__source, &#text);))
}

/// Where sizes are known only at run time, so are the shapes along a chain.
fn configured_shapes(target: &Target) -> Option<TokenStream> {
    let Header { config: Some(_), sequential: Some(_), .. } = &target.header else {
        return None;
    };
    Some(quote!(__p::ensure((&Self::__chain(config)).first())?;))
}

fn build_field(field: &Field, target: &Target) -> TokenStream {
    let built = local(&field.member);
    match &field.kind {
        FieldKind::Value(_) => {
            let (function, argument) =
                (value_function(&field.member), config_argument(&target.header));
            let (ty, name) = (&field.ty, &field.name);
            if bounds::mentions_generics(ty, target) {
                return quote! {
                    let #built = __p::made_anew(#name, __source, || Self::#function(#argument));
                };
            }
            quote! {
                let #built = (&__p::ValueOf::<#ty>::NEW)
                    .value_of_field(#name, __source, || Self::#function(#argument))?;
            }
        }
        FieldKind::Layer { layer, tie } => {
            let (configs, spec) = (spec::configs(layer), built_spec(layer, target));
            let made = make(field, layer, tie.as_ref());
            quote! {
                #(let _ = || #configs;)*
                let __spec = #spec;
                let #built = #made?;
            }
        }
    }
}

/// The spec where the target is built: a constant where it is one elsewhere, whose errors are reported there.
fn built_spec(layer: &Layer, target: &Target) -> TokenStream {
    let spec = spec::spec(layer);
    match target.header.config.is_none() && spec::is_constant(layer) {
        true => quote!(const { #spec }),
        false => spec,
    }
}

fn make(field: &Field, layer: &Layer, tie: Option<&Tie>) -> TokenStream {
    let name = &field.name;
    let (spec, role) = (typed_spec(field, layer), with_role(field));
    let Some(Tie { param, field: source, source: parameter }) = tie else {
        return quote!((&#spec #role).build(#name, __source));
    };
    let from = local(source);
    let (param, parameter) = (param.unraw().to_string(), parameter.unraw().to_string());
    let source = member_name(source);
    quote! {
        {
            use __p::NoParameters as _;
            let __tied = (&__p::FieldRef(&#from)).parameter(#source, #parameter)?;
            (&#spec #role).build_tied(#name, __source, (#param, __tied))
        }
    }
}

/// The field's role as a call.
fn with_role(field: &Field) -> Option<TokenStream> {
    let role = match field.role.as_ref()? {
        Role::Train => quote!(__p::Role::Train),
        Role::Freeze => quote!(__p::Role::Freeze),
        Role::Lora(call) => adapter(call),
    };
    Some(quote!(.with_role(#role)))
}

/// A low-rank adapter's role, whatever its constructors are called around.
fn adapter(lora: &Lora) -> TokenStream {
    let Lora { name, args, .. } = lora;
    quote!(__p::role::spec::#name(#args))
}

/// The body of `visit`.
fn visit(target: &Target) -> TokenStream {
    let visits = target.fields.iter().filter_map(visit_field);
    quote! {
        use __p::NoParameters as _;
        #(#visits)*
        __p::StdResult::Ok(())
    }
}

fn visit_field(field: &Field) -> Option<TokenStream> {
    let FieldKind::Layer { tie, .. } = &field.kind else { return None };
    let member = used(&field.member);
    let field = quote!((&__p::FieldRef(&self.#member)));
    Some(match tie {
        None => quote!(#field.visit(__visitor)?;),
        Some(tie) => {
            let param = tie.param.unraw().to_string();
            quote!(#field.visit_untied(#param, __visitor)?;)
        }
    })
}

fn layers(target: &Target) -> impl Iterator<Item = (&Field, &Layer, Option<&Tie>)> {
    target.fields.iter().filter_map(|field| match &field.kind {
        FieldKind::Layer { layer, tie } => Some((field, layer, tie.as_ref())),
        FieldKind::Value(_) => None,
    })
}

fn is_generic(target: &Target) -> bool {
    !target.header.generics.params.is_empty()
}

/// Whether all sizes are constants.
fn is_fixed(target: &Target) -> bool {
    target.header.config.is_none()
        && !layers(target)
            .any(|(field, layer, _)| field.role.is_none() && spec::passes_config(layer))
}

fn num_params(target: &Target) -> TokenStream {
    let counts = layers(target).filter_map(|(field, layer, tie)| {
        let ty = field.ty.to_token_stream();
        let counted = match &field.role {
            Some(Role::Train | Role::Freeze) => return None,
            Some(Role::Lora(call)) => Counted::Adapters(adapter(call)),
            None if tie.is_some() => Counted::Untied,
            None => Counted::All,
        };
        Some(where_known(field, layer, spec::count(layer, &ty, &counted)))
    });
    // A constant in the constant: rustc would report an overflow in the user's sizes twice, as a lint and as the
    // error that it is.
    quote!(const { 0 #(+ #counts)* })
}

/// Constant expressions that fail to evaluate where a field's sizes or its type won't do.
fn checks(target: &Target) -> Vec<TokenStream> {
    if target.header.config.is_some() {
        return Vec::new();
    }
    let with_calls = layers(target).filter(|(_, layer, _)| spec::is_constant(layer));
    let checks = with_calls.flat_map(|(field, layer, _)| field_checks(field, layer));
    checks.chain(chain_checks(target)).collect()
}

fn chain_checks(target: &Target) -> Vec<TokenStream> {
    let Some(chain) = &target.chain else { return Vec::new() };
    Flow::new(target, chain).checks(chain)
}

fn field_checks(field: &Field, layer: &Layer) -> Vec<TokenStream> {
    let (name, spec, (span, end)) =
        (member_name(&field.member), spec::spec(layer), ends(&field.ty));
    let (typed, denied) = (typed_spec(field, layer), quote_spanned!(end=> (#name)));
    let refused = quote_spanned! {span=> {
        let __spec = #spec;
        (&#typed).deny #denied
    }};
    let mut checks = spec::checks(layer);
    if let Some(Role::Lora(lora)) = &field.role {
        checks.extend(spec::adapter_checks(layer, &adapter(lora), &lora.rank));
    }
    let checks = checks.into_iter().map(|check| where_known(field, layer, check));
    checks.chain([refused]).chain(array_check(field, layer)).collect()
}

/// An array's length is the number of its layers.
fn array_check(field: &Field, layer: &Layer) -> Option<TokenStream> {
    let Type::Array(array) = bare_type(&field.ty) else { return None };
    let (found, len, name) = (spec::len(layer)?, &array.len, member_name(&field.member));
    let (span, end) = ends(len);
    let problem = quote_spanned!(end=> (__p::array(#name, #len, #found)));
    Some(quote_spanned!(span=> __p::deny #problem))
}

/// The type in the invisible groups that the arguments of macros come in.
fn bare_type(ty: &Type) -> &Type {
    match ty {
        Type::Group(group) => bare_type(&group.elem),
        Type::Paren(paren) => bare_type(&paren.elem),
        ty => ty,
    }
}

/// The checks of a generic target, evaluated for each of its types.
fn generic_checks(target: &Target) -> TokenStream {
    let checks = checks(target);
    quote!(#(const { #checks })*)
}

/// The checks of a target without generics, evaluated at once.
fn constants(target: &Target) -> TokenStream {
    if is_generic(target) {
        return TokenStream::new();
    }
    let ident = &target.header.ident;
    let checks = checks(target).into_iter().map(|check| name_self(check, ident));
    quote!(#(const _: () = #checks;)*)
}

/// Outside of an impl, `Self` goes by its name.
fn name_self(tokens: TokenStream, ident: &Ident) -> TokenStream {
    let trees = tokens.into_iter().map(|tree| match tree {
        TokenTree::Ident(word) if word == "Self" => {
            let mut named = ident.clone();
            named.set_span(shown_at(word.span()));
            TokenTree::Ident(named)
        }
        TokenTree::Group(group) => {
            let inner = name_self(group.stream(), ident);
            let mut named = Group::new(group.delimiter(), inner);
            named.set_span(group.span());
            TokenTree::Group(named)
        }
        tree => tree,
    });
    trees.collect()
}
