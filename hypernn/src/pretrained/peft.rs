//! An adapter of PEFT for the low-rank adapters of a target.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{Result, Tensor};

use super::Pretrained;
use crate::error::bail;
use crate::files::peft::PeftAdapter;
use crate::files::{can_not, list, nearest, prefix};
use crate::structure::layout::{AdaptedInfo, Layout};

/// What a linear layer's weight is called below its module.
pub(crate) const WEIGHT: &str = ".weight";

/// As many names as a message lists.
const SHOWN: usize = 4;

impl Pretrained<'static> {
    /// The adapter in a folder that PEFT's `save_pretrained` wrote, over its base model: what a hypernetwork starts
    /// from. The base is the folder that the adapter's `base_model_name_or_path` names, opened as by
    /// [`open`](Self::open); where that is no folder here, as a name on a hub, open the base first and put the adapter
    /// on it by [`with_peft`](Self::with_peft).
    ///
    /// An adapter that is to be served as it is, `load_peft` of a hypernetwork reads, as
    /// [`GeneratedParams`](crate::GeneratedParams).
    ///
    /// # Errors
    /// Those of [`open`](Self::open) and [`with_peft`](Self::with_peft), or the base model is not there.
    pub fn open_peft(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        let adapter = PeftAdapter::open(folder)?;
        let base = adapter.base_model.as_deref().map(Path::new).filter(|base| base.exists());
        let Some(base) = base else {
            let named = adapter.base_model.as_deref().unwrap_or("none");
            let err = crate::error::file(format!(
                "its base model `{named}` is no file or folder here: `Pretrained::open(base)?.with_peft(folder)` takes one that is elsewhere"
            ));
            return Err(can_not("open", folder, &err));
        };
        let base = Self::open(base)?;
        Ok(Self { adapter: Some((folder.to_owned(), adapter)), ..base })
    }
}

impl Pretrained<'_> {
    /// This network with an adapter in a folder that PEFT's `save_pretrained` wrote: the target's low-rank adapters (the
    /// roles [`lora`](crate::target::role::spec::lora)) start at it in place of zero, and a hypernetwork learns the
    /// difference. Ranks must be equal; another scale is folded into the second factor. Modules of the target that the
    /// adapter has not start at zero.
    ///
    /// Modules go by the names of the target's tensors without `.weight`; where none is the same and all of the
    /// adapter's have one prefix in front, that is taken off.
    ///
    /// # Errors
    /// The folder is not that of an adapter, or of one with DoRA, trained biases, modules that are saved whole, or several
    /// ranks. Building a hypernetwork from it is an error where it fits none of the target's adapters, or has others.
    pub fn with_peft(self, folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        Ok(Self { adapter: Some((folder.to_owned(), PeftAdapter::open(folder)?)), ..self })
    }

    /// The factors that the target's adapters start from, by their number among the generated tensors.
    pub(super) fn factors(&self, layout: &Layout) -> Result<HashMap<usize, Tensor>> {
        let Some((folder, adapter)) = &self.adapter else { return Ok(HashMap::new()) };
        factors(adapter, layout).map_err(|err| can_not("take", folder, &err))
    }
}

/// The factors of an adapter for a target, by their number among its generated tensors, with what the scales differ by in
/// the second of each pair.
///
/// # Errors
/// The target has no such adapter, or one of another rank or shape.
pub(crate) fn factors(adapter: &PeftAdapter, layout: &Layout) -> Result<HashMap<usize, Tensor>> {
    let places: Vec<_> = layout.adapted().collect();
    let wanted: Vec<_> = places.iter().map(|at| module(at.name)).collect();
    let front = front(adapter, &wanted)?;
    let mut factors = HashMap::new();
    for (name, pair) in &adapter.modules {
        let own = name.strip_prefix(front.as_str()).unwrap_or(name);
        let Some(at) = places.iter().find(|at| module(at.name) == own) else {
            let near = nearest(own, wanted.iter().copied());
            bail!(
                layout,
                "it adapts `{own}`, where the target has no tensor `{own}{WEIGHT}` with the role `lora`; the nearest are {near}"
            );
        };
        check_shapes(own, pair, layout, at)?;
        let ([down, up], [of_down, of_up]) = (pair, at.factors());
        factors.insert(of_down, down.clone());
        factors.insert(of_up, rescaled(own, up, adapter.scale, at.scale)?);
    }
    Ok(factors)
}

/// The module of a weight.
pub(crate) fn module(name: &str) -> &str {
    name.strip_suffix(WEIGHT).unwrap_or(name)
}

/// What the adapter's modules have in front of those that are wanted.
fn front(adapter: &PeftAdapter, wanted: &[&str]) -> Result<String> {
    let there: Vec<_> = adapter.modules.keys().cloned().collect();
    if wanted.iter().any(|name| adapter.modules.contains_key(*name)) {
        return Ok(String::new());
    }
    if let Some(front) = prefix(wanted, &there) {
        return Ok(front);
    }
    let shown = |names: &[&str]| list(&names[..names.len().min(SHOWN)], names.len());
    let there: Vec<_> = there.iter().map(String::as_str).collect();
    bail!(
        layout,
        "its `target_modules`, {}, match nothing that is adapted here: its modules are {}, those of the target with the role `lora` {}",
        adapter.target_modules,
        shown(&there),
        shown(wanted)
    )
}

fn check_shapes(
    module: &str,
    [down, up]: &[Tensor; 2],
    layout: &Layout,
    at: &AdaptedInfo<'_>,
) -> Result<()> {
    let own = at.factors().map(|index| layout.params()[index].shape.dims());
    let (found, expected) = (down.dims()[0], own[0][0]);
    if found != expected {
        bail!(
            layout,
            "its adapter of `{module}` has rank {found}, the target's role is `lora({expected}, …)`"
        );
    }
    for (factor, (tensor, own)) in ["lora_A", "lora_B"].iter().zip([down, up].iter().zip(own)) {
        if tensor.dims() != own {
            bail!(
                layout,
                "its `{factor}` of `{module}` has shape {:?}, expected {own:?}",
                tensor.dims()
            );
        }
    }
    Ok(())
}

/// The second factor for a target that multiplies by another scale.
fn rescaled(module: &str, up: &Tensor, found: f64, own: f64) -> Result<Tensor> {
    if found == own {
        return Ok(up.clone());
    }
    if own == 0. {
        bail!(
            layout,
            "`{module}`: the alpha of its role is 0, expected another to hold an adapter"
        );
    }
    up * (found / own)
}
