//! What forwards over several sets were seen to do.

use std::sync::atomic::{AtomicBool, Ordering};

/// Whether a target's forward looks at the weights of its layers.
#[derive(Default)]
pub(super) struct SeenForwards {
    looked: AtomicBool,
    /// One in training went without: what it does in evaluation says nothing about training.
    trained_without: AtomicBool,
}

impl SeenForwards {
    pub(super) fn look_at_weights(&self) -> bool {
        self.looked.load(Ordering::Relaxed)
    }

    pub(super) fn are_known_in_training(&self) -> bool {
        self.looked.load(Ordering::Relaxed) || self.trained_without.load(Ordering::Relaxed)
    }

    pub(super) fn saw_weights(&self) {
        self.looked.store(true, Ordering::Relaxed);
    }

    pub(super) fn saw_none(&self, train: bool) {
        if train && !self.trained_without.load(Ordering::Relaxed) {
            self.trained_without.store(true, Ordering::Relaxed);
        }
    }
}
