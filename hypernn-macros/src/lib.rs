//! The macros of hypernn; use them through the `hypernn` crate.

use proc_macro::TokenStream;

mod attr;
#[cfg(test)]
mod fuzz;
mod hyper_target;
mod hypernetwork;
mod report;
#[cfg(test)]
mod snapshots;
mod span;
mod tokens;

/// Makes a struct a target: a network whose weights can be generated.
///
/// Each field says what it is made of, by candle's own constructor without `vb`:
///
/// - `#[hyper(linear(64, 10))]`, `#[hyper(conv2d(1, 8, 5, stride = 2))]`: a layer; candle's
///   configuration goes last, as there, or its fields by name;
/// - `#[hyper([linear(8, 8); 4])]` for a `Vec` or an array of layers alike,
///   `#[hyper([linear(8, 16), linear(16, 2)])]` for layers that differ;
/// - `#[hyper(if BIAS { tensor([8]) })]` for an `Option`;
/// - `#[hyper(tensor([3, 4]))]` for a bare `Tensor`; `tensor([3, 4], sets = true)` where the forward takes
///   the tensors of several sets, `[G, 3, 4]`;
/// - no attribute, or `#[hyper(target)]`: a target itself; `#[hyper(target(EXPR))]` passes it its
///   configuration. A target that holds itself has a configuration that says how deep. Where two without one hold
///   each other, rustc says E0275, "overflow evaluating": neither derive sees the other's fields;
/// - `#[hyper(value = EXPR)]`: a field without parameters, made once for each network; tensors in it are
///   in checkpoints and not trained;
/// - `#[hyper(linear_no_bias(8, 100), tie(weight = embed.weight))]`: reuses the tensor of a field
///   above;
/// - `#[hyper(linear(8, 8), name = "path")]`: another name in the layout;
/// - `#[hyper(linear(8, 8), role = freeze)]`, or `role = train`: not generated; it is frozen, or trained
///   as a variable of its own;
/// - `#[hyper(linear(64, 64), role = lora(8, 16.))]`, rank and alpha, or `role = lora_dropout(8, 16., 0.1)`
///   with dropout on the adapter's input: the weight is kept, and what is generated are two low-rank
///   factors that are added to it.
///
/// Where all sizes are constants, `Net::NUM_PARAMS` is the number of parameters, and in a chain `Net::INPUT_SHAPE`
/// and `Net::OUTPUT_SHAPE` are the shapes of a sample. They belong to the traits `FixedTarget` and `ShapedTarget`,
/// which are in scope where the struct is declared; elsewhere, `use hypernn::FixedTarget`.
///
/// `#[cfg]` and `#[cfg_attr]` stand on fields and on the struct as they do elsewhere, and so does
/// `#[allow]`, which then holds for what the derive writes as well. A field of type `PhantomData` needs no
/// attribute.
///
/// On the struct:
///
/// - `#[hyper(config = Type)]`: the fields' expressions read `config: &Type`;
/// - `#[hyper(forward(fn step(&self, xs: &Tensor) -> Result<Tensor>))]`, any number of times: adds
///   `functional_step(flat, xs)`, which is `unpack(flat)?.step(xs)`;
/// - `#[hyper(sequential)]`: the derive also writes `Module::forward`, the fields in order;
///   `sequential = [conv, relu, flatten, fc]` names the steps, fields and those of
///   `hypernn::nn::step`. `sequential_t` writes `ModuleT::forward_t`. Shapes along the chain are
///   checked at compile time. A step's expression is evaluated in every forward, without `config`.
///   Residuals, branches, values with names, attention and repetition are steps as well:
///   `residual([norm, fc], skip = [down])`, `add([a], [b])`, `concat(0, [a], skip)`, `skip = [conv, relu]`,
///   `attention([q], [k], [v])`, `repeat(3, [fc, relu])`, `cross(context)`; `docs/forward-language.md` in the
///   repository has the grammar;
/// - `#[hyper(input = (1, 28, 28))]`: the shape of a sample, without the batch, from which such a
///   chain is checked; `_` where a size is not fixed, and a letter, `(T, 64)`, where it is not known but the same
///   wherever it has that name. `input = (x: (T, 64), context: (S, 32))` names several inputs, which
///   `forward(&self, x, context)` then takes;
/// - `#[hyper(crate = path)]`: where `hypernn` is, if not at `::hypernn`.
#[proc_macro_derive(HyperTarget, attributes(hyper))]
pub fn derive_hyper_target(input: TokenStream) -> TokenStream {
    hyper_target::derive(input.into()).into()
}

/// The declaration, of which one call may hold several:
///
/// ```text
/// hypernetwork! {
///     /// Documentation and attributes of the emitted type.
///     pub struct HyperNet for Net {
///         embedding: table(64, 8),
///         generator: linear,
///         mode: static,
///     }
/// }
/// ```
///
/// - `embedding`: `table(num_embeddings, embedding_dim)`, or a value of a type of your own that
///   implements `hypernn::embedding::EmbeddingSpec`;
/// - `generator`: `linear`, `mlp([widths…], activation)`, `low_rank(rank)`, `heads`,
///   `per_module(width, [widths…], activation)`, or a value of a type of your own
///   that implements `hypernn::generator::GeneratorSpec`;
/// - `mode: static`: the weights come from the embeddings alone; `mode: dynamic`: they depend on a
///   condition. Then `embedding` may also be `rnn(width, num_embeddings, embedding_dim)`, `gru(…)`,
///   `lstm(…)`, `encoder(width, [widths…], activation, num_embeddings, embedding_dim)` or
///   `tasks(num_tasks, num_embeddings, embedding_dim)`, and a generator takes the condition by
///   `.conditioned(width)`;
/// - `init`: `exact`, the default, or `hyper_nn`;
/// - `config: Type`, where the target has sizes that are known only at run time: `new` then takes
///   a `&Type` first, and the constants are methods of the hypernetwork;
/// - `target: constructor`, for any model that is built from a `VarBuilder`, without annotation:
///   `new` then takes its constructor last, and the constants are methods of the hypernetwork;
/// - `roles: [("head.*", generate), ("*", freeze)]`: what becomes of the tensors whose names match:
///   `generate`, `train`, `freeze`, `shared`, `lora(rank, alpha)` or `lora_dropout(rank, alpha, dropout)`;
///   the constants are then methods of the hypernetwork;
/// - `crate: path`: where `hypernn` is, if not at `::hypernn`.
///
/// Attributes above `struct` are those of the emitted type. `#[cfg]` and `#[allow]` there hold for all that
/// belongs to it, and stand on a key too: a key may be given several times where no two of its conditions hold
/// together. `Debug` is implemented for every hypernetwork; other derives of the standard library are not to be
/// had, and a derive of your own is given a struct with one private field.
/// Since it derefs to a type over its target, it is at most as visible as its target.
///
/// # What is emitted
///
/// A type of this name, with constructors and constants of its own, which derefs to the network behind it,
/// `hypernn::hypernetwork::StaticHyperNetwork` or `DynamicHyperNetwork`, and has all methods of that. Its own are
///
/// - `new(vb)`, and `new_from(vb, pretrained)`, which starts as a `Pretrained` network; `with_target_dtype`;
/// - `forward_t`, where the target is a `ModuleT`; in a dynamic hypernetwork the input is then its own condition.
///   In a dynamic hypernetwork whose sizes are all constants, `forward`, `forward_aux`, `step`, `step_t`, `run` and
///   `run_t`, whose input conditions its own weights, are its own as well: an input that does not fit the condition
///   is then a compile error.
///
/// By deref it has
///
/// - `generate_params()` (dynamic: of a condition), which gives `GeneratedParams`, for any number of forward
///   passes; static also `target()`, the model itself over generated weights;
/// - `forward` and `forward_aux`, where the target is a `Module`;
/// - dynamic also `generate_step`, `step`, `step_t`, `run`, `run_t`, `scan` and `zero_state` for sequences,
///   `condition`, `buffers`, and `add_tasks` for more tasks;
/// - `export` and `audit_exact`;
/// - what hypernetworks of every kind have, `hypernn::hypernetwork::Core`: `layout`, `chunks`, `num_params`,
///   `num_target_params`, `named_tensors`, `trainable`, `params_from_flat`, `load_params`, `load_peft`, `export_params`,
///   `save`, `load`, `load_hyper_nn`, `audit` and `check_finite`.
///
/// Beside them are
///
/// - the constants `NUM_PARAMS`, `NUM_TARGET_PARAMS`, `RATIO` and `CHUNKS`, where all sizes are constants;
/// - the traits `Debug`, `hypernn::Hypernetwork` and, where the target has it, `Module`. It is `Send` and `Sync`
///   where the target's type allows it.
#[proc_macro]
pub fn hypernetwork(input: TokenStream) -> TokenStream {
    hypernetwork::hypernetwork(input.into()).into()
}

/// Through which `hypernetwork!` sends declarations with conditions; not for use by hand.
#[doc(hidden)]
#[proc_macro_derive(Declaration, attributes(hyper))]
pub fn derive_declaration(input: TokenStream) -> TokenStream {
    hypernetwork::derive(input.into()).into()
}
