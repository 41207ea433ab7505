//! The layout: which tensor of the target lies where in the flat vector.
//!
//! ```
//! use hypernn::HyperTarget;
//! use hypernn::nn::Linear;
//!
//! #[derive(HyperTarget)]
//! struct Net {
//!     #[hyper(linear(4, 8))]
//!     hidden: Linear,
//!     #[hyper(linear(8, 2))]
//!     out: Linear,
//! }
//!
//! # fn main() -> candle_core::Result<()> {
//! let layout = Net::layout()?;
//! let places: Vec<_> = layout.params().iter().map(|param| (&param.name[..], param.offset)).collect();
//! assert_eq!(places, [("hidden.weight", 0), ("hidden.bias", 32), ("out.weight", 40), ("out.bias", 56)]);
//! assert_eq!(layout.param_at(41).map(|param| &param.name[..]), Some("out.weight"));
//! # Ok(())
//! # }
//! ```

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::{DType, Device, Result, Shape, Tensor, TensorId};
use candle_nn::Init;
use sha2::{Digest, Sha256};

use super::adapter::AdapterSize;
use super::role::{Role, Roles};
use super::source::{BufferDtype, ParamKind, ParamSource, ParamSpec};
use super::value::{Made, Values, stored_name};
use crate::check::{MOST_VALUES, sum, too_many};
use crate::files::hex;
use crate::param::Param;

/// A layout, and what was made for fields without parameters.
pub(crate) type Recorded = (Layout, Values);

/// One parameter of a target.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ParamInfo {
    /// The tensor's path, as a `VarBuilder` would name it: `conv.weight`, `blocks.0.fc.bias`.
    pub name: String,
    /// The tensor's shape, row-major in the flat vector.
    #[cfg_attr(feature = "serde", serde(serialize_with = "serialize_dims"))]
    pub shape: Shape,
    /// Where the tensor's first value lies in the flat vector, in values.
    pub offset: usize,
    /// What the tensor is in its layer.
    pub kind: ParamKind,
    /// How candle initialises it.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub init: Init,
}

impl ParamInfo {
    /// The number of the tensor's values.
    pub fn len(&self) -> usize {
        self.shape.elem_count()
    }

    /// Whether the tensor has no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A parameter of a target that is not generated: it is trained or frozen.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct KeptInfo {
    /// The tensor's path, as a `VarBuilder` would name it.
    pub name: String,
    /// The tensor's shape.
    #[cfg_attr(feature = "serde", serde(serialize_with = "serialize_dims"))]
    pub shape: Shape,
    /// What the tensor is in its layer.
    pub kind: ParamKind,
    /// How candle initialises it.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub init: Init,
    /// [`Role::Train`] or [`Role::Freeze`].
    pub role: Role,
}

/// Where a parameter that the target asks for is found.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub(crate) enum Location {
    /// Number so and so of the generated tensors.
    Generated(usize),
    /// Number so and so of those that are kept.
    Kept(usize),
    /// A kept base, and two generated factors: the first is number `down`, the second the next.
    Adapted { base: usize, down: usize, scale: f64, dropout: f32 },
}

/// A parameter with a low-rank adapter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AdaptedInfo<'a> {
    /// The parameter's path.
    pub(crate) name: &'a str,
    /// Which of the kept tensors is the base.
    pub(crate) base: usize,
    /// Which of the generated tensors is the first factor; the next is the second.
    pub(crate) down: usize,
    /// `alpha / rank`.
    pub(crate) scale: f64,
    pub(crate) dropout: f32,
}

impl AdaptedInfo<'_> {
    /// Which of the generated tensors are the factors, `down` and `up`.
    pub(crate) fn factors(&self) -> [usize; 2] {
        [self.down, self.down + 1]
    }
}

/// A tensor of the target that is no parameter, such as running statistics.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct BufferInfo {
    /// The tensor's path, as a `VarBuilder` would name it.
    pub name: String,
    /// The tensor's shape.
    #[cfg_attr(feature = "serde", serde(serialize_with = "serialize_dims"))]
    pub shape: Shape,
    /// How it starts.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub init: Init,
    /// The dtype in which its layer computes with it.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub(crate) dtype: BufferDtype,
}

/// The order, names, shapes and offsets of a target's parameters in its flat vector.
///
/// The order is that of the fields, weight before bias, each tensor row-major: the order of
/// PyTorch's `named_parameters`.
///
/// A clone is the same layout, and costs nothing.
///
/// With the feature `serde` it can be written: generated and kept tensors and buffers, by name and
/// shape, and the place of each parameter among them.
#[derive(Clone)]
pub struct Layout(Arc<LayoutRecord>);

/// What a layout says; in one place for all of its copies.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename = "Layout"))]
struct LayoutRecord {
    params: Vec<ParamInfo>,
    kept: Vec<KeptInfo>,
    buffers: Vec<BufferInfo>,
    /// The name and place of each parameter in the order of asking.
    places: Vec<(String, Location)>,
    num_params: usize,
    hash: String,
    one_set_layer: Option<String>,
    /// The path of each layer that says what else it computes with, and that.
    #[cfg_attr(feature = "serde", serde(skip))]
    layers: Vec<(String, String)>,
    /// The name that each tied parameter would have, and whose tensor it is.
    #[cfg_attr(feature = "serde", serde(skip))]
    ties: Vec<(String, String)>,
    #[cfg_attr(feature = "serde", serde(skip))]
    absent: Vec<String>,
}

impl std::fmt::Debug for Layout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Layout {
    fn serialize<S: serde::Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        self.0.serialize(to)
    }
}

/// A shape as the list of its dimensions.
#[cfg(feature = "serde")]
fn serialize_dims<S: serde::Serializer>(
    shape: &Shape,
    to: S,
) -> std::result::Result<S::Ok, S::Error> {
    serde::Serialize::serialize(shape.dims(), to)
}

impl Layout {
    /// Records what `build` asks for, and what was made for fields without parameters.
    ///
    /// # Errors
    /// Whatever `build` returns, two parameters of the same name, or a role of no or of unlike tensors.
    pub(crate) fn record(
        roles: Roles,
        build: impl FnOnce(&mut dyn ParamSource) -> Result<()>,
    ) -> Result<(Self, Values)> {
        let mut recorder = LayoutRecorder { roles, ..Default::default() };
        build(&mut recorder)?;
        let values = std::mem::take(&mut recorder.values);
        Ok((recorder.finish(&values)?, values))
    }

    /// A layout with its hash.
    fn of(record: LayoutRecord) -> Self {
        let mut layout = Self(Arc::new(record));
        let hash = hash_of(&layout, String::new);
        Arc::make_mut(&mut layout.0).hash = hash;
        layout
    }

    /// This layout, of a target whose constructor looked for these names in vain.
    pub(crate) fn with_absent(self, absent: Vec<String>) -> Self {
        Self(Arc::new(LayoutRecord { absent, ..LayoutRecord::clone(&self.0) }))
    }

    /// The names of tensors that a target's constructor looked for and that are none of the target's,
    /// in alphabetical order: it took the way that it takes where they are not there.
    ///
    /// Over a [`Pretrained`](crate::Pretrained) network these are the names that the network lacks.
    /// Without one, `contains_tensor` finds nothing but what was asked for before, as over an empty
    /// `VarMap`, and what a model does for want of a name may not be what a checkpoint asks of it: a head
    /// tied to the embeddings, or a tensor that the constructor draws at random by itself. There are
    /// none where the target derives [`HyperTarget`](crate::HyperTarget).
    pub fn absent(&self) -> &[String] {
        &self.0.absent
    }

    /// Checks that the target has something to generate.
    pub(crate) fn ensure_parameters(&self, target: &str) -> Result<()> {
        match self.0.kept.first() {
            _ if self.0.num_params > 0 => Ok(()),
            None => crate::error::bail!(
                declaration,
                "target {target} has no parameters, so there is nothing to generate"
            ),
            Some(kept) => crate::error::bail!(
                declaration,
                "no tensor of target {target} has the role `generate`; `{}`, the first, has `{}`",
                kept.name,
                kept.role.name()
            ),
        }
    }

    /// The generated parameters, in flat order.
    pub fn params(&self) -> &[ParamInfo] {
        &self.0.params
    }

    /// The parameters that are trained or frozen, in the order of asking.
    pub fn kept(&self) -> &[KeptInfo] {
        &self.0.kept
    }

    /// The name and place of each parameter in the order of asking; a shared one has several names.
    pub(crate) fn places(&self) -> &[(String, Location)] {
        &self.0.places
    }

    /// The name of each parameter that is shared, but the first, with that of the first.
    pub(crate) fn aliases(&self) -> impl Iterator<Item = (&str, &str)> {
        let alias = |(name, place): &'_ (String, Location)| match *place {
            Location::Generated(index) if self.0.params[index].name != *name => Some(index),
            _ => None,
        };
        let aliases = self.0.places.iter().filter_map(move |at| Some((at.0.as_str(), alias(at)?)));
        aliases.map(|(name, index)| (name, self.0.params[index].name.as_str()))
    }

    /// The parameters with a low-rank adapter, in the order of asking.
    pub(crate) fn adapted(&self) -> impl Iterator<Item = AdaptedInfo<'_>> {
        self.0.places.iter().filter_map(|(name, place)| match *place {
            Location::Adapted { base, down, scale, dropout } => {
                Some(AdaptedInfo { name, base, down, scale, dropout })
            }
            _ => None,
        })
    }

    /// This layout, of a target whose adapters all have a rank so many times as large, and the same scale.
    ///
    /// # Errors
    /// Something is generated that is no factor of an adapter.
    pub(crate) fn with_ranks(&self, times: usize) -> Result<Self> {
        let mut is_factor = vec![false; self.0.params.len()];
        self.adapted().flat_map(|at| at.factors()).for_each(|index| is_factor[index] = true);
        let whole = self.0.params.iter().zip(is_factor).find(|(_, is_factor)| !is_factor);
        if let Some((param, _)) = whole {
            crate::error::bail!(
                layout,
                "`{}` is generated whole, and has no rank: `mean` takes it",
                param.name
            );
        }
        let mut num_params = 0;
        let widened = |param: &ParamInfo| {
            let mut dims = param.shape.dims().to_vec();
            dims[usize::from(param.kind == ParamKind::Up)] *= times;
            let (shape, offset) = (Shape::from(dims), num_params);
            num_params += shape.elem_count();
            ParamInfo { shape, offset, ..param.clone() }
        };
        let params = self.0.params.iter().map(widened).collect();
        let record = LayoutRecord { params, num_params, ..LayoutRecord::clone(&self.0) };
        Ok(Self::of(record))
    }

    /// The tensors that are no parameters.
    pub fn buffers(&self) -> &[BufferInfo] {
        &self.0.buffers
    }

    /// The length of the flat vector.
    pub fn num_params(&self) -> usize {
        self.0.num_params
    }

    /// SHA-256 over names, shapes and roles in order, in hexadecimal: equal exactly where a flat vector of one
    /// target means the same in the other, but for ties of fields. A target by constructor, of whose ties nobody
    /// knows, has the hash of the same target by the derive.
    pub fn hash(&self) -> &str {
        &self.0.hash
    }

    /// The names of all tensors.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        let buffers = self.0.buffers.iter().map(|buffer| buffer.name.as_str());
        self.0.places.iter().map(|(name, _)| name.as_str()).chain(buffers)
    }

    /// The path of the first layer that computes with one set of weights at a time, if there is one:
    /// several sets then take their turns. It is empty where a constructor builds the whole target. See [`TAKES_SETS`](crate::HyperLayer::TAKES_SETS).
    pub fn one_set_layer(&self) -> Option<&str> {
        self.0.one_set_layer.as_deref()
    }

    /// What layers compute with beside their tensors, such as a stride, by path; those that say so. See
    /// [`describe`](ParamSource::describe).
    pub fn layers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.layers.iter().map(|(path, layer)| (path.as_str(), layer.as_str()))
    }

    /// The name that each tied parameter would have, and the name of the tensor that it is.
    pub(crate) fn ties(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.ties.iter().map(|(name, first)| (name.as_str(), first.as_str()))
    }

    /// The first line in which the other differs, with this layout's own, where a flat vector of one does
    /// not mean the same in the other.
    pub(crate) fn difference(&self, other: &Self) -> Option<(String, String)> {
        if self.0.hash == other.0.hash && self.has_kinds_of(other) {
            return self.other_tie(other);
        }
        first_difference(&self.to_string(), &other.to_string())
    }

    /// The first tie that is another in the other layout, where both have one of that name.
    fn other_tie(&self, other: &Self) -> Option<(String, String)> {
        let others: HashMap<_, _> = other.ties().collect();
        let pairs = self.ties().filter_map(|(name, own)| Some((name, own, *others.get(name)?)));
        let (name, own, other) = pairs.into_iter().find(|(_, own, other)| own != other)?;
        Some((format!("{name} = {own}"), format!("{name} = {other}")))
    }

    /// Whether tensor by tensor both have the same kind, where both know it.
    fn has_kinds_of(&self, other: &Self) -> bool {
        self.kinds().zip(other.kinds()).all(|(one, other)| alike(one, other))
    }

    /// The name of each tensor's kind, in the order of the layout's lines.
    fn kinds(&self) -> impl Iterator<Item = &'static str> {
        let params = self.0.params.iter().map(|param| param.kind);
        params.chain(self.0.kept.iter().map(|kept| kept.kind)).map(ParamKind::name)
    }

    /// Whether a file of this hash has this layout; `text` is the file's own, by which version 0.1, whose hash has
    /// the kinds of the tensors, is recognised: a target by constructor knows other kinds than a derived one.
    pub(crate) fn has_hash(&self, hash: &str, text: &str) -> bool {
        let mut kinds = text.lines().filter_map(kind_in);
        let mut with_kinds = || hash_of(self, || format!(" {}", kinds.next().unwrap_or_default()));
        hash == self.0.hash || hash == with_kinds()
    }

    /// Whether a constructor builds the whole target, so that the kinds of its tensors are unknown.
    pub(crate) fn is_by_constructor(&self) -> bool {
        self.one_set_layer() == Some("")
    }

    /// The parameter that holds the flat vector's value number `index`, if there is one.
    pub fn param_at(&self, index: usize) -> Option<&ParamInfo> {
        let after = self.0.params.partition_point(|param| param.offset <= index);
        let param = self.0.params.get(after.checked_sub(1)?)?;
        (index < param.offset + param.len()).then_some(param)
    }
}

impl std::fmt::Display for Layout {
    /// A line per parameter: offset or role, name, shape, kind; for a shared one but the first, whose
    /// it is.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let params = self.0.params.iter().map(|param| param.name.as_str());
        let names = self.0.places.iter().map(|(name, _)| name.as_str()).chain(params);
        let width = names.map(str::len).max().unwrap_or(0);
        for param in &self.0.params {
            let (shape, kind) = (param.shape.dims(), param.kind.name());
            writeln!(f, "{:>10}  {:width$}  {shape:?} {kind}", param.offset, param.name)?;
        }
        for kept in &self.0.kept {
            let (shape, kind) = (kept.shape.dims(), kept.kind.name());
            writeln!(f, "{:>10}  {:width$}  {shape:?} {kind}", kept.role.name(), kept.name)?;
        }
        for (name, first) in self.aliases() {
            writeln!(f, "{:>10}  {name:width$}  {first}", Role::Shared.name())?;
        }
        for AdaptedInfo { name, scale, dropout, .. } in self.adapted() {
            write!(f, "{:>10}  {name:width$}  scale {scale}", "lora")?;
            match dropout {
                0. => writeln!(f)?,
                _ => writeln!(f, " dropout {dropout}")?,
            }
        }
        write!(f, "{:>10}  parameters", self.0.num_params)
    }
}

/// The first line of each that means something else than the other's in its place, with single spaces; `nothing`
/// where a text has ended.
pub(crate) fn first_difference(first: &str, second: &str) -> Option<(String, String)> {
    let (mut first, mut second) = (first.lines().map(squeeze), second.lines().map(squeeze));
    loop {
        let (one, other) = (first.next(), second.next());
        if one.is_none() && other.is_none() {
            return None;
        }
        if !one.as_deref().zip(other.as_deref()).is_some_and(|(one, other)| is_same(one, other)) {
            let text = |line: Option<String>| line.unwrap_or_else(|| "nothing".to_owned());
            return Some((text(one), text(other)));
        }
    }
}

/// Whether two lines of layouts say the same.
fn is_same(one: &str, other: &str) -> bool {
    let kinds = kind_in(one).zip(kind_in(other));
    meaning(one) == meaning(other) && kinds.is_none_or(|(one, other)| alike(one, other))
}

/// Whether two kinds of tensors can be those of one: a target by constructor knows none but [`ParamKind::Tensor`].
fn alike(one: &str, other: &str) -> bool {
    let unknown = ParamKind::Tensor.name();
    one == other || one == unknown || other == unknown
}

/// A line of a layout without the kind of its tensor, and without what changes nothing in what a flat vector means, the
/// dropout of an adapter.
pub(crate) fn meaning(line: &str) -> &str {
    let rest = match kind_in(line) {
        Some(kind) => line.strip_suffix(kind),
        None if line.starts_with("lora ") => line.rsplit_once(" dropout ").map(|(rest, _)| rest),
        None => None,
    };
    rest.map_or(line, str::trim_end)
}

/// The kind at the end of a tensor's line, behind its shape.
fn kind_in(line: &str) -> Option<&str> {
    let (rest, kind) = line.trim_start().rsplit_once(' ')?;
    (rest.ends_with(']') && !rest.starts_with(Role::Shared.name())).then_some(kind)
}

/// A line of a layout with single spaces.
fn squeeze(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A source that records what a target asks for, and answers with zeros that take no memory.
#[derive(Default)]
struct LayoutRecorder {
    path: Vec<String>,
    roles: Roles,
    /// The roles of the fields above, from the outermost on, and whether one was asked for a matrix.
    field_roles: Vec<(Role, bool)>,
    params: Vec<ParamInfo>,
    kept: Vec<KeptInfo>,
    buffers: Vec<BufferInfo>,
    places: Vec<(String, Location)>,
    /// The generated tensor of each pattern whose tensors are shared.
    shared: HashMap<usize, usize>,
    num_params: usize,
    one_set_layer: Option<String>,
    values: Values,
    layers: Vec<(String, String)>,
    ties: Vec<(String, String)>,
    /// The name of each parameter that was given, by its tensor.
    given: HashMap<TensorId, String>,
}

impl LayoutRecorder {
    fn name(&self, name: &str) -> String {
        let tail = (!name.is_empty()).then(|| name.to_owned());
        self.path.iter().cloned().chain(tail).collect::<Vec<_>>().join(".")
    }

    /// The role of the outermost field that has one. An adapter is for what can have one; what else the
    /// layer has is frozen.
    fn field_role(&self, spec: &ParamSpec<'_>) -> Role {
        match self.field_roles.first() {
            Some((Role::Lora { .. }, _)) if spec.dims.len() < 2 => Role::Freeze,
            Some((role, _)) => *role,
            None => Role::Generate,
        }
    }

    /// Records a parameter.
    fn request(&mut self, spec: &ParamSpec<'_>) -> Result<Param> {
        let name = self.name(spec.name);
        check_spec(&format!("parameter `{name}`"), spec)?;
        if spec.dims.contains(&0) {
            crate::error::bail!(
                declaration,
                "parameter `{name}` has no values: its shape is {:?}",
                spec.dims
            );
        }
        self.field_roles.iter_mut().for_each(|(_, matrix)| *matrix |= spec.dims.len() > 1);
        let by_pattern = self.roles.of(&name);
        let role = by_pattern.map_or_else(|| self.field_role(spec), |(_, role)| role);
        let place = match (role, by_pattern) {
            (Role::Shared, Some((pattern, _))) => {
                Location::Generated(self.share(pattern, &name, spec)?)
            }
            (Role::Lora { rank, alpha, dropout }, _) => {
                ensure_dropout(&name, dropout)?;
                self.adapt(&name, spec, rank, alpha, dropout)?
            }
            (Role::Train | Role::Freeze, _) => Location::Kept(self.keep(name.clone(), spec, role)),
            (Role::Generate | Role::Shared, _) => {
                Location::Generated(self.generate(name.clone(), spec)?)
            }
        };
        let param = Param::from(zeros(spec.dims)?);
        self.given.insert(param.values().id(), name.clone());
        let param = match place {
            Location::Adapted { dropout, .. } if dropout > 0. => param.with_dropout(&name),
            _ => param,
        };
        self.places.push((name, place));
        Ok(param)
    }

    fn finish(self, values: &Values) -> Result<Layout> {
        let mut names: Vec<_> = self.places.iter().map(|(name, _)| name.as_str()).collect();
        self.roles.finish(&names)?;
        names.extend(self.buffers.iter().map(|buffer| buffer.name.as_str()));
        names.extend(values.names.iter().map(String::as_str));
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            crate::error::bail!(declaration, "two tensors of the target are named `{}`", pair[0]);
        }
        Ok(Layout::of(LayoutRecord {
            params: self.params,
            kept: self.kept,
            buffers: self.buffers,
            places: self.places,
            num_params: self.num_params,
            hash: String::new(),
            one_set_layer: self.one_set_layer,
            layers: self.layers,
            ties: self.ties,
            absent: Vec::new(),
        }))
    }

    fn generate(&mut self, name: String, spec: &ParamSpec<'_>) -> Result<usize> {
        let (shape, offset) = (Shape::from(spec.dims), self.num_params);
        self.num_params = sum(&[offset, shape.elem_count()]);
        if self.num_params > MOST_VALUES {
            crate::error::bail!(
                declaration,
                "`{name}` of shape {shape:?} comes after {offset} other parameters: together they are more values than any memory holds"
            );
        }
        self.params.push(ParamInfo { name, shape, offset, kind: spec.kind, init: spec.init });
        Ok(self.params.len() - 1)
    }

    /// The tensor of a pattern, generated for the first name.
    fn share(&mut self, pattern: usize, name: &str, spec: &ParamSpec<'_>) -> Result<usize> {
        let Some(&index) = self.shared.get(&pattern) else {
            let index = self.generate(name.to_owned(), spec)?;
            self.shared.insert(pattern, index);
            return Ok(index);
        };
        let first = &self.params[index];
        if first.shape.dims() != spec.dims {
            crate::error::bail!(
                declaration,
                "`{name}` of shape {:?} can't be shared with `{}` of shape {:?}",
                spec.dims,
                first.name,
                first.shape.dims()
            );
        }
        Ok(index)
    }

    /// Asks for a frozen base and the two generated factors of its low-rank adapter.
    fn adapt(
        &mut self,
        name: &str,
        spec: &ParamSpec<'_>,
        rank: usize,
        alpha: f64,
        dropout: f32,
    ) -> Result<Location> {
        let (outputs, inputs) = match spec.dims {
            [] | [_] => crate::error::bail!(
                declaration,
                "`{name}` of shape {:?} can't have a low-rank adapter, expected a matrix or a kernel",
                spec.dims
            ),
            [outputs, rest @ ..] => (*outputs, rest.iter().product::<usize>()),
        };
        if let Some(problem) = AdapterSize::of_matrix(rank, outputs, inputs).check() {
            crate::error::bail!(declaration, "`{name}`: {}", problem.message());
        }
        if !alpha.is_finite() {
            crate::error::bail!(
                declaration,
                "`{name}`: the alpha of its adapter is {alpha}, expected a finite number"
            );
        }
        let bound = (inputs as f64).sqrt().recip();
        let init = Init::Uniform { lo: -bound, up: bound };
        let dims = [rank, inputs];
        let factor = ParamSpec { name: "", dims: &dims, kind: ParamKind::Down, init };
        let down = self.generate(format!("{name}.lora_a"), &factor)?;
        let (dims, init) = ([outputs, rank], Init::Const(0.));
        let factor = ParamSpec { name: "", dims: &dims, kind: ParamKind::Up, init };
        self.generate(format!("{name}.lora_b"), &factor)?;
        let base = self.keep(name.to_owned(), spec, Role::Freeze);
        Ok(Location::Adapted { base, down, scale: alpha / rank as f64, dropout })
    }

    fn keep(&mut self, name: String, spec: &ParamSpec<'_>, role: Role) -> usize {
        let (shape, kind, init) = (Shape::from(spec.dims), spec.kind, spec.init);
        self.kept.push(KeptInfo { name, shape, kind, init, role });
        self.kept.len() - 1
    }
}

impl ParamSource for LayoutRecorder {
    fn enter(&mut self, name: &str) {
        self.path.push(name.to_owned());
    }

    fn leave(&mut self) {
        self.path.pop();
    }

    fn param(&mut self, spec: &ParamSpec<'_>) -> Result<Param> {
        self.request(spec)
    }

    fn enter_role(&mut self, role: Role) {
        self.field_roles.push((role, false));
    }

    fn leave_role(&mut self) -> Result<()> {
        let Some((Role::Lora { .. }, false)) = self.field_roles.pop() else { return Ok(()) };
        crate::error::bail!(
            declaration,
            "field `{}` has the role `lora`, but no matrix or kernel of its own to adapt",
            self.name("")
        );
    }

    fn buffer(&mut self, spec: &ParamSpec<'_>) -> Result<Tensor> {
        self.buffer_of(spec, BufferDtype::Any)
    }

    fn buffer_of(&mut self, spec: &ParamSpec<'_>, dtype: BufferDtype) -> Result<Tensor> {
        let (name, shape) = (self.name(spec.name), Shape::from(spec.dims));
        check_spec(&format!("buffer `{name}`"), spec)?;
        self.buffers.push(BufferInfo { name, shape, init: spec.init, dtype });
        zeros(spec.dims)
    }

    fn fixed(&mut self, name: &str, make: &mut dyn FnMut() -> Result<Tensor>) -> Result<Tensor> {
        let (name, tensor) = (self.name(&stored_name(name)), make()?.detach());
        self.values.names.push(name);
        self.values.tensors.push(tensor.clone());
        Ok(tensor)
    }

    fn made(&mut self, make: &mut dyn FnMut() -> Made) -> Made {
        let made = make();
        self.values.made.push(made.clone());
        made
    }

    fn made_anew(&mut self, field: &str) {
        let name = self.name(field);
        self.values.anew.get_or_insert(name);
    }

    /// A tensor that is not generated is the same in all sets.
    fn bare(&mut self, spec: &ParamSpec<'_>, takes_sets: bool) -> Result<Tensor> {
        let tensor = self.param(spec)?.to_tensor()?;
        let kept = matches!(self.places.last(), Some((_, Location::Kept(_))));
        if !takes_sets && !kept {
            self.takes_one_set();
        }
        Ok(tensor)
    }

    fn takes_one_set(&mut self) {
        if self.one_set_layer.is_none() {
            self.one_set_layer = Some(self.name(""));
        }
    }

    fn describe(&mut self, layer: &dyn std::fmt::Display) {
        self.layers.push((self.name(""), layer.to_string()));
    }

    fn tied(&mut self, name: &str, to: &Param) {
        // What a layer made of its parameter is not known again, and says nothing.
        if let Some(first) = self.given.get(&to.values().id()) {
            self.ties.push((self.name(name), first.clone()));
        }
    }
}

/// Memory can hold it, and it starts at numbers.
fn check_spec(what: &str, spec: &ParamSpec<'_>) -> Result<()> {
    crate::check::ensure(too_many(what, spec.dims))?;
    let settings = match spec.init {
        Init::Const(value) => [value, 0.],
        Init::Randn { mean, stdev } => [mean, stdev],
        Init::Uniform { lo, up } => [lo, up],
        Init::Kaiming { .. } => [0., 0.],
    };
    if !settings.iter().all(|setting| setting.is_finite()) {
        crate::error::bail!(
            declaration,
            "{what} has the init {:?}, expected finite numbers",
            spec.init
        );
    }
    Ok(())
}

/// Checks that a dropout is from 0 on and below 1.
fn ensure_dropout(name: &str, dropout: f32) -> Result<()> {
    if !(0. ..1.).contains(&dropout) {
        crate::error::bail!(
            declaration,
            "`{name}`: the dropout of its adapter is {dropout}, expected at least 0 and less than 1"
        );
    }
    Ok(())
}

fn zeros(dims: &[usize]) -> Result<Tensor> {
    Tensor::zeros((), DType::F32, &Device::Cpu)?.broadcast_as(dims)
}

/// Names, shapes, order and roles; `kind` gives what is known of the kind of one tensor after the other.
fn hash_of(layout: &Layout, mut kind: impl FnMut() -> String) -> String {
    let mut hasher = Sha256::new();
    for param in layout.params() {
        hasher.update(format!("{} {:?}{}\n", param.name, param.shape.dims(), kind()));
    }
    for kept in layout.kept() {
        let (shape, role) = (kept.shape.dims(), kept.role.name());
        hasher.update(format!("{} {shape:?}{} {role}\n", kept.name, kind()));
    }
    for (name, first) in layout.aliases() {
        hasher.update(format!("{name} = {first}\n"));
    }
    // Dropout changes nothing in what a flat vector means.
    for AdaptedInfo { name, scale, .. } in layout.adapted() {
        hasher.update(format!("{name} lora {scale}\n"));
    }
    hex(&hasher.finalize())
}
