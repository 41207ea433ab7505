//! A pretrained network, lent to a builder for the time in which its constructor runs.
//!
//! A constructor takes a `VarBuilder<'static>`, since its model may hold on to the builder, as functions
//! that candle calls `Func` do. The network that the builder asks lives shorter. It is lent behind a lock,
//! and gone when the constructor is done: a builder that is kept finds no network there.

#![allow(unsafe_code, reason = "a builder that lives on must reach a network that does not")]

use std::sync::{Arc, Mutex, PoisonError};

use crate::pretrained::Pretrained;

/// The network, until it is taken back.
#[derive(Clone, Default)]
pub(super) struct LentNetwork(Arc<Mutex<Option<&'static Pretrained<'static>>>>);

impl LentNetwork {
    /// What a question to the network gives; there is none where none was lent, or it was taken back. A
    /// question must not ask the same network again.
    pub(super) fn with<R>(&self, ask: impl FnOnce(Option<&Pretrained<'_>>) -> R) -> R {
        // The lock is held while the network is in use, so that it isn't taken back meanwhile.
        let network = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ask(*network)
    }

    fn set(&self, network: Option<&'static Pretrained<'static>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = network;
    }
}

/// Takes the network back, also where a constructor panics.
struct TakeBack(LentNetwork);

impl Drop for TakeBack {
    fn drop(&mut self) {
        self.0.set(None);
    }
}

/// Runs `with` while the network is lent.
pub(super) fn lend<R>(network: Option<&Pretrained<'_>>, with: impl FnOnce(LentNetwork) -> R) -> R {
    let lent = LentNetwork::default();
    let _taken_back = TakeBack(lent.clone());
    // SAFETY: only lifetimes are changed. The reference lies behind the lock of `lent`, where nobody but
    // `LentNetwork::with` reads it, which holds the lock as long as it is in use, and gives it on for no certain
    // lifetime, so that nothing of it can be kept. `_taken_back` takes it out, under the lock, before this
    // function ends, and the network outlives the function.
    lent.set(network.map(|network| unsafe {
        std::mem::transmute::<&Pretrained<'_>, &'static Pretrained<'static>>(network)
    }));
    with(lent)
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};
    use candle_nn::VarBuilder;

    use super::*;

    /// What is lent is there while it is lent, and gone afterwards, whoever holds on to it.
    #[test]
    fn what_is_lent_is_taken_back() {
        let kept = {
            let network = Pretrained::from(VarBuilder::zeros(DType::F32, &Device::Cpu));
            lend(Some(&network), |lent| {
                assert!(lent.with(|network| network.is_some_and(|network| network.has("a"))));
                lent
            })
        };
        assert!(kept.with(|network| network.is_none()));
    }

    #[test]
    fn what_is_lent_to_a_panic_is_taken_back() {
        let network = Pretrained::from(VarBuilder::zeros(DType::F32, &Device::Cpu));
        let kept = Mutex::new(LentNetwork::default());
        let lending = std::panic::AssertUnwindSafe(|| {
            lend(Some(&network), |lent| {
                *kept.lock().unwrap_or_else(PoisonError::into_inner) = lent;
                std::panic::resume_unwind(Box::new("a constructor's own"));
            })
        });
        assert!(std::panic::catch_unwind(lending).is_err());
        let kept = kept.into_inner().unwrap_or_else(PoisonError::into_inner);
        assert!(kept.with(|network| network.is_none()));
    }
}
