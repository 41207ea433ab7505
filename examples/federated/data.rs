//! Who has which images.

use anyhow::{Result, ensure};
use candle_core::Tensor;
use hypernn_examples::data::{Images, Split};
use hypernn_examples::random::rng_of;
use rand::seq::{SliceRandom, index};

use crate::run::Args;
use crate::{CLIENTS, LATE};

/// Test images of a class that each client with this class is tested on.
const TESTED: usize = 100;
const NUM_CLASSES: usize = 10;

/// What a client has, and nobody else sees.
pub struct Client {
    /// Its classes, which keep their numbers.
    pub classes: Vec<usize>,
    /// To learn from.
    pub train: Split,
    /// Not seen in training, of the same classes.
    pub test: Split,
}

/// All clients: classes are drawn for each, and their training images are shared out, so that none has those of
/// another.
pub fn clients(images: &Images, args: &Args) -> Result<Vec<Client>> {
    let (seed, count) = (args.common.seed, args.classes as usize);
    let classes = |client: usize| {
        let mut rng = rng_of([seed, client as u64, 0, 1]);
        let mut classes = index::sample(&mut rng, NUM_CLASSES, count).into_vec();
        classes.sort_unstable();
        classes
    };
    let classes: Vec<_> = (0..CLIENTS + LATE).map(classes).collect();
    let mut pools = by_class(&images.train)?;
    for (class, pool) in pools.iter_mut().enumerate() {
        pool.shuffle(&mut rng_of([seed, class as u64, 0, 2]));
    }
    let tested = by_class(&images.test)?;
    let having = |class| classes.iter().filter(|classes| classes.contains(&class)).count();
    let shares: Vec<_> = (0..NUM_CLASSES)
        .map(|class| (args.images as usize / count).min(pools[class].len() / having(class).max(1)))
        .collect();
    let client = |classes: &Vec<usize>| {
        let of_class = |&class: &usize| {
            let left = pools[class].len().saturating_sub(shares[class]);
            pools[class].split_off(left)
        };
        let train: Vec<u32> = classes.iter().flat_map(of_class).collect();
        ensure!(!train.is_empty(), "there are not enough images for all clients");
        let most = if args.common.quick { TESTED / 25 } else { TESTED };
        let test = classes.iter().flat_map(|&class| tested[class].iter().take(most).copied());
        let test = rows(&images.test, &test.collect::<Vec<_>>())?;
        Ok(Client { classes: classes.clone(), train: rows(&images.train, &train)?, test })
    };
    classes.iter().map(client).collect()
}

/// The rows of each class.
fn by_class(split: &Split) -> Result<Vec<Vec<u32>>> {
    let mut rows = vec![Vec::new(); NUM_CLASSES];
    for (row, label) in (0..).zip(split.labels.to_vec1::<u32>()?) {
        rows[label as usize].push(row);
    }
    Ok(rows)
}

/// Some rows.
pub fn rows(split: &Split, rows: &[u32]) -> Result<Split> {
    let rows = Tensor::new(rows, split.labels.device())?;
    let images = split.images.index_select(&rows, 0)?;
    Ok(Split { images, labels: split.labels.index_select(&rows, 0)? })
}
