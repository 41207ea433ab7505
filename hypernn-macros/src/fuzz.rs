//! Any tokens at all: the macros never panic, and what they emit is always a file of items.

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};
use proptest::collection::vec;
use proptest::prelude::{Just, ProptestConfig, Strategy, any, proptest};
use proptest::prop_oneof;
use proptest::sample::{Index, select};

const TARGETS: &[&str] = &[
    r#"#[hyper(config = Sizes, crate = ::renamed)]
    #[hyper(forward(fn step(&self, xs: &Tensor, by: f64) -> Result<(Tensor, Tensor)>))]
    pub(crate) struct Net<'a, T: Clone, const N: usize> where T: Sized {
        #[hyper(conv2d(1, 8, 5, Conv2dConfig { stride: 2, ..Default::default() }), name = "first")]
        conv: Conv2d,
        #[hyper([linear(config.width, N + 1); config.depth])]
        layers: Vec<Linear>,
        #[hyper([if config.bias { linear(1, 2) }, (if !config.bias { linear(1, 2) })])]
        either: [Option<Linear>; 2],
        #[hyper(layer_norm(8, 1e-5), tie(weight = conv.weight))]
        norm: LayerNorm,
        #[hyper(target(&config.block))]
        block: Block<T>,
        #[hyper(value = "text")]
        name: &'a str,
        inner: T,
    }"#,
    r#"struct Net(
        #[hyper(tensor([3, 4], init = Init::Const(1.)))] Tensor,
        #[hyper(lstm(3, 4, LSTMConfig::default_no_bias()))] LSTM,
        #[hyper(own::layer(1))] #[hyper(name = "own")] Own,
        #[hyper([target; 2])] [Block; 2],
        #[hyper(linear(2, 3), tie(weight = 0.weight))] Linear,
    );"#,
    r#"#[hyper(sequential = [conv, relu, max_pool2d(2, by = N), self::Own { x: 1 }, layers, block], input = (1, _, N))]
    struct Net<const N: usize, T> {
        #[hyper(conv2d(1, 8, 5, stride = 2))]
        conv: Conv2d,
        #[hyper([[if N > 1 { linear(8, N) }; 2], [if N > 2 { linear(8, N) }; 2]])]
        layers: Vec<Vec<Option<Linear>>>,
        block: T,
    }"#,
    r#"#[hyper(config = Sizes, sequential_t, input = config.width)]
    struct Net(
        #[hyper(linear(config.width, 4))] Linear,
        #[hyper(value = Dropout::new(0.5))] Dropout,
        #[hyper([target; 2])] [Block; 2],
    );"#,
    r#"/// Docs.
    #[deprecated(note = "old")]
    #[cfg_attr(test, allow(deprecated), cfg(test))]
    #[hyper(sequential = [r#in, r#relu, r#loop, crate::r#mod::r#try(1), r#match], input = (1, r#N))]
    #[hyper(forward(fn r#try(&self, r#xs: &Tensor) -> r#struct::Result))]
    pub(in self::r#mod) struct r#type<'r#a, r#T: 'r#a + r#mod::r#trait<'r#a>, const r#N: usize> where r#T: Clone {
        /// Docs.
        #[allow(dead_code)]
        #[hyper(r#linear(Self::WIDTH, r#N))]
        r#in: Linear,
        #[expect(unused)]
        #[hyper([linear_no_bias(8, Self::OUT), r#linear(1, 2)], role = r#train)]
        r#loop: Vec<Linear>,
        #[hyper(linear(2, 3), tie(r#weight = r#in.r#weight))]
        r#match: Linear,
        #[hyper(value = PhantomData::<&'r#a Self>)]
        r#kind: PhantomData<&'r#a r#T>,
    }"#,
    "enum Net { A(#[hyper(linear(1, 2))] Linear), B { x: u8 } }",
];

const HYPERNETWORKS: &[&str] = &[
    "/// Docs.
    #[derive(Own, Debug)]
    pub(in crate::a) struct HyperNet for crate::Net<'static, 3> {
        embedding: table(64, 8),
        generator: Rows::<3, 4>::new(&[32, 16]),
        mode: static,
        init: exact,
        config: Sizes<A, B>,
        crate: ::renamed,
    }",
    "struct H for Net { embedding: Rows { n: 3, ..ROWS }, generator: linear, mode: static }",
    "#[cfg(any())]
    #[must_use]
    pub struct r#type for r#mod::r#struct<'r#a, r#T, { r#N }> {
        /// Docs.
        embedding: table(Self::ROWS, 8),
        #[allow(dead_code)]
        generator: linear,
        mode: dynamic,
    }
    #[deprecated]
    #[cfg_attr(test, derive(Debug, Own), allow(unused))]
    struct r#match for (A, &'static [B; 3]) {
        #[cfg(test)]
        embedding: table(1, 2),
        #[cfg_attr(test, cfg(not(test)))]
        embedding: table(2, 2),
        target: constructor,
        generator: heads,
        mode: static,
    }",
];

/// What `hypernetwork!` gives the derive that it sends some declarations through.
const DEFERRED: &[&str] = &["#[hyper(declaration { /// Docs.
        pub struct r#type for r#mod::Net })]
    struct Carrier(
        #[hyper(embedding: table(1, 2))] (),
        /// Docs.
        #[hyper(generator: linear)] (),
        #[allow(dead_code)]
        #[hyper(mode: static)] (),
    );"];

const SOUP: &[&str] = &[
    "hyper",
    "linear",
    "target",
    "tensor",
    "tie",
    "role",
    "freeze",
    "roles",
    "by",
    "constructor",
    "name",
    "value",
    "config",
    "crate",
    "forward",
    "sequential",
    "sequential_t",
    "input",
    "sequential = [a, relu, b]",
    "weight",
    "vb",
    "self",
    "Self",
    "if",
    "else",
    "fn",
    "struct",
    "enum",
    "for",
    "static",
    "mode",
    "embedding",
    "generator",
    "init",
    "r#type",
    "r#try",
    "r#weight",
    "'r#a",
    "Self::X",
    "self::r#mod::X",
    "PhantomData<r#T>",
    "r#type { x: 1 }",
    "/// Docs.
",
    "#[cfg(any())]",
    "#[cfg_attr(test, cfg(test), allow(dead_code))]",
    "#[allow(dead_code)]",
    "#[deprecated]",
    "#[derive(Debug, Clone)]",
    "#[derive()]",
    "#[cfg_attr()]",
    "_",
    "union",
    "dyn",
    "impl",
    "where",
    "const",
    "0",
    "1.5",
    "4.",
    "\"text\"",
    "'c'",
    "b\"bytes\"",
    "=",
    "==",
    ",",
    ";",
    ":",
    "::",
    ".",
    "..",
    "..=",
    "&",
    "&&",
    "->",
    "=>",
    "<",
    ">",
    "!",
    "?",
    "#",
    "-",
    "+",
    "|",
    "'a",
    "()",
    "[]",
    "{}",
    "[;]",
    "(,)",
    "#[hyper]",
    "#[hyper()]",
    "#[hyper(linear(1, 2))]",
    "embedding: table(1, 2)",
];

/// What happens to one token tree.
#[derive(Clone, Debug)]
enum Edit {
    Drop,
    Duplicate,
    Swap,
    Wrap(Delimiter),
    Unwrap,
    Insert(&'static str),
    Replace(&'static str),
}

fn edits() -> impl Strategy<Value = Vec<(Index, Edit)>> {
    let delimiters =
        vec![Delimiter::Parenthesis, Delimiter::Bracket, Delimiter::Brace, Delimiter::None];
    let edit = prop_oneof![
        Just(Edit::Drop),
        Just(Edit::Duplicate),
        Just(Edit::Swap),
        select(delimiters).prop_map(Edit::Wrap),
        Just(Edit::Unwrap),
        select(SOUP).prop_map(Edit::Insert),
        select(SOUP).prop_map(Edit::Replace),
    ];
    vec((any::<Index>(), edit), 0..6)
}

fn tokens(text: &str) -> TokenStream {
    text.parse().unwrap_or_default()
}

/// The number of token trees, those inside groups included.
fn size(stream: &TokenStream) -> usize {
    let inside = |tree| match tree {
        TokenTree::Group(group) => size(&group.stream()),
        _ => 0,
    };
    stream.clone().into_iter().map(|tree| 1 + inside(tree)).sum()
}

/// Edits the tree number `at`, counted as [`size`] does.
fn apply(stream: TokenStream, at: &mut Option<usize>, edit: &Edit) -> TokenStream {
    let mut edited: Vec<TokenTree> = Vec::new();
    for tree in stream {
        match *at {
            Some(0) => {
                *at = None;
                change(&mut edited, tree, edit);
                continue;
            }
            Some(left) => *at = Some(left - 1),
            None => {}
        }
        edited.push(match tree {
            TokenTree::Group(group) => {
                let inside = apply(group.stream(), at, edit);
                Group::new(group.delimiter(), inside).into()
            }
            tree => tree,
        });
    }
    edited.into_iter().collect()
}

fn change(edited: &mut Vec<TokenTree>, tree: TokenTree, edit: &Edit) {
    match edit {
        Edit::Drop => {}
        Edit::Duplicate => edited.extend([tree.clone(), tree]),
        Edit::Swap => edited.insert(edited.len().saturating_sub(1), tree),
        Edit::Wrap(delimiter) => {
            edited.push(Group::new(*delimiter, tree.into()).into());
        }
        Edit::Unwrap => match tree {
            TokenTree::Group(group) => edited.extend(group.stream()),
            tree => edited.push(tree),
        },
        Edit::Insert(text) => {
            edited.extend(tokens(text));
            edited.push(tree);
        }
        Edit::Replace(text) => edited.extend(tokens(text)),
    }
}

fn mutated(base: &'static [&'static str]) -> impl Strategy<Value = TokenStream> {
    (select(base), edits()).prop_map(|(base, edits)| {
        edits.iter().fold(tokens(base), |stream, (index, edit)| {
            let size = size(&stream);
            if size == 0 {
                return tokens("x");
            }
            apply(stream, &mut Some(index.index(size)), edit)
        })
    })
}

/// Words and signs without any order, in groups of groups.
fn soup() -> impl Strategy<Value = TokenStream> {
    let words = vec(select(SOUP), 0..12).prop_map(|words| tokens(&words.join(" ")));
    words.prop_recursive(3, 24, 4, |inner| {
        vec((inner, 0..4usize), 0..5).prop_map(|parts| {
            let groups = parts.into_iter().flat_map(|(inside, kind)| match kind {
                0 => TokenStream::from(TokenTree::from(Group::new(Delimiter::Parenthesis, inside))),
                1 => TokenTree::from(Group::new(Delimiter::Brace, inside)).into(),
                2 => TokenTree::from(Group::new(Delimiter::Bracket, inside)).into(),
                _ => inside,
            });
            groups.collect()
        })
    })
}

/// Soup where the macros look closest: in an attribute of a field and of the struct.
fn seasoned() -> impl Strategy<Value = TokenStream> {
    (soup(), soup()).prop_map(|(on_struct, on_field)| {
        quote::quote!(
            #[hyper(#on_struct)]
            struct S {
                #[hyper(#on_field)]
                a: A,
                #[hyper(linear(1, 2))]
                b: B,
            }
        )
    })
}

/// Soup as the entries and as the values of a declaration.
fn entries() -> impl Strategy<Value = TokenStream> {
    (soup(), soup()).prop_map(|(entries, value)| {
        quote::quote!(struct H for N { generator: #value, mode: static, #entries })
    })
}

fn is_a_file(emitted: TokenStream) {
    let text = emitted.to_string();
    let file = syn::parse2::<syn::File>(emitted);
    assert!(file.is_ok(), "{:?}: {text}", file.err());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(3000) })]

    #[test]
    fn a_changed_target(input in mutated(TARGETS)) {
        is_a_file(crate::hyper_target::derive(input));
    }

    #[test]
    fn a_changed_hypernetwork(input in mutated(HYPERNETWORKS)) {
        is_a_file(crate::hypernetwork::hypernetwork(input));
    }

    #[test]
    fn a_changed_declaration_in_the_derive(input in mutated(DEFERRED)) {
        is_a_file(crate::hypernetwork::derive(input));
    }

    #[test]
    fn soup_for_both(input in soup()) {
        is_a_file(crate::hyper_target::derive(input.clone()));
        is_a_file(crate::hypernetwork::hypernetwork(input));
    }

    #[test]
    fn soup_in_attributes(input in seasoned()) {
        is_a_file(crate::hyper_target::derive(input));
    }

    #[test]
    fn soup_in_entries(input in entries()) {
        is_a_file(crate::hypernetwork::hypernetwork(input));
    }
}

#[test]
fn the_bases_are_accepted() {
    let derived = TARGETS[..5].iter().map(|text| crate::hyper_target::derive(tokens(text)));
    let declared = HYPERNETWORKS.iter().map(|text| crate::hypernetwork::hypernetwork(tokens(text)));
    let deferred = DEFERRED.iter().map(|text| crate::hypernetwork::derive(tokens(text)));
    for emitted in derived.chain(declared).chain(deferred) {
        let text = emitted.to_string();
        assert!(!text.contains("compile_error"), "{text}");
    }
}
