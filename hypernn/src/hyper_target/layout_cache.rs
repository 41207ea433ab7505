//! Layouts that were recorded before.

use std::any::TypeId;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use candle_core::Result;

use super::HyperTarget;
use crate::generated::FlatRecord;
use crate::structure::layout::Layout;
use crate::structure::role::Roles;

/// Those of targets whose sizes are constants, by the address of their `build`. Two targets of one address
/// have the same code, and so the same layout.
static RECORDED: LazyLock<Mutex<HashMap<usize, Arc<FlatRecord>>>> = LazyLock::new(Mutex::default);

/// The layout of a target: recorded once for its type, where the type has no configuration.
///
/// # Errors
/// An invalid size, two tensors of one name, or no parameters.
pub(super) fn recorded<T: HyperTarget>(config: &T::Config) -> Result<Arc<FlatRecord>> {
    if TypeId::of::<T::Config>() != TypeId::of::<()>() {
        return record::<T>(config).map(Arc::new);
    }
    let of_type = T::build as *const () as usize;
    let known = || RECORDED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(recorded) = known().get(&of_type) {
        return Ok(recorded.clone());
    }
    // Not under the lock: what is recorded may ask for a layout itself.
    let recorded = Arc::new(record::<T>(config)?);
    Ok(known().entry(of_type).or_insert(recorded).clone())
}

fn record<T: HyperTarget>(config: &T::Config) -> Result<FlatRecord> {
    let recorded =
        Layout::record(Roles::default(), |source| T::build_by_sets(config, source).map(drop))?;
    recorded.0.ensure_parameters(T::NAME)?;
    Ok(FlatRecord::new(recorded))
}
