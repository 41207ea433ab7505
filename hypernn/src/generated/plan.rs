//! A target with its layout: what all that is generated for it shares.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::VarBuilder;

use super::flat::FlatRecord;
use super::scale::Scales;
use super::seen_forwards::SeenForwards;
use crate::constructor::Requests;
use crate::flow::Network;
use crate::pretrained::{InitialValues, Pretrained};
use crate::structure::layout::{Layout, Recorded};
use crate::structure::name::short_name;
use crate::structure::role::{Role, Roles};
use crate::structure::source::ParamSource;
use crate::structure::value::Values;

/// A target with its configuration and layout, shared by all that is generated for it.
///
/// Nothing but [`new`](Self::new) asks for a [`HyperTarget`](crate::HyperTarget), so that a type that is none is one
/// error.
pub struct TargetPlan<T> {
    pub(crate) name: &'static str,
    pub(crate) layout: Layout,
    pub(crate) initial_values: InitialValues,
    /// What fields without parameters hold.
    pub(crate) values: Arc<Values>,
    roles: Vec<(String, Role)>,
    pub(super) model: Model<T>,
    /// What forwards over several sets were seen to do.
    pub(super) forwards: SeenForwards,
    /// Whether outputs have shown that each build makes the same model.
    same_model: AtomicBool,
    /// How a flat vector is cut, once one was given.
    plain: OnceLock<Scales>,
}

/// How a target is built.
pub(super) enum Model<T> {
    Declared {
        build: Box<Build<T>>,
        network: Box<StepsOf>,
        /// Whether the type says all: there is no configuration.
        of_type_alone: bool,
    },
    /// By the constructor, which was run for its requests: over a pretrained network, or over none.
    Constructed { constructor: Box<Constructor<T>>, requests: Requests, over_pretrained: bool },
}

pub(crate) type Build<T> = dyn Fn(&mut dyn ParamSource) -> Result<T> + Send + Sync;

/// The steps of a forward, where these are known.
type StepsOf = dyn Fn() -> Option<Network> + Send + Sync;

type Constructor<T> = dyn Fn(VarBuilder<'static>) -> Result<T> + Send + Sync;

impl<T> Model<T> {
    /// Whether the type says all: there is no configuration and no constructor.
    pub(super) fn is_of_type_alone(&self) -> bool {
        matches!(self, Self::Declared { of_type_alone: true, .. })
    }

    pub(super) fn build(&self, source: &mut dyn ParamSource) -> Result<T> {
        match self {
            Self::Declared { build, .. } => build(source),
            Self::Constructed { constructor, requests, .. } => requests.build(source, constructor),
        }
    }

    /// The layout, and what was made for fields without parameters.
    fn record(&self, roles: &[(String, Role)]) -> Result<Recorded> {
        let roles = Roles::new(roles);
        match self {
            Self::Declared { build, .. } => Layout::record(roles, |source| build(source).map(drop)),
            Self::Constructed { requests, .. } => {
                let (layout, values) =
                    Layout::record(roles, |source| requests.serve(source).map(drop))?;
                Ok((layout.with_absent(requests.absent()), values))
            }
        }
    }

    /// The model over a pretrained network: a constructor runs over it anew, and a declared target stays as it
    /// is.
    fn over(self, pretrained: &Pretrained<'_>, dtype: DType, device: &Device) -> Result<Self> {
        match self {
            Self::Constructed { constructor, over_pretrained: false, .. } => {
                let requests = Requests::record(&constructor, Some(pretrained), dtype, device)?;
                Ok(Self::Constructed { constructor, requests, over_pretrained: true })
            }
            model => Ok(model),
        }
    }
}

/// How a target is built that says so itself.
pub(crate) struct DeclaredTarget<T> {
    pub(crate) name: &'static str,
    pub(crate) build: Box<Build<T>>,
    /// The steps of its forward.
    pub(crate) network: Box<StepsOf>,
    /// Whether the type says all: there is no configuration.
    pub(crate) of_type_alone: bool,
}

impl<T> DeclaredTarget<T> {
    fn into_model(self) -> Model<T> {
        let Self { build, network, of_type_alone, .. } = self;
        Model::Declared { build, network, of_type_alone }
    }
}

impl<T> TargetPlan<T> {
    /// The plan for a target that is built so.
    pub(crate) fn declared(declared: DeclaredTarget<T>) -> Result<Self> {
        Self::record(declared.name, declared.into_model())
    }

    /// The plan for a flat vector, of no network: what was recorded for the type serves again.
    pub(crate) fn of_flat(declared: DeclaredTarget<T>, record: &FlatRecord) -> Self {
        let recorded = (record.layout.clone(), record.values.clone());
        let plan = Self::of(declared.name, declared.into_model(), recorded);
        let plan = Self { plain: record.plain.clone().into(), ..plan };
        // A plan for each flat vector would look each time.
        plan.same_model.store(true, Ordering::Relaxed);
        plan
    }

    /// The plan for a model that is built from a `VarBuilder`, by its constructor; see
    /// [`constructor`](crate::constructor).
    ///
    /// # Errors
    /// The constructor's own, a tensor that is asked for without a shape, with two shapes or in a
    /// dtype that is not floating, or no parameters at all.
    pub fn from_constructor(
        constructor: impl Fn(VarBuilder<'static>) -> Result<T> + Send + Sync + 'static,
    ) -> Result<Self> {
        Self::by_constructor(constructor, None, DType::F32, &Device::Cpu)
    }

    /// The plan for a model that is built by its constructor, recorded over a `VarBuilder` of `dtype` on `device`,
    /// or over a pretrained network, which the constructor may need even to run, and which
    /// [`with_pretrained`](Self::with_pretrained) then takes.
    ///
    /// # Errors
    /// Those of [`from_constructor`](Self::from_constructor), over the pretrained network if there is one.
    #[doc(hidden)]
    pub fn by_constructor(
        constructor: impl Fn(VarBuilder<'static>) -> Result<T> + Send + Sync + 'static,
        pretrained: Option<&Pretrained<'_>>,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let requests = Requests::record(&constructor, pretrained, dtype, device)?;
        let (constructor, over_pretrained) = (Box::new(constructor), pretrained.is_some());
        let model = Model::Constructed { constructor, requests, over_pretrained };
        Self::record(short_name::<T>(), model)
    }

    fn record(name: &'static str, model: Model<T>) -> Result<Self> {
        let recorded = model.record(&[])?;
        recorded.0.ensure_parameters(name)?;
        Ok(Self::of(name, model, (recorded.0, recorded.1.into())))
    }

    fn of(name: &'static str, model: Model<T>, (layout, values): (Layout, Arc<Values>)) -> Self {
        Self {
            name,
            layout,
            initial_values: InitialValues::default(),
            values,
            roles: Vec::new(),
            model,
            forwards: SeenForwards::default(),
            same_model: AtomicBool::default(),
            plain: OnceLock::new(),
        }
    }

    /// How a flat vector is cut, whose values are taken as they are.
    pub(super) fn plain(&self) -> &Scales {
        self.plain.get_or_init(|| Scales::identity(&self.layout))
    }

    /// This target's plan with other roles for the tensors that a pattern matches, and no pretrained
    /// network; see [`role`](crate::structure::role).
    ///
    /// # Errors
    /// A pattern that decides nothing, shared tensors of different shapes, or nothing to generate.
    pub fn with_roles(self, roles: &[(&str, Role)]) -> Result<Self> {
        let roles: Vec<_> = roles.iter().map(|(name, role)| ((*name).to_owned(), *role)).collect();
        let (layout, values) = self.model.record(&roles)?;
        layout.ensure_parameters(self.name)?;
        let (values, plain) = (values.into(), OnceLock::new());
        let initial_values = InitialValues::default();
        Ok(Self { layout, values, initial_values, roles, plain, ..self })
    }

    /// This target's plan, with the roles that it has, starting from a pretrained network in `dtype`,
    /// on `device`. A model by constructor is the one that its constructor builds over this network.
    ///
    /// # Errors
    /// The network lacks a tensor, or has one of another shape.
    pub fn with_pretrained<'a>(
        self,
        pretrained: impl Into<Pretrained<'a>>,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let pretrained = pretrained.into();
        let model = self.model.over(&pretrained, dtype, device)?;
        let (layout, mut values) = model.record(&self.roles)?;
        layout.ensure_parameters(self.name)?;
        let initial_values = pretrained.initial_values(&layout, dtype, device)?;
        for (name, tensor) in values.names.iter().zip(&mut values.tensors) {
            *tensor = pretrained.value(&layout, name, tensor)?;
        }
        Ok(Self {
            layout,
            values: values.into(),
            initial_values,
            model,
            same_model: AtomicBool::default(),
            plain: OnceLock::new(),
            ..self
        })
    }

    /// Where it is noted that each build makes the same model, if that is to be seen.
    pub(super) fn same_model(&self) -> Option<&AtomicBool> {
        let by_constructor = matches!(self.model, Model::Constructed { .. });
        (by_constructor || self.values.anew.is_some()).then_some(&self.same_model)
    }

    /// The name and tensor of what is neither generated nor kept, but a part of the model: integers of
    /// a pretrained network, and tensors without values.
    pub(crate) fn constants(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        let requests = match &self.model {
            Model::Declared { .. } => None,
            Model::Constructed { requests, .. } => Some(requests),
        };
        requests.into_iter().flat_map(Requests::constants)
    }

    /// The steps of the target's forward with the shape of one sample behind each, of a target with
    /// `#[hyper(sequential)]`.
    pub fn network(&self) -> Option<Network> {
        match &self.model {
            Model::Declared { network, .. } => network(),
            Model::Constructed { .. } => None,
        }
    }

    /// Which tensor lies where in the flat vector.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The number of the target's parameters.
    pub fn num_params(&self) -> usize {
        self.layout.num_params()
    }
}
