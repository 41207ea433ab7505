//! The network behind `per_module`: embeddings of places, a trunk, and a head for each width of rows.

use candle_core::{D, Device, Result, Tensor};
use candle_nn::{Init, VarBuilder};

use super::places::{Factor, HeadPlaces, Places};
use crate::check::{ensure, too_many};
use crate::generator::{GeneratorOutput, WeightGenerator};
use crate::init::{self, InitScheme};
use crate::mlp::{Activation, Appended, Dense, LayerInit};
use crate::ops::linear::linear;
use crate::ops::product::repeat_rows;
use crate::ops::rearrange::Rearrangement;
use crate::structure::layout::ParamInfo;
use crate::structure::source::ParamKind;

/// What the trunk takes: the condition, and the embeddings of layer, kind and row. Each starts with the same
/// share of the variance, whatever its width.
const PARTS: f64 = 4.;

/// The sizes of such a network.
pub(super) struct NetworkSizes<'a> {
    /// Of each embedding of a place.
    pub(super) width: usize,
    pub(super) hidden: &'a [usize],
    pub(super) activation: Activation,
    /// The values of the embeddings that a row is made from.
    pub(super) inputs: usize,
    /// What of them are conditions that came behind.
    pub(super) appended: Appended,
}

/// Generates each tensor row by row, from what its name says of its place.
#[derive(Clone, Debug)]
pub(super) struct PlaceNetwork {
    tables: Tables,
    trunk: Trunk,
    heads: Vec<Head>,
    /// From the heads' outputs to the flat vector.
    order: Rearrangement,
    scheme: InitScheme,
}

impl PlaceNetwork {
    pub(super) fn new(
        sizes: &NetworkSizes<'_>,
        places: Places,
        scheme: InitScheme,
        vb: &VarBuilder<'_>,
    ) -> Result<Self> {
        let tables = Tables::new(sizes.width, &places, scheme, vb)?;
        let trunk = Trunk::new(sizes, scheme, &vb.pp("trunk"))?;
        let heads = places.heads.iter().map(|head| Head::new(head, &trunk, scheme, vb));
        let heads: Vec<_> = heads.collect::<Result<_>>()?;
        let len = places.blocks.iter().map(|block| block.rows * block.columns).sum();
        let order = Rearrangement::new(places.blocks, len, vb.device())?;
        Ok(Self { tables, trunk, heads, order, scheme })
    }

    /// Whether each row is made from all embeddings.
    fn reads_all(&self) -> bool {
        self.heads.iter().all(|head| head.reads.is_none())
    }
}

impl WeightGenerator for PlaceNetwork {
    fn forward(&self, embedding: &Tensor) -> Result<GeneratorOutput> {
        self.forward_sets(&embedding.unsqueeze(0)?)
    }

    /// One pass of the trunk and one product for each head; the rows then change their places once.
    fn forward_sets(&self, embeddings: &Tensor) -> Result<GeneratorOutput> {
        let conditions = if self.reads_all() {
            self.trunk.of_conditions(&embeddings.flatten_from(1)?)?
        } else {
            self.trunk.of_conditions(embeddings)?
        };
        let rows = |head: &Head| {
            let conditions = head.of_rows(&conditions)?;
            let hidden = self.trunk.forward(&self.tables.of_places(head)?, &conditions)?;
            head.dense.forward(&hidden)?.flatten_from(1)
        };
        let rows = self.heads.iter().map(rows).collect::<Result<Vec<_>>>()?;
        Ok(self.order.apply(&Tensor::cat(&rows, D::Minus1)?)?.into())
    }

    fn starts_at_zero(&self, param: &ParamInfo) -> bool {
        self.scheme == InitScheme::Exact && param.kind == ParamKind::Up
    }
}

/// The learned embeddings of places, one table each for layers, kinds and rows.
#[derive(Clone, Debug)]
struct Tables {
    layer: Tensor,
    kind: Tensor,
    row: Tensor,
}

impl Tables {
    fn new(width: usize, places: &Places, scheme: InitScheme, vb: &VarBuilder<'_>) -> Result<Self> {
        let table = |name: &str, rows| {
            ensure(too_many("per_module", &[rows, width]))?;
            init::table(scheme, rows, width, &vb.pp(name))
        };
        let (layer, kind) =
            (table("layer", places.layers.len())?, table("kind", places.kinds.len())?);
        Ok(Self { layer, kind, row: table("row", places.num_rows)? })
    }

    /// `[rows, 3 × width]`, for the rows of a head.
    fn of_places(&self, head: &Head) -> Result<Tensor> {
        let layer = self.layer.index_select(&head.layers, 0)?;
        let kind = self.kind.index_select(&head.kinds, 0)?;
        Tensor::cat(&[layer, kind, self.row.index_select(&head.rows, 0)?], 1)
    }
}

/// The hidden layers.
#[derive(Clone, Debug)]
struct Trunk {
    /// The part of the first layer that meets the condition, `[hidden, inputs]`.
    condition: Tensor,
    /// The part that meets the embeddings of a place.
    place: Dense,
    others: Vec<Dense>,
    activation: Activation,
    /// The width of what it gives.
    width: usize,
}

impl Trunk {
    fn new(sizes: &NetworkSizes<'_>, scheme: InitScheme, vb: &VarBuilder<'_>) -> Result<Self> {
        let &NetworkSizes { hidden, activation, inputs, appended, .. } = sizes;
        let (&first, others) = hidden.split_first().unwrap_or((&1, &[]));
        let of_condition = LayerInit { second_moment: PARTS, appended, ..LayerInit::PLAIN };
        let condition = of_condition.weight(inputs, first, scheme, &vb.pp("condition"))?;
        let of_place = LayerInit { second_moment: PARTS / (PARTS - 1.), ..LayerInit::PLAIN };
        let place = Dense::new(3 * sizes.width, first, of_place, scheme, &vb.pp("place"))?;
        let mut width = first;
        let others = others.iter().enumerate().map(|(at, &next)| {
            let inputs = std::mem::replace(&mut width, next);
            Dense::new(inputs, next, LayerInit::behind(activation), scheme, &vb.pp(at + 1))
        });
        let others = others.collect::<Result<_>>()?;
        Ok(Self { condition, place, others, activation, width })
    }

    /// What conditions `[…, inputs]` add in the first layer, `[…, hidden]`.
    fn of_conditions(&self, conditions: &Tensor) -> Result<Tensor> {
        linear(conditions, &self.condition.clone().into(), None)
    }

    /// `[G, rows, width]` for places `[rows, 3 × width]` and what the condition of each row adds, `[G, rows, hidden]`.
    fn forward(&self, places: &Tensor, conditions: &Tensor) -> Result<Tensor> {
        let (places, sets) = (self.place.forward(places)?, conditions.dim(0)?);
        let places = repeat_rows(&places.flatten_all()?.unsqueeze(0)?, sets)?;
        let first = (places.reshape(conditions.shape())? + conditions)?;
        self.others.iter().try_fold(self.activation.forward(&first)?, |xs, layer| {
            self.activation.forward(&layer.forward(&xs)?)
        })
    }
}

/// The last layer for rows of one width.
#[derive(Clone, Debug)]
struct Head {
    dense: Dense,
    /// Integers `[rows]`: for each row, which embedding.
    layers: Tensor,
    kinds: Tensor,
    rows: Tensor,
    /// Integers `[rows]`: for each row, which embedding of the condition; none where it is all of them.
    reads: Option<Tensor>,
}

impl Head {
    fn new(
        places: &HeadPlaces,
        trunk: &Trunk,
        scheme: InitScheme,
        vb: &VarBuilder<'_>,
    ) -> Result<Self> {
        let &HeadPlaces { factor, width, .. } = places;
        ensure(too_many("per_module", &[width, trunk.width]))?;
        let vb = vb.pp("head").pp(format!("{}_{width}", factor.name()));
        let dense = match (factor, scheme) {
            (Factor::Up, InitScheme::Exact) => zeros(trunk.width, width, &vb)?,
            _ => {
                let start = LayerInit::behind(trunk.activation);
                Dense::new(trunk.width, width, start, scheme, &vb)?
            }
        };
        let ids = |ids: &[u32]| ids_on(ids, vb.device());
        let (layers, kinds) = (ids(&places.layers)?, ids(&places.kinds)?);
        let reads = places.reads.as_deref().map(ids).transpose()?;
        Ok(Self { dense, layers, kinds, rows: ids(&places.rows)?, reads })
    }

    /// What the condition of each row adds, `[G, rows, hidden]`, of `[G, hidden]` for all rows, or of `[G, N, hidden]`.
    fn of_rows(&self, conditions: &Tensor) -> Result<Tensor> {
        match &self.reads {
            None => repeat_rows(conditions, self.rows.dim(0)?),
            Some(reads) => conditions.index_select(reads, 1),
        }
    }
}

/// A layer that gives zero for any input, until it has learned.
fn zeros(inputs: usize, outputs: usize, vb: &VarBuilder<'_>) -> Result<Dense> {
    let zero = Init::Const(0.);
    let weight = vb.get_with_hints((outputs, inputs), "weight", zero)?;
    Ok(Dense { weight, bias: vb.get_with_hints(outputs, "bias", zero)? })
}

fn ids_on(ids: &[u32], device: &Device) -> Result<Tensor> {
    Tensor::new(ids, device)
}
