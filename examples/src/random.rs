//! Random numbers that an interrupted run takes up again.

use rand::SeedableRng;
use rand::rngs::StdRng;

/// A generator of its own for each place in a run, such as seed, task and step: who knows the place
/// needs no generator's state to go on.
pub fn rng_of(place: [u64; 4]) -> StdRng {
    let mut seed = [0; 32];
    for (bytes, part) in seed.chunks_exact_mut(8).zip(place) {
        bytes.copy_from_slice(&part.to_le_bytes());
    }
    StdRng::from_seed(seed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::Rng;

    #[test]
    fn places_differ_and_each_is_always_the_same() {
        let draw = |place| rng_of(place).random::<u64>();
        assert_eq!(draw([7, 1, 2, 3]), draw([7, 1, 2, 3]));
        for other in [[8, 1, 2, 3], [7, 0, 2, 3], [7, 1, 3, 2], [7, 1, 2, 4]] {
            assert_ne!(draw([7, 1, 2, 3]), draw(other));
        }
    }
}
