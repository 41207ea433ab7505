//! Which row of which tensor is made from which embeddings, read from the layout's names and shapes.

use std::collections::HashMap;

use super::Reads;
use crate::check::product;
use crate::ops::rearrange::Block;
use crate::structure::layout::{Layout, ParamInfo};
use crate::structure::source::ParamKind;

/// What the rows of a head are rows of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Factor {
    /// A tensor that is generated whole: of a matrix or a kernel, its rows; of a vector, all of it.
    Whole,
    /// `down`, `[rank, in]`, of an adapter: its rows.
    Down,
    /// `up`, `[out, rank]`, of an adapter: its columns.
    Up,
}

impl Factor {
    fn of(param: &ParamInfo) -> Self {
        match param.kind {
            ParamKind::Down => Self::Down,
            ParamKind::Up => Self::Up,
            _ => Self::Whole,
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Down => "down",
            Self::Up => "up",
        }
    }

    /// The number of rows and their width, of a tensor of this shape.
    fn rows(self, dims: &[usize]) -> (usize, usize) {
        match (self, dims) {
            (Self::Up, &[outputs, rank]) => (rank, outputs),
            (_, [rows, rest @ ..]) if !rest.is_empty() => (*rows, product(rest)),
            (_, dims) => (1, product(dims)),
        }
    }
}

/// The rows that one head makes, one after the other: for each, the numbers of its embeddings.
#[derive(Debug)]
pub(super) struct HeadPlaces {
    pub(super) factor: Factor,
    pub(super) width: usize,
    pub(super) layers: Vec<u32>,
    pub(super) kinds: Vec<u32>,
    pub(super) rows: Vec<u32>,
    /// Which embedding of the condition each row is made from; none where it is made from all.
    pub(super) reads: Option<Vec<u32>>,
}

impl HeadPlaces {
    /// The number of values.
    fn len(&self) -> usize {
        self.layers.len() * self.width
    }
}

/// The rows of all tensors.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// The layers and kinds by name, in the order of the layout.
    pub(super) layers: Names,
    pub(super) kinds: Names,
    /// The most rows that a tensor has.
    pub(super) num_rows: usize,
    pub(super) heads: Vec<HeadPlaces>,
    /// How many embeddings the rows are made from; none where each is made from all.
    pub(super) num_read: Option<usize>,
    /// The number of rows of all tensors; the factors of an adapter share theirs.
    num_places: usize,
    /// Where the heads' outputs, one behind the other, lie in the flat vector.
    pub(super) blocks: Vec<Block>,
}

/// Names, each with a number.
#[derive(Debug, Default)]
pub(super) struct Names {
    numbers: HashMap<String, u32>,
}

impl Names {
    pub(super) fn len(&self) -> usize {
        self.numbers.len()
    }

    fn number(&mut self, name: &str) -> u32 {
        if let Some(&number) = self.numbers.get(name) {
            return number;
        }
        // There are no more names than tensors, each of which has a name in memory.
        let number = self.numbers.len() as u32;
        self.numbers.insert(name.to_owned(), number);
        number
    }
}

impl Places {
    pub(super) fn of(layout: &Layout, reads: Reads) -> Self {
        let (mut places, mut heads) = (Self::default(), HashMap::new());
        let placed: Vec<_> =
            layout.params().iter().map(|param| places.place(param, reads, &mut heads)).collect();
        let mut starts = vec![0; places.heads.len()];
        for at in 1..starts.len() {
            starts[at] = starts[at - 1] + places.heads[at - 1].len();
        }
        let blocks = placed
            .into_iter()
            .map(|(head, block)| Block { from: starts[head] + block.from, ..block });
        places.blocks = blocks.collect();
        places.num_read = match reads {
            Reads::All => None,
            Reads::Row => Some(places.num_rows),
            Reads::Layer => Some(places.layers.len()),
            Reads::Place => Some(places.num_places),
        };
        places
    }

    /// Adds the rows of a tensor to its head: the head's number, and the block from its outputs on.
    fn place(
        &mut self,
        param: &ParamInfo,
        reads: Reads,
        heads: &mut HashMap<(Factor, usize), usize>,
    ) -> (usize, Block) {
        let factor = Factor::of(param);
        let (rows, width) = factor.rows(param.shape.dims());
        let (layer, kind) = split_name(&param.name);
        let (layer, kind) = (self.layers.number(layer), self.kinds.number(&kind));
        self.num_rows = self.num_rows.max(rows);
        let first = self.first_place(factor, rows);
        let number = *heads.entry((factor, width)).or_insert(self.heads.len());
        if number == self.heads.len() {
            let (layers, kinds, rows) = (Vec::new(), Vec::new(), Vec::new());
            let reads = (reads != Reads::All).then(Vec::new);
            self.heads.push(HeadPlaces { factor, width, layers, kinds, rows, reads });
        }
        let head = &mut self.heads[number];
        let from = head.len();
        head.layers.extend(std::iter::repeat_n(layer, rows));
        head.kinds.extend(std::iter::repeat_n(kind, rows));
        head.rows.extend(0..rows as u32);
        if let Some(read) = &mut head.reads {
            read.extend((0..rows as u32).map(|row| match reads {
                Reads::Layer => layer,
                Reads::Place => first + row,
                Reads::Row | Reads::All => row,
            }));
        }
        let transposed = factor == Factor::Up;
        (number, Block { from, to: param.offset, rows, columns: width, transposed })
    }
}

impl Places {
    /// The number of a tensor's first row among those of all: `up` comes behind its `down`, and shares its rows.
    fn first_place(&mut self, factor: Factor, rows: usize) -> u32 {
        if factor != Factor::Up {
            self.num_places += rows;
        }
        (self.num_places - rows) as u32
    }
}

/// The layer of a tensor, the path up to the first number in its name, and its kind, the name without that
/// number: `model.layers.7` and `model.layers.*.mlp.0.weight` of `model.layers.7.mlp.0.weight`. A name without a
/// number is of the layer without a name.
fn split_name(name: &str) -> (&str, String) {
    let mut start = 0;
    for segment in name.split('.') {
        let end = start + segment.len();
        if !segment.is_empty() && segment.bytes().all(|byte| byte.is_ascii_digit()) {
            return (&name[..end], format!("{}*{}", &name[..start], &name[end..]));
        }
        start = end + 1;
    }
    ("", name.to_owned())
}

#[cfg(test)]
mod tests {
    use candle_core::Result;
    use candle_nn::Init;

    use super::*;
    use crate::structure::role::{Role, Roles};
    use crate::structure::source::ParamSpec;

    #[test]
    fn names_are_split_at_their_first_number() {
        for (name, layer, kind) in [
            ("model.layers.7.q.weight", "model.layers.7", "model.layers.*.q.weight"),
            ("encoder.layer.11.w.lora_a", "encoder.layer.11", "encoder.layer.*.w.lora_a"),
            ("layers.3.experts.5.w1", "layers.3", "layers.*.experts.5.w1"),
            ("layer1.0.conv2.weight", "layer1.0", "layer1.*.conv2.weight"),
            ("norm2.weight", "", "norm2.weight"),
            ("0.weight", "0", "*.weight"),
            ("blocks.4", "blocks.4", "blocks.*"),
            ("é.2.ü", "é.2", "é.*.ü"),
            ("", "", ""),
        ] {
            assert_eq!(split_name(name), (layer, kind.to_owned()), "{name}");
        }
    }

    #[test]
    fn each_row_has_its_embedding() -> Result<()> {
        let all = Places::of(&layout()?, Reads::All);
        assert_eq!(all.num_read, None);
        assert!(all.heads.iter().all(|head| head.reads.is_none()));
        for (how, count, expected) in [
            (Reads::Row, 4, [vec![0, 1, 2, 3, 0, 0], vec![0, 1, 0, 1], vec![0, 1, 0, 1], vec![0]]),
            (
                Reads::Layer,
                3,
                [vec![0, 0, 0, 0, 1, 2], vec![1, 1, 2, 2], vec![1, 1, 2, 2], vec![0]],
            ),
            (
                Reads::Place,
                11,
                [vec![0, 1, 2, 3, 6, 9], vec![4, 5, 7, 8], vec![4, 5, 7, 8], vec![10]],
            ),
        ] {
            let places = Places::of(&layout()?, how);
            assert_eq!(places.num_read, Some(count), "{how:?}");
            for (head, expected) in places.heads.into_iter().zip(expected) {
                assert_eq!(head.reads, Some(expected), "{how:?}");
            }
        }
        Ok(())
    }

    fn layout() -> Result<Layout> {
        let lora = Role::Lora { rank: 2, alpha: 2., dropout: 0. };
        let patterns = [("*.q".to_owned(), lora)];
        let recorded = Layout::record(Roles::new(&patterns), |source| {
            let kind = ParamKind::Weight;
            let mut ask = |name: &str, dims: &[usize]| {
                source.param(&ParamSpec { name, dims, kind, init: Init::Const(0.) }).map(drop)
            };
            ask("table", &[4, 3])?;
            for layer in 0..2 {
                ask(&format!("layers.{layer}.q"), &[4, 3])?;
                ask(&format!("layers.{layer}.norm"), &[3])?;
            }
            ask("scale", &[])
        });
        recorded.map(|(layout, _)| layout)
    }

    /// Heads by what they make rows of and by width; blocks that cover the flat vector.
    #[test]
    fn each_tensor_has_its_rows() -> Result<()> {
        let layout = layout()?;
        let places = Places::of(&layout, Reads::All);
        assert_eq!((places.layers.len(), places.kinds.len(), places.num_rows), (3, 5, 4));
        let heads: Vec<_> =
            places.heads.iter().map(|head| (head.factor, head.width, head.rows.clone())).collect();
        assert_eq!(
            heads,
            [
                (Factor::Whole, 3, vec![0, 1, 2, 3, 0, 0]),
                (Factor::Down, 3, vec![0, 1, 0, 1]),
                (Factor::Up, 4, vec![0, 1, 0, 1]),
                (Factor::Whole, 1, vec![0]),
            ]
        );
        assert_eq!(places.heads[0].layers, [0, 0, 0, 0, 1, 2]);
        assert_eq!(places.heads[0].kinds, [0, 0, 0, 0, 3, 3]);
        assert_eq!(places.heads[1].layers, [1, 1, 2, 2]);
        for end in [|block: &Block| block.from, |block: &Block| block.to] {
            let mut blocks = places.blocks.clone();
            blocks.sort_unstable_by_key(end);
            let mut next = 0;
            for block in blocks {
                assert_eq!(end(&block), next);
                next += block.rows * block.columns;
            }
            assert_eq!(next, layout.num_params());
        }
        let up = places.blocks[2];
        assert_eq!(up, Block { from: 18 + 12, to: 18, rows: 2, columns: 4, transposed: true });
        Ok(())
    }
}
