//! The emitted type: a thin wrapper with the user's name, docs and constants.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::{Expr, Ident};

use super::check::{Checked, Mode, Source};
use super::emitted::{item, name, network, own_condition};
use super::methods::methods;
use crate::span::{ends, private_at};

/// The whole type.
pub(super) fn expand(checked: &Checked) -> TokenStream {
    let parts = [definition(checked), sizes(checked), construction(checked)];
    parts.into_iter().chain([methods(checked), traits(checked)]).collect()
}

/// What stands in for a declaration with errors: the same names, nothing behind them.
pub(super) fn stub(checked: &Checked) -> TokenStream {
    let parts = [definition(checked), stub_of_sizes(checked), stub_of_functions(checked)];
    parts.into_iter().chain([methods(checked), traits(checked)]).collect()
}

fn stub_of_sizes(checked: &Checked) -> TokenStream {
    let (krate, name) = (&checked.krate, name(checked));
    let private = quote!(#krate::__private);
    let stub = quote! {
        #[doc(hidden)]
        impl #name {
            pub const NUM_TARGET_PARAMS: #private::usize = 0;
            pub const NUM_PARAMS: #private::usize = 0;
            pub const RATIO: #private::f64 = 0.;
            pub const CHUNKS: #krate::ChunkPlan = #krate::ChunkPlan::whole(0);
            const __OWN_CONDITION: #private::OwnCondition = #private::OwnCondition::FITS;
        }
    };
    item(checked, &stub)
}

fn stub_of_functions(checked: &Checked) -> TokenStream {
    let (krate, name) = (&checked.krate, name(checked));
    let Argument { before, after, .. } = Argument::of(checked);
    let private = quote!(#krate::__private);
    let stub = quote! {
        #[doc(hidden)]
        impl #name {
            pub fn new(
                #before
                _: #krate::nn::VarBuilder<'_>,
                #after
            ) -> #private::Result<Self> {
                #private::invalid()
            }

            pub fn new_from<'__p>(
                #before
                _: #krate::nn::VarBuilder<'_>,
                _: impl #private::Into<#krate::Pretrained<'__p>>,
                #after
            ) -> #private::Result<Self> {
                #private::invalid()
            }
        }
    };
    item(checked, &stub)
}

/// What `new` takes for a target by constructor.
fn constructor_bound(checked: &Checked) -> TokenStream {
    let Checked { target, krate, .. } = checked;
    let private = quote!(#krate::__private);
    quote! {
        impl #private::Fn(#krate::nn::VarBuilder<'static>) -> #private::Result<#target>
            + #private::Send + #private::Sync + 'static
    }
}

fn definition(checked: &Checked) -> TokenStream {
    let (Checked { attrs, vis, name, .. }, network) = (checked, network(checked));
    quote! {
        #(#attrs)*
        #vis struct #name {
            inner: #network,
        }
    }
}

/// An expression that is one in the place of a statement too. The parentheses lie at its end, so
/// that it is shown without them.
fn closed(expr: &Expr) -> TokenStream {
    let (_, end) = ends(expr);
    quote_spanned!(end=> (#expr))
}

/// A part of the hypernetwork: the user's expression, among the names that it may use.
struct Part {
    key: Ident,
    value: TokenStream,
    private: TokenStream,
    /// Where the expression ends; it begins at the key's span.
    end: Span,
    /// The variable that holds it.
    local: Ident,
    /// The function that knows it as a part of this mode.
    known: Ident,
    /// The trait that it implements, as a path.
    spec: TokenStream,
}

impl Part {
    fn new(key: &str, expr: &Expr, checked: &Checked) -> Self {
        let Checked { krate, mode, .. } = checked;
        let (span, end) = ends(expr);
        let (known, spec) = match (mode, key) {
            (Mode::Static, "embedding") => ("embedding", "EmbeddingSpec"),
            (Mode::Static, _) => ("generator", "GeneratorSpec"),
            (Mode::Dynamic, "embedding") => ("conditioned_embedding", "ConditionedEmbeddingSpec"),
            (Mode::Dynamic, _) => ("conditioned_generator", "ConditionedGeneratorSpec"),
        };
        let (known, spec) = (Ident::new(known, span), Ident::new(spec, span));
        let (local, key) =
            (Ident::new(key, Span::mixed_site().located_at(span)), Ident::new(key, span));
        let closed = closed(expr);
        let value = quote!(&{ use #krate::#key::spec::*; #closed });
        let private = private_at(krate, span);
        let spec = quote_spanned!(span=> #private::#spec);
        Self { key, value, private, end, local, known, spec }
    }

    /// The part, known to be one. The same tokens stand wherever it is needed, so that a value that
    /// is none is one error.
    fn known(&self, value: &impl ToTokens) -> TokenStream {
        let Self { key, private, known, spec, .. } = self;
        let ask = format_ident!("ask_{}", key);
        let (value, none) = (quote_spanned!(self.end=> (#value)), quote_spanned!(self.end=> ()));
        quote_spanned!(key.span()=> #private::Part #value.#ask(#spec::build).#known #none)
    }

    fn embedding(checked: &Checked) -> Self {
        Self::new("embedding", &checked.embedding, checked)
    }

    fn generator(checked: &Checked) -> Self {
        Self::new("generator", &checked.generator, checked)
    }

    /// What the part says of itself; `none` reports that it says nothing.
    fn info(&self, none: &str, args: &TokenStream) -> TokenStream {
        let Self { local, value, private, end, .. } = self;
        let (at, known) = (self.key.span(), self.known(local));
        let (none, args) = (Ident::new(none, at), quote_spanned!(*end=> (#args)));
        let info = quote_spanned!(at=> #local.info #args);
        quote! {{
            let #local = #value;
            let #local = #known;
            {
                use #private::#none as _;
                #info
            }
        }}
    }

    /// A constant that fails to evaluate where there is a problem.
    fn deny(&self, problem: &TokenStream, checked: &Checked) -> TokenStream {
        let (private, problem) = (&self.private, quote_spanned!(self.end=> (#problem)));
        item(checked, &quote_spanned!(self.key.span()=> const _: () = #private::deny #problem;))
    }
}

/// What is known of the sizes, as a function of the target's, so that it serves constants and run
/// time alike.
fn sizes(checked: &Checked) -> TokenStream {
    let (krate, name) = (&checked.krate, name(checked));
    let (embedding, generator) = (Part::embedding(checked), Part::generator(checked));
    let private = quote!(#krate::__private);
    let (of_embedding, of_generator) = (
        embedding.info("NoEmbeddingInfo", &TokenStream::new()),
        generator.info("NoGeneratorInfo", &quote_spanned!(Span::mixed_site()=> shape)),
    );
    let dynamic = checked.mode == Mode::Dynamic;
    let sizes = quote_spanned! {Span::mixed_site()=>
        impl #name {
            #[doc(hidden)]
            const fn __sizes(num_target_params: #private::usize) -> #private::Sizes {
                use #private::NoPart as _;
                let embedding: #private::EmbeddingInfo = #of_embedding;
                let shape = #private::Sizes::shape(&embedding, num_target_params);
                let generator: #private::GeneratorInfo = #of_generator;
                #private::Sizes::new(embedding, shape, generator, #dynamic)
            }
        }
    };
    item(checked, &sizes)
}

/// `new`, with constants and their checks where all sizes are constants.
fn construction(checked: &Checked) -> TokenStream {
    let constants = checked.has_constants().then(|| constants(checked));
    constants.into_iter().chain([functions(checked)]).collect()
}

/// What `new` takes beside the builder: a configuration before it, or a constructor after it.
struct Argument {
    name: Option<Ident>,
    before: TokenStream,
    after: TokenStream,
}

impl Argument {
    fn of(checked: &Checked) -> Self {
        let none = TokenStream::new;
        match &checked.source {
            Source::Fixed => Self { name: None, before: none(), after: none() },
            Source::Configured(config) => {
                let at = Span::mixed_site().located_at(ends(config).1);
                let name = Ident::new("config", at);
                Self { before: quote!(#name: &#config,), after: none(), name: Some(name) }
            }
            Source::Constructor => {
                let name = Ident::new("constructor", Span::mixed_site());
                let bound = constructor_bound(checked);
                Self { before: none(), after: quote!(#name: #bound,), name: Some(name) }
            }
        }
    }
}

/// What the plan takes of a pretrained network: a constructor runs over it.
struct Over {
    parameter: TokenStream,
    /// The argument without a pretrained network, and with one.
    none: TokenStream,
    given: TokenStream,
}

impl Over {
    fn name() -> Ident {
        Ident::new("pretrained", Span::mixed_site())
    }

    /// The hypernetwork's builder, whose dtype and device a constructor sees.
    fn builder() -> Ident {
        Ident::new("vb", Span::mixed_site())
    }

    fn of(checked: &Checked) -> Self {
        let Checked { source, krate, .. } = checked;
        if !matches!(source, Source::Constructor) {
            let none = TokenStream::new;
            return Self { parameter: none(), none: none(), given: none() };
        }
        let (private, name, vb) = (quote!(#krate::__private), Self::name(), Self::builder());
        Self {
            parameter: quote! {
                #name: #private::Option<&#krate::Pretrained<'_>>,
                #vb: &#krate::nn::VarBuilder<'_>,
            },
            none: quote!(, #private::Option::None, &#vb),
            given: quote!(, #private::Option::Some(&#name), &#vb),
        }
    }
}

/// `new`, `new_from`, and what they share.
fn functions(checked: &Checked) -> TokenStream {
    let (Checked { target, krate, .. }, name) = (checked, name(checked));
    let private = quote!(#krate::__private);
    let Argument { name: argument, before, after } = Argument::of(checked);
    let Over { parameter, none, given } = Over::of(checked);
    let (asked, plan) = (is_target(checked), plan(checked));
    let (sizes, build) = (sizes_of_plan(checked), build(checked));
    let functions = quote_spanned! {Span::mixed_site()=>
        impl #name {
            /// Builds the hypernetwork, with its variables below `vb`.
            ///
            /// # Errors
            /// An invalid size, the builder's own, or those of the target's constructor.
            pub fn new(
                #before
                vb: #krate::nn::VarBuilder<'_>,
                #after
            ) -> #private::Result<Self> {
                Self::__build(Self::__plan(#argument #none)?, vb)
            }

            /// As `new`, over a pretrained network: it starts as that network, and learns the
            /// difference.
            ///
            /// # Errors
            /// As `new`, or a tensor that the pretrained network lacks or has in another shape.
            pub fn new_from<'__p>(
                #before
                vb: #krate::nn::VarBuilder<'_>,
                pretrained: impl #private::Into<#krate::Pretrained<'__p>>,
                #after
            ) -> #private::Result<Self> {
                let pretrained: #krate::Pretrained<'__p> = #private::Into::into(pretrained);
                let plan = Self::__plan(#argument #given)?;
                let plan = plan.with_pretrained(pretrained, (&vb).dtype(), (&vb).device())?;
                Self::__build(plan, vb)
            }

            fn __plan(#before #after #parameter) -> #private::Result<#private::TargetPlan<#target>> {
                use #private::NoTarget as _;
                #plan
            }

            fn __build(
                plan: #private::TargetPlan<#target>,
                vb: #krate::nn::VarBuilder<'_>,
            ) -> #private::Result<Self> {
                let sizes = #sizes;
                #build
            }
        }
    };
    let functions = item(checked, &functions);
    quote!(#asked #functions)
}

/// The target's plan, with its roles.
fn plan(checked: &Checked) -> TokenStream {
    let Checked { target, krate, .. } = checked;
    let private = quote!(#krate::__private);
    let plan = match &checked.source {
        Source::Fixed => quote!(#private::TargetOf::<#target>::fixed_plan()),
        Source::Configured(config) => {
            let (span, end) = ends(config);
            let at = private_at(krate, span);
            let argument = Argument::of(checked).name;
            let argument = quote_spanned!(end=> (#argument));
            quote_spanned!(span=> #at::TargetOf::<#target>::target_plan() #argument)
        }
        Source::Constructor => {
            let argument = Argument::of(checked).name;
            let (pretrained, vb) = (Over::name(), Over::builder());
            let kind = quote!((#vb).dtype(), (#vb).device());
            quote!(#private::TargetPlan::<#target>::by_constructor(#argument, #pretrained, #kind))
        }
    };
    let Some(roles) = &checked.roles else { return plan };
    let (span, roles) = (ends(roles).0, closed(roles));
    let roles = quote!({ use #krate::target::role::spec::*; #roles });
    quote_spanned!(span=> #plan?.with_roles(&#roles))
}

fn sizes_of_plan(checked: &Checked) -> TokenStream {
    if checked.has_constants() {
        return quote!(Self::__SIZES);
    }
    quote_spanned!(Span::mixed_site()=> Self::__sizes((&plan).num_params()))
}

/// The only place that asks for a target.
fn is_target(checked: &Checked) -> TokenStream {
    let Checked { target, krate, .. } = checked;
    let private = quote!(#krate::__private);
    let (span, _) = ends(target);
    let at = private_at(krate, span);
    let also = match checked.source {
        Source::Constructor => return TokenStream::new(),
        Source::Configured(_) => TokenStream::new(),
        Source::Fixed => {
            quote_spanned!(span=> #at::TargetOf::<#target>::fixed(#at::FixedTarget::IS_FIXED);)
        }
    };
    let asked = quote! {
        const _: fn() = || {
            use #private::NoTarget as _;
            let _ = <#target as #krate::HyperTarget>::NAME;
            #also
        };
    };
    item(checked, &asked)
}

/// What `new` does after the plan and the sizes.
fn build(checked: &Checked) -> TokenStream {
    let Checked { name, init, krate, .. } = checked;
    let private = quote!(#krate::__private);
    let (embedding, generator) = (Part::embedding(checked), Part::generator(checked));
    let (embedding, generator) =
        (embedding.known(&embedding.value), generator.known(&generator.value));
    let (name, init, network) = (name.unraw().to_string(), closed(init), network(checked));
    let conditions = match checked.mode {
        Mode::Static => TokenStream::new(),
        Mode::Dynamic => quote_spanned!(Span::mixed_site()=> (&sizes).conditions(),),
    };
    quote_spanned! {Span::mixed_site()=>
        use #private::NoPart as _;
        (&sizes).ensure()?;
        let declared = #private::Declared {
            name: #name,
            shape: sizes.shape,
            scheme: { use #krate::init::spec::*; #init },
        };
        let inner =
            <#network>::new(plan, &declared, #conditions #embedding, #generator, vb)?;
        #private::StdResult::Ok(Self { inner })
    }
}

/// For a target all of whose sizes are constants.
fn constants(checked: &Checked) -> TokenStream {
    let (Checked { target, krate, .. }, name) = (checked, name(checked));
    let private = quote!(#krate::__private);
    let rows = Part::embedding(checked).deny(&quote!((&#name::__SIZES).rows()), checked);
    let generator =
        Part::generator(checked).deny(&quote!((&#name::__SIZES).counted_generator()), checked);
    let own_condition = own_condition_constant(checked);
    let constants = quote_spanned! {Span::mixed_site()=>
        impl #name {
            #[doc(hidden)]
            const __SIZES: #private::Sizes = Self::__sizes(Self::NUM_TARGET_PARAMS);

            #own_condition

            /// The number of the target's generated parameters.
            pub const NUM_TARGET_PARAMS: #private::usize = {
                use #private::NoTarget as _;
                #private::TargetOf::<#target>::NUM_PARAMS
            };

            /// The number of the parameters of embedding and generator.
            pub const NUM_PARAMS: #private::usize = Self::__SIZES.num_params;

            /// `NUM_PARAMS / NUM_TARGET_PARAMS`.
            pub const RATIO: #private::f64 =
                Self::NUM_PARAMS as #private::f64 / Self::NUM_TARGET_PARAMS as #private::f64;

            /// How the generated rows cover the target's flat vector.
            pub const CHUNKS: #krate::ChunkPlan = Self::__SIZES.shape.plan;
        }
    };
    let constants = item(checked, &constants);
    quote!(#rows #generator #constants)
}

/// What is known of the target's input as its own condition.
fn own_condition_constant(checked: &Checked) -> Option<TokenStream> {
    let Checked { target, krate, mode, .. } = checked;
    let private = quote!(#krate::__private);
    (*mode == Mode::Dynamic).then(|| {
        quote! {
            #[doc(hidden)]
            const __OWN_CONDITION: #private::OwnCondition = {
                use #private::NoTarget as _;
                let input = #private::TargetOf::<#target>::INPUT_SHAPE;
                #private::OwnCondition::new((&Self::__SIZES).conditions(), input)
            };
        }
    })
}

fn traits(checked: &Checked) -> TokenStream {
    let parts = [module(checked), debug(checked), common(checked)];
    parts.iter().map(|part| item(checked, part)).collect()
}

fn module(checked: &Checked) -> TokenStream {
    let (Checked { target, krate, .. }, name) = (checked, name(checked));
    let (private, own) = (quote!(#krate::__private), own_condition(checked));
    quote! {
        impl #krate::nn::Module for #name
        where
            for<'__a> #target: #krate::nn::Module #own
        {
            fn forward(&self, xs: &#private::Tensor) -> #private::Result<#private::Tensor> {
                // Not the method, whose output is another type of a target with several outputs.
                #krate::nn::Module::forward(&self.inner, xs)
            }
        }
    }
}

fn debug(checked: &Checked) -> TokenStream {
    let (private, name) = (&checked.krate, name(checked));
    let private = quote!(#private::__private);
    quote! {
        impl #private::Debug for #name {
            fn fmt(&self, f: &mut #private::Formatter<'_>) -> #private::FmtResult {
                #private::Debug::fmt(&self.inner, f)
            }
        }
    }
}

/// What static and dynamic hypernetworks have in common.
fn common(checked: &Checked) -> TokenStream {
    let (Checked { target, krate, .. }, name) = (checked, name(checked));
    let private = quote!(#krate::__private);
    let condition = match checked.mode {
        Mode::Static => quote!(()),
        Mode::Dynamic => quote!(#private::Tensor),
    };
    quote! {
        impl #krate::Hypernetwork<#target> for #name {
            type Condition = #condition;

            fn generate(
                &self,
                condition: &#condition,
            ) -> #private::Result<#krate::GeneratedParams<#target>> {
                #krate::Hypernetwork::generate(&self.inner, condition)
            }

            fn core(&self) -> &#private::Core<#target> {
                &self.inner
            }
        }
    }
}
