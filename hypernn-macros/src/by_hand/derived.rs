#[derive(HyperTarget)]
struct Derived {
    #[hyper(conv2d(1, 8, 3, stride = 2))]
    conv1: Conv2d,
    #[hyper(group_norm(2, 8, 1e-5))]
    norm1: GroupNorm,
    #[hyper(conv2d(8, 16, 3, stride = 2))]
    conv2: Conv2d,
    #[hyper(group_norm(2, 16, 1e-5))]
    norm2: GroupNorm,
    #[hyper(conv2d(16, 32, 3))]
    conv3: Conv2d,
    #[hyper(group_norm(2, 32, 1e-5))]
    norm3: GroupNorm,
    #[hyper(linear(32 * 4 * 4, 64))]
    fc1: Linear,
    #[hyper(layer_norm(64, 1e-5))]
    norm4: LayerNorm,
    #[hyper(linear(64, 32))]
    fc2: Linear,
    #[hyper(linear(32, 10))]
    fc3: Linear,
}
