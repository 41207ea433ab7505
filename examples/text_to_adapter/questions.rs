//! Descriptions with images: what is asked, and what is right.

use anyhow::Result;
use candle_core::Tensor;
use hypernn_examples::data::Split;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use crate::descriptions::Description;
use crate::encoder::Encode;

/// Descriptions, and the vectors of their sentences.
pub struct Tasks {
    /// What is described.
    pub descriptions: Vec<Description>,
    /// `[descriptions, width]`.
    pub vectors: Tensor,
}

impl Tasks {
    /// Encodes the sentences.
    pub fn new(descriptions: Vec<Description>, encoder: &dyn Encode) -> Result<Self> {
        let texts: Vec<_> = descriptions.iter().map(|task| task.text.as_str()).collect();
        let vectors = encoder.encode(&texts)?;
        Ok(Self { descriptions, vectors })
    }

    /// The number of descriptions.
    pub fn len(&self) -> usize {
        self.descriptions.len()
    }
}

/// Images of digits.
pub struct Pictures {
    /// `[images, 784]`.
    pub images: Tensor,
    /// What is in each.
    pub digits: Vec<u32>,
    /// The rows of each digit.
    rows: [Vec<u32>; 10],
}

impl Pictures {
    /// Those of a split.
    pub fn new(split: &Split) -> Result<Self> {
        let digits = split.labels.to_vec1::<u32>()?;
        let rows = |digit| {
            let of = (0u32..).zip(&digits).filter(|(_, found)| **found == digit);
            of.map(|(row, _)| row).collect()
        };
        let rows = std::array::from_fn(|digit| rows(digit as u32));
        Ok(Self { images: split.images.flatten_from(1)?, digits, rows })
    }

    /// The number of images.
    pub fn len(&self) -> usize {
        self.digits.len()
    }
}

/// Tasks with images to ask about.
pub struct Questions {
    /// The images.
    pub pictures: Pictures,
    /// The tasks.
    pub tasks: Tasks,
}

/// Some descriptions, each with a run of images.
pub struct Batch {
    /// `[descriptions, width]`.
    pub vectors: Tensor,
    /// `[descriptions × images, 784]`.
    pub images: Tensor,
    /// `[descriptions × images]`: 1 where the image belongs to what is described, else 0.
    pub answers: Tensor,
    /// The digits in the images.
    pub digits: Tensor,
}

impl Questions {
    /// Draws `count` descriptions with `images` images each, one that belongs and one that does not in
    /// turn.
    pub fn draw(&self, rng: &mut StdRng, (count, images): (u32, u32)) -> Result<Batch> {
        let Self { pictures, tasks } = self;
        let (mut chosen, mut rows, mut answers) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..count {
            let task = rng.random_range(0..tasks.len());
            chosen.push(u32::try_from(task)?);
            for image in 0..images {
                let belongs = image % 2 == 0;
                let described = tasks.descriptions[task].digits;
                let from = if belongs { described } else { described.others() };
                let from: Vec<_> =
                    from.iter().map(|digit| &pictures.rows[digit as usize]).collect();
                rows.extend(from.choose(rng).and_then(|rows| rows.choose(rng)));
                answers.push(u32::from(belongs));
            }
        }
        let digits: Vec<_> = rows.iter().map(|&row| pictures.digits[row as usize]).collect();
        let tensor = |values: Vec<u32>| Tensor::new(values, pictures.images.device());
        Ok(Batch {
            vectors: tasks.vectors.index_select(&tensor(chosen)?, 0)?,
            images: pictures.images.index_select(&tensor(rows)?, 0)?,
            answers: tensor(answers)?,
            digits: tensor(digits)?,
        })
    }
}
