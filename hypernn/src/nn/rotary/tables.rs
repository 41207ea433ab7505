//! Tables of rotary embeddings that are made where they are needed, and kept.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Device, Result};

use super::{Rotary, RotaryConfig};

/// The most tables of a configuration: of a dtype and a device each.
const MOST_TABLES: usize = 8;

/// The most configurations of which tables are kept for all that ask for them.
const MOST_SHARED: usize = 8;

/// [`Rotary`] embeddings of sequences of any length: tables for the dtypes and devices that were asked for, as long as
/// the longest sequence so far.
///
/// They depend on the configuration alone, so that no file needs them. Copies share them: as the `value` of a field they
/// are made once for all that is built of one network.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use hypernn::nn::{RotaryConfig, RotaryConvention, RotaryScaling, RotaryTables};
///
/// # fn main() -> candle_core::Result<()> {
/// let tables = RotaryTables::new(&RotaryConfig {
///     head_dim: 4,
///     max_positions: 16,
///     theta: 10_000.,
///     scaling: RotaryScaling::None,
///     convention: RotaryConvention::Halves,
/// });
/// let queries = Tensor::ones((1, 2, 20, 4), DType::F32, &Device::Cpu)?;
/// let rotary = tables.up_to(20, DType::F32, &Device::Cpu)?;
/// assert_eq!(rotary.max_positions(), 32);
/// assert_eq!(rotary.apply(&queries, 0)?.dims(), [1, 2, 20, 4]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct RotaryTables {
    config: RotaryConfig,
    made: Arc<Mutex<Vec<Rotary>>>,
}

impl RotaryTables {
    /// Tables of a configuration, of its `max_positions` or more. What is wrong with it is an error where they are made.
    pub fn new(config: &RotaryConfig) -> Self {
        Self { config: config.clone(), made: Arc::default() }
    }

    /// The tables of this configuration that all share who ask for them: of steps, which live no longer than a forward.
    /// Those of the last few configurations are kept.
    pub(crate) fn shared(config: &RotaryConfig) -> Self {
        static SHARED: Mutex<Vec<RotaryTables>> = Mutex::new(Vec::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        let found = shared.iter().position(|tables| tables.config == *config);
        let tables = found.map_or_else(|| Self::new(config), |at| shared.remove(at));
        shared.truncate(MOST_SHARED - 1);
        shared.insert(0, tables.clone());
        tables
    }

    /// The embeddings of this many positions or more.
    ///
    /// # Errors
    /// Those of [`Rotary::new`].
    pub fn up_to(&self, positions: usize, dtype: DType, device: &Device) -> Result<Rotary> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |rotary: &Rotary| {
            rotary.cos.dtype() == dtype && rotary.cos.device().same_device(device)
        };
        let found = made.iter().find(|rotary| fits(rotary) && rotary.max_positions() >= positions);
        if let Some(rotary) = found {
            return Ok(rotary.clone());
        }
        // Twice as long each time, so that a sequence that grows makes few.
        let max_positions = positions.max(self.config.max_positions).next_power_of_two();
        let rotary =
            Rotary::new(&RotaryConfig { max_positions, ..self.config.clone() }, dtype, device)?;
        made.retain(|table| !fits(table));
        made.truncate(MOST_TABLES - 1);
        made.insert(0, rotary.clone());
        Ok(rotary)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Tensor;

    use super::super::{RotaryConvention, RotaryScaling};
    use super::*;

    fn config(theta: f64) -> RotaryConfig {
        RotaryConfig {
            head_dim: 6,
            max_positions: 4,
            theta,
            scaling: RotaryScaling::None,
            convention: RotaryConvention::Halves,
        }
    }

    fn is_one_table(a: &Rotary, b: &Rotary) -> bool {
        a.cos.id() == b.cos.id()
    }

    /// The same bits as of a table of just this length.
    #[test]
    fn longer_tables_turn_alike() -> Result<()> {
        let xs = Tensor::randn(0f32, 1., (2, 3, 5, 6), &Device::Cpu)?;
        let exact = Rotary::new(
            &RotaryConfig { max_positions: 5, ..config(1e4) },
            DType::F32,
            &Device::Cpu,
        )?;
        let tables = RotaryTables::new(&config(1e4));
        for positions in [5, 40] {
            let found = tables.up_to(positions, DType::F32, &Device::Cpu)?.apply(&xs, 0)?;
            let values = |xs: Tensor| xs.flatten_all()?.to_vec1::<f32>();
            assert_eq!(values(found)?, values(exact.apply(&xs, 0)?)?);
        }
        Ok(())
    }

    #[test]
    fn tables_are_made_once_for_a_length_and_a_dtype() -> Result<()> {
        let tables = RotaryTables::new(&config(1e4));
        let up_to = |positions, dtype| tables.up_to(positions, dtype, &Device::Cpu);
        let first = up_to(3, DType::F32)?;
        assert_eq!(first.max_positions(), 4);
        assert!(is_one_table(&first, &up_to(4, DType::F32)?));
        let doubles = up_to(3, DType::F64)?;
        let longer = up_to(5, DType::F32)?;
        assert_eq!(longer.max_positions(), 8);
        assert!(is_one_table(&longer, &tables.clone().up_to(2, DType::F32, &Device::Cpu)?));
        assert!(is_one_table(&doubles, &up_to(1, DType::F64)?));
        assert_eq!(tables.made.lock().unwrap_or_else(PoisonError::into_inner).len(), 2);
        Ok(())
    }

    #[test]
    fn configurations_are_shared_as_long_as_they_are_among_the_last() -> Result<()> {
        let of = |theta| RotaryTables::shared(&config(theta)).up_to(4, DType::F32, &Device::Cpu);
        let first = of(77.)?;
        assert!(is_one_table(&first, &of(77.)?));
        for theta in 0..MOST_SHARED {
            of(78. + theta as f64)?;
        }
        assert!(!is_one_table(&first, &of(77.)?));
        Ok(())
    }

    #[test]
    fn what_is_wrong_with_a_configuration_is_said_where_tables_are_made() {
        let tables = RotaryTables::new(&RotaryConfig { head_dim: 5, ..config(1e4) });
        let error = tables.up_to(2, DType::F32, &Device::Cpu).map(drop);
        let error = error.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.starts_with("rotary: head_dim is 5, expected an even number"), "{error}");
    }
}
