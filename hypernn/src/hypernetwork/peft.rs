//! Generated low-rank adapters as files of other programs: PEFT's folders, and llama.cpp's GGUF files.

use std::path::{Path, PathBuf};

use candle_core::{DType, Result, Tensor};
use serde_json::{Value, json};

use super::core::Core;
use crate::error::bail;
use crate::files::gguf::{Gguf, GgufLora};
use crate::files::peft::{CONFIG, FACTORS, FRONT, PeftAdapter, WRITTEN};
use crate::files::{self, Snapshot, can_not};
use crate::generated::GeneratedParams;
use crate::pretrained::peft::{WEIGHT, factors, module};
use crate::structure::layout::{AdaptedInfo, Layout};
use crate::structure::role::Role;
use crate::structure::source::ParamKind;

/// What a folder of PEFT says beside the adapter itself; see
/// [`save_peft_as`](GeneratedParams::save_peft_as).
#[derive(Clone, Debug, Default)]
pub struct PeftOptions {
    prefix: String,
    base_model: Option<String>,
    task: Option<String>,
}

impl PeftOptions {
    /// What is put in front of the modules' names, such as `model.`, where the target is a part of the model that PEFT
    /// adapts. A target whose tensors are named as that model's needs none.
    #[must_use]
    pub fn prefix(self, prefix: &str) -> Self {
        Self { prefix: prefix.to_owned(), ..self }
    }

    /// The model that is adapted, as `base_model_name_or_path`: a name on a hub, or a folder.
    #[must_use]
    pub fn base_model(self, base: &str) -> Self {
        Self { base_model: Some(base.to_owned()), ..self }
    }

    /// The task, as `task_type`: `CAUSAL_LM` for a language model that PEFT's own classes load.
    #[must_use]
    pub fn task(self, task: &str) -> Self {
        Self { task: Some(task.to_owned()), ..self }
    }
}

impl<T> GeneratedParams<T> {
    /// Writes the generated low-rank adapters as a folder that PEFT loads (`PeftModel.from_pretrained(base, folder)`):
    /// `adapter_model.safetensors` with `base_model.model.MODULE.lora_A.weight`, `[r, in]`, and `lora_B`, `[out, r]`, and
    /// `adapter_config.json`. Of `G` sets, each has a folder of its own below, `0`, `1` and so on.
    ///
    /// A module's name is that of the target's tensor without `.weight`. `target_modules` are their last parts, such as
    /// `q_proj`, or whole names where another module of the target ends so and is not adapted. There is one rank, and one
    /// alpha, that of the first module if it is whole; where a module has another scale, it is in its `lora_B`. Values in
    /// f64 are written in f32.
    ///
    /// ```
    /// use candle_core::{DType, Device, Result, Tensor};
    /// use hypernn::nn::{Linear, VarBuilder, VarMap};
    /// use hypernn::{HyperTarget, hypernetwork};
    ///
    /// #[derive(HyperTarget)]
    /// #[hyper(sequential)]
    /// struct Net {
    ///     #[hyper(linear(4, 6))]
    ///     q_proj: Linear,
    /// }
    ///
    /// hypernetwork! {
    ///     struct HyperNet for Net {
    ///         roles: [("*.weight", lora(2, 4.)), ("*", freeze)],
    ///         embedding: tasks(3, 4, 5),
    ///         generator: linear,
    ///         mode: dynamic,
    ///     }
    /// }
    ///
    /// # fn main() -> Result<()> {
    /// let vars = VarMap::new();
    /// Net::new(VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu))?;
    /// let base = VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu);
    /// let vb = VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu);
    /// let hyper = HyperNet::new_from(vb, base)?;
    ///
    /// // The adapter of one task, for others; and theirs, back.
    /// let folder = std::env::temp_dir().join("hypernn_peft");
    /// let params = hyper.generate_params(&Tensor::new(1u32, &Device::Cpu)?)?;
    /// params.save_peft(&folder)?;
    /// let loaded = hyper.load_peft(&folder)?;
    /// let xs = Tensor::ones((3, 4), DType::F32, &Device::Cpu)?;
    /// assert_eq!(loaded.forward(&xs)?.to_vec2::<f32>()?, params.forward(&xs)?.to_vec2::<f32>()?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// What PEFT's folder can't hold: tensors that are generated whole or trained beside the adapters, adapters of kernels
    /// and tables, several ranks. A file can't be written.
    pub fn save_peft(&self, folder: impl AsRef<Path>) -> Result<()> {
        self.save_peft_as(folder, &PeftOptions::default())
    }

    /// [`save_peft`](Self::save_peft) with another name in front of the modules, or with what the folder says of its base.
    ///
    /// # Errors
    /// Those of [`save_peft`](Self::save_peft).
    pub fn save_peft_as(&self, folder: impl AsRef<Path>, options: &PeftOptions) -> Result<()> {
        let folder = folder.as_ref();
        let adapters = Adapters::of(self.layout(), "a folder of PEFT");
        let adapters = adapters.map_err(|err| can_not("write", folder, &err))?;
        let config = adapters.config(self.layout(), options);
        self.for_each_set(folder, |set, folder| {
            std::fs::create_dir_all(folder)
                .map_err(|err| can_not("write", folder, &candle_core::Error::Io(err)))?;
            let mut snapshot = Snapshot::default();
            for at in &adapters.places {
                let factors = adapters.factors(self, at, set)?;
                for (end, factor) in FACTORS.iter().zip(&factors) {
                    let name = format!("{FRONT}{}{}{end}", options.prefix, module(at.name));
                    snapshot.add(&name, factor)?;
                }
            }
            snapshot.write(&folder.join(WRITTEN), [("format".into(), "pt".into())].into())?;
            files::write(&folder.join(CONFIG), |file| {
                Ok(file.write_all(format!("{config:#}\n").as_bytes())?)
            })
        })
    }

    /// Writes the generated low-rank adapters as a GGUF file that llama.cpp loads beside a model (`--lora`). Of `G` sets,
    /// each has a file of its own in the folder `path`: `0.gguf`, `1.gguf` and so on.
    ///
    /// `base` is the model's own file: its architecture and heads say how llama.cpp names the modules, and which rows of
    /// queries and keys it keeps in another order. The target's tensors are named as
    /// [`Pretrained::open`](crate::Pretrained::open) names those of `base`.
    ///
    /// # Errors
    /// Those of [`save_peft`](Self::save_peft), or `base` has no such module, or one of another shape.
    pub fn save_gguf_lora(&self, path: impl AsRef<Path>, base: &Gguf) -> Result<()> {
        let path = path.as_ref();
        let adapters = Adapters::of(self.layout(), "a GGUF file of adapters");
        let adapters = adapters.map_err(|err| can_not("write", path, &err))?;
        self.for_each_set(path, |set, path| {
            let path = match set {
                None => path.to_owned(),
                Some(_) => path.with_extension("gguf"),
            };
            let mut file = GgufLora::new(base, adapters.alpha)?;
            for at in &adapters.places {
                let [down, up] = adapters.factors(self, at, set)?;
                let added = file.add(module(at.name), &down, &up);
                added.map_err(|err| can_not("write", &path, &err))?;
            }
            let folder = path.parent().filter(|_| set.is_some());
            folder.map_or(Ok(()), std::fs::create_dir_all)?;
            file.write(&path)
        })
    }

    /// Runs for each set, with its number and a path of its own, or for the only one.
    fn for_each_set(
        &self,
        path: &Path,
        mut run: impl FnMut(Option<usize>, &Path) -> Result<()>,
    ) -> Result<()> {
        let Some(sets) = self.num_sets() else { return run(None, path) };
        let place = |set: usize| -> PathBuf { path.join(set.to_string()) };
        (0..sets).try_for_each(|set| run(Some(set), &place(set)))
    }
}

/// The low-rank adapters of a target, all of one rank.
struct Adapters<'a> {
    places: Vec<AdaptedInfo<'a>>,
    rank: usize,
    /// One for all: what other scales differ by is in the second factor.
    alpha: f64,
}

impl<'a> Adapters<'a> {
    /// Those of a layout that `format` can hold.
    fn of(layout: &'a Layout, format: &str) -> Result<Self> {
        check_whole(layout, format)?;
        let places: Vec<_> = layout.adapted().collect();
        let Some(first) = places.first() else {
            bail!(
                declaration,
                "no tensor has the role `lora`, and {format} holds low-rank adapters alone"
            );
        };
        let rank = |at: &AdaptedInfo<'_>| layout.params()[at.down].shape.dims()[0];
        for at in &places {
            check_linear(layout, at, format)?;
            if rank(at) != rank(first) {
                bail!(
                    declaration,
                    "`{}` has an adapter of rank {}, `{}` of rank {}: {format} has one rank",
                    first.name,
                    rank(first),
                    at.name,
                    rank(at)
                );
            }
        }
        let (rank, alpha) = (rank(first), first.scale * rank(first) as f64);
        // Alphas are whole numbers by convention.
        let is_whole = alpha.fract() == 0. && alpha != 0.;
        Ok(Self { rank, alpha: if is_whole { alpha } else { rank as f64 }, places })
    }

    /// Both factors of a set, in a dtype that PEFT knows.
    fn factors<T>(
        &self,
        params: &GeneratedParams<T>,
        at: &AdaptedInfo<'_>,
        set: Option<usize>,
    ) -> Result<[Tensor; 2]> {
        let factor = |index: usize| {
            let (_, tensor) = params.tensors().nth(index).ok_or_else(|| no_factor(at))?;
            let tensor = set.map_or(Ok(tensor.clone()), |set| tensor.get(set))?.detach();
            if tensor.dtype() == DType::F64 { tensor.to_dtype(DType::F32) } else { Ok(tensor) }
        };
        let [down, up] = at.factors().map(factor);
        let (down, up) = (down?, up?);
        let ratio = at.scale * self.rank as f64 / self.alpha;
        let up = if ratio == 1. {
            up
        } else {
            (up.to_dtype(DType::F32)? * ratio)?.to_dtype(up.dtype())?
        };
        Ok([down.contiguous()?, up.contiguous()?])
    }

    fn config(&self, layout: &Layout, options: &PeftOptions) -> Value {
        let dropout = self.places[0].dropout;
        let same = self.places.iter().all(|at| at.dropout == dropout);
        let alpha = match self.alpha {
            alpha if alpha.abs() < i32::MAX.into() => json!(alpha as i64),
            alpha => json!(alpha),
        };
        json!({
            "peft_type": "LORA",
            "task_type": options.task,
            "base_model_name_or_path": options.base_model,
            "r": self.rank,
            "lora_alpha": alpha,
            "target_modules": self.target_modules(layout, &options.prefix),
            "lora_dropout": if same { f64::from(dropout) } else { 0. },
            "bias": "none",
            "fan_in_fan_out": false,
            "inference_mode": true,
            "init_lora_weights": true,
            "modules_to_save": null,
            "rank_pattern": {},
            "alpha_pattern": {},
            "use_dora": false,
            "use_rslora": false,
        })
    }

    /// The last parts of the modules' names; whole names where that would be said of others as well.
    fn target_modules(&self, layout: &Layout, prefix: &str) -> Vec<String> {
        let last = |name: &str| module(name).rsplit('.').next().unwrap_or_default().to_owned();
        let is_adapted = |name: &str| self.places.iter().any(|at| at.name == name);
        let weights = layout.names().filter(|name| name.ends_with(WEIGHT));
        let others: Vec<_> = weights.filter(|name| !is_adapted(name)).map(last).collect();
        let names = self.places.iter().map(|at| match last(at.name) {
            last if others.contains(&last) => format!("{prefix}{}", module(at.name)),
            last => last,
        });
        let mut names: Vec<_> = names.collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

fn no_factor(at: &AdaptedInfo<'_>) -> candle_core::Error {
    crate::error::declaration(format!("`{}` has no factors", at.name))
}

/// Nothing but adapters differs from the pretrained network.
fn check_whole(layout: &Layout, format: &str) -> Result<()> {
    let is_factor = |kind| matches!(kind, ParamKind::Down | ParamKind::Up);
    let generated = layout.params().iter().find(|param| !is_factor(param.kind));
    let generated = generated.map(|param| (&param.name, "generated as a whole"));
    let trained = layout.kept().iter().find(|kept| kept.role == Role::Train);
    let trained = trained.map(|kept| (&kept.name, "trained"));
    match generated.or(trained) {
        Some((name, how)) => bail!(
            declaration,
            "`{name}` is {how}, and {format} holds low-rank adapters alone: give it the role `lora` or `freeze`, or `export` the network"
        ),
        None => Ok(()),
    }
}

fn check_linear(layout: &Layout, at: &AdaptedInfo<'_>, format: &str) -> Result<()> {
    let base = &layout.kept()[at.base];
    let dims = base.shape.dims();
    let is_linear = dims.len() == 2 && base.kind == ParamKind::Weight && at.name.ends_with(WEIGHT);
    if is_linear {
        return Ok(());
    }
    bail!(
        declaration,
        "`{}`, a {} of shape {dims:?}, has an adapter, and {format} holds those of linear layers, whose name ends in `{WEIGHT}`",
        at.name,
        if dims.len() > 2 { "kernel" } else { base.kind.name() }
    )
}

impl<T> Core<T> {
    /// Reads an adapter that PEFT's `save_pretrained` wrote, to be served over this network's base: its factors are the
    /// generated tensors. They have the dtype and device of this network's target, and no gradient flows back. Another
    /// scale is folded into the second factor; modules of the target that the adapter has not get an adapter of zero.
    ///
    /// Modules go by the names of the target's tensors without `.weight`; where none is the same and all of the
    /// adapter's have one prefix in front, that is taken off. What a hypernetwork is to start from,
    /// [`Pretrained::with_peft`](crate::Pretrained::with_peft) takes.
    ///
    /// # Errors
    /// The folder is not that of an adapter, or of one with DoRA, trained biases, modules that are saved whole or several
    /// ranks; it adapts other modules than the target, by another rank or with other shapes; or the target has generated
    /// tensors beside adapters.
    pub fn load_peft(&self, folder: impl AsRef<Path>) -> Result<GeneratedParams<T>> {
        let folder = folder.as_ref();
        let adapter = PeftAdapter::open(folder)?;
        let loaded = self.params_of_peft(&adapter);
        loaded.map_err(|err| can_not("load", folder, &err))
    }

    fn params_of_peft(&self, adapter: &PeftAdapter) -> Result<GeneratedParams<T>> {
        let mut factors = factors(adapter, self.layout())?;
        let (dtype, device) = self.kind();
        let dtype = self.target_dtype().unwrap_or(dtype);
        let tensors = self.layout().params().iter().enumerate().map(|(index, param)| {
            match (factors.remove(&index), param.kind) {
                (Some(factor), _) => factor.to_dtype(dtype)?.to_device(device),
                (None, ParamKind::Down | ParamKind::Up) => {
                    Tensor::zeros(param.shape.clone(), dtype, device)
                }
                _ => bail!(
                    layout,
                    "`{}` of the target is generated, and an adapter of PEFT does not hold it",
                    param.name
                ),
            }
        });
        let tensors = tensors.collect::<Result<_>>()?;
        Ok(GeneratedParams::from_tensors(self.plan.clone(), tensors, None, self.kept.clone()))
    }
}
