impl HyperTarget for ByHand {
    type Config = ();

    const NAME: &'static str = "ByHand";

    const TAKES_SETS: bool = true;

    fn build(_config: &(), source: &mut dyn ParamSource) -> Result<Self> {
        Ok(Self {
            conv1: scoped(source, "conv1", |source| HyperLayer::build(&CONV1, source))?,
            norm1: scoped(source, "norm1", |source| HyperLayer::build(&NORM1, source))?,
            conv2: scoped(source, "conv2", |source| HyperLayer::build(&CONV2, source))?,
            norm2: scoped(source, "norm2", |source| HyperLayer::build(&NORM2, source))?,
            conv3: scoped(source, "conv3", |source| HyperLayer::build(&CONV3, source))?,
            norm3: scoped(source, "norm3", |source| HyperLayer::build(&NORM3, source))?,
            fc1: scoped(source, "fc1", |source| HyperLayer::build(&FC1, source))?,
            norm4: scoped(source, "norm4", |source| HyperLayer::build(&NORM4, source))?,
            fc2: scoped(source, "fc2", |source| HyperLayer::build(&FC2, source))?,
            fc3: scoped(source, "fc3", |source| HyperLayer::build(&FC3, source))?,
        })
    }
}

impl Parameters for ByHand {
    fn visit(&self, visitor: &mut Visitor<'_>) -> Result<()> {
        self.conv1.visit(visitor)?;
        self.norm1.visit(visitor)?;
        self.conv2.visit(visitor)?;
        self.norm2.visit(visitor)?;
        self.conv3.visit(visitor)?;
        self.norm3.visit(visitor)?;
        self.fc1.visit(visitor)?;
        self.norm4.visit(visitor)?;
        self.fc2.visit(visitor)?;
        self.fc3.visit(visitor)
    }
}

impl HyperLayer<NestedSpec<()>> for ByHand {
    const TAKES_SETS: bool = true;

    fn build(spec: &NestedSpec<()>, source: &mut dyn ParamSource) -> Result<Self> {
        <Self as HyperTarget>::build(&spec.0, source)
    }
}

impl FixedTarget for ByHand {
    const NUM_PARAMS: usize = CONV1.info().num_params
        + NORM1.info().num_params
        + CONV2.info().num_params
        + NORM2.info().num_params
        + CONV3.info().num_params
        + NORM3.info().num_params
        + FC1.info().num_params
        + NORM4.info().num_params
        + FC2.info().num_params
        + FC3.info().num_params;
}

const CONV1: Conv2dSpec = spec::conv2d(1, 8, 3).stride(2);
const NORM1: GroupNormSpec = spec::group_norm(2, 8, 1e-5);
const CONV2: Conv2dSpec = spec::conv2d(8, 16, 3).stride(2);
const NORM2: GroupNormSpec = spec::group_norm(2, 16, 1e-5);
const CONV3: Conv2dSpec = spec::conv2d(16, 32, 3);
const NORM3: GroupNormSpec = spec::group_norm(2, 32, 1e-5);
const FC1: LinearSpec = spec::linear(32 * 4 * 4, 64);
const NORM4: LayerNormSpec = spec::layer_norm(64);
const FC2: LinearSpec = spec::linear(64, 32);
const FC3: LinearSpec = spec::linear(32, 10);

const _: () = right(CONV1.info().problem);
const _: () = right(NORM1.info().problem);
const _: () = right(CONV2.info().problem);
const _: () = right(NORM2.info().problem);
const _: () = right(CONV3.info().problem);
const _: () = right(NORM3.info().problem);
const _: () = right(FC1.info().problem);
const _: () = right(NORM4.info().problem);
const _: () = right(FC2.info().problem);
const _: () = right(FC3.info().problem);

const _: () = learns::<Conv2d, Conv2dSpec>();
const _: () = learns::<GroupNorm, GroupNormSpec>();
const _: () = learns::<Linear, LinearSpec>();
const _: () = learns::<LayerNorm, LayerNormSpec>();

const fn right(problem: Option<Problem>) {
    if let Some(problem) = problem {
        panic!("{}", problem.message());
    }
}

const fn learns<T: HyperLayer<S>, S>() {
    if let Some(reason) = T::REFUSED {
        panic!("{}", reason);
    }
}
