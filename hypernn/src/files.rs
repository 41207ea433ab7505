//! Files of tensors by name.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

use candle_core::{Device, Result, Tensor};

/// How a zip archive begins, which is what `torch.save` writes.
const ZIP: [u8; 4] = *b"PK\x03\x04";

/// The tensors of a safetensors file, or of a `state_dict` that `torch.save` wrote.
///
/// # Errors
/// There is no such file, or it is neither.
pub(crate) fn tensors(path: &Path) -> Result<HashMap<String, Tensor>> {
    read(path)
        .map_err(|err| candle_core::Error::msg(format!("can't read {}: {err}", path.display())))
}

fn read(path: &Path) -> Result<HashMap<String, Tensor>> {
    if !is_zip(path)? {
        return candle_core::safetensors::load(path, &Device::Cpu);
    }
    let tensors = candle_core::pickle::read_all(path)?;
    if tensors.is_empty() {
        candle_core::bail!(
            "it holds no tensors by name, expected what `torch.save(net.state_dict(), path)` writes"
        );
    }
    tensors.into_iter().map(|(name, tensor)| Ok((name, tensor.contiguous()?))).collect()
}

fn is_zip(path: &Path) -> Result<bool> {
    let mut start = Vec::new();
    std::fs::File::open(path)?.take(ZIP.len() as u64).read_to_end(&mut start)?;
    Ok(start == ZIP)
}
