//! Whether memory can be had, asked before it is taken: a failed allocation ends the program.

use candle_core::{DType, Device, Result};

use crate::error::bail;

/// The size in bytes from which on the system is asked.
const LARGE: usize = 1 << 30;

/// Whether a tensor of these dimensions can be allocated on this device: `what` is it in the error.
///
/// On the CPU the system is asked for large ones, and what it gives is given back untouched. A system that
/// promises more than it has says yes here and ends the program later; one that is short of address space,
/// or is asked for more than all of its memory, says no. Devices give an error by themselves.
///
/// # Errors
/// The tensor is larger than any allocation, or the system refuses it; the bytes are in the message.
pub(crate) fn ensure_room(
    what: impl Fn() -> String,
    dims: &[usize],
    dtype: DType,
    device: &Device,
) -> Result<()> {
    let values = dims.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
    let bytes = values.and_then(|values| values.checked_mul(dtype.size_in_bytes()));
    match bytes.filter(|&bytes| isize::try_from(bytes).is_ok()) {
        None => {
            bail!(memory, "{} of shape {dims:?} in {dtype:?} is larger than any memory", what())
        }
        Some(bytes) if bytes >= LARGE && device.is_cpu() && !has_room(bytes) => bail!(
            memory,
            "{} of shape {dims:?} in {dtype:?} takes {bytes} bytes, which the system refuses",
            what()
        ),
        Some(_) => Ok(()),
    }
}

fn has_room(bytes: usize) -> bool {
    let mut room: Vec<u8> = Vec::new();
    let given = room.try_reserve_exact(bytes).is_ok();
    // An allocation that nobody sees is left out, and would never fail.
    std::hint::black_box(&mut room);
    given
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(dims: &[usize]) -> Option<String> {
        let found = ensure_room(|| "`weight`".to_owned(), dims, DType::F32, &Device::Cpu);
        let message = found.map_err(|err| err.to_string()).err();
        message.and_then(|message| message.lines().next().map(str::to_owned))
    }

    #[test]
    fn what_no_memory_holds_is_an_error_with_its_size() {
        assert_eq!(message(&[1 << 10, 1 << 10]), None);
        assert_eq!(message(&[usize::MAX, 0]), None);
        let expected =
            "`weight` of shape [18446744073709551615, 2] in F32 is larger than any memory";
        assert_eq!(message(&[usize::MAX, 2]).as_deref(), Some(expected));
        // An exabyte.
        let expected = "`weight` of shape [1073741824, 268435456] in F32 takes 1152921504606846976 \
                        bytes, which the system refuses";
        assert_eq!(message(&[1 << 30, 1 << 28]).as_deref(), Some(expected));
    }
}
