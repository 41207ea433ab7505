"""hyper-nn's JAX side, and JAX by hand, all of it compiled by jax.jit.

Run by table.py; the cases are those of benches/src/cases. hyper-nn's recurrent cell has one bias less
than PyTorch's. By hand there is one `jnp.split`, whose gradient XLA makes far cheaper than that of
hyper-nn's slice per tensor. Images have their channels last, as XLA likes them best on a CPU.
"""

import functools
import importlib.metadata
import itertools
import math
from typing import Any, Callable, NamedTuple, Optional

import jax

# hyper-nn calls what newer versions of JAX have under another name.
jax.tree_map = jax.tree_util.tree_map

import flax.linen as nn
import jax.numpy as jnp
import optax
from hypernn.jax import JaxDynamicHyperNetwork, JaxLinearHyperNetwork
from jax import lax
from serve import serve

KEY = jax.random.PRNGKey(0)
LETTERS, LANGUAGES = 59, 18
INPUTS = LANGUAGES + LETTERS
NAME = [17, 0, 1, 8, 13, 14, 21, 8]
LAYOUT = ("NHWC", "HWIO", "NHWC")


class Network(NamedTuple):
    """Parameters, an input, what generates and what gives outputs of both, and the outputs' loss."""

    params: Any
    xs: jax.Array
    forward: Callable
    generate: Optional[Callable] = None
    loss: Callable = jnp.sum
    clip: Optional[float] = None


def mlp(*sizes):
    layers = [layer for size in sizes for layer in (nn.Dense(size), nn.relu)]
    return nn.Sequential(layers[:-1])


def deep():
    return nn.Sequential([layer for _ in range(64) for layer in (nn.Dense(128), nn.relu)])


def flat(images):
    return images.reshape(len(images), -1)


def notebook():
    """The network of hyper-nn's MNIST notebook."""
    conv = functools.partial(nn.Conv, strides=2, padding="VALID")
    hidden = [layer for _ in range(3) for layer in (conv(64, (3, 3)), nn.relu)]
    return nn.Sequential([*hidden, conv(10, (2, 2)), flat])


class WithHidden(JaxLinearHyperNetwork):
    def make_weight_generator(self):
        return nn.Sequential([nn.Dense(32), nn.tanh, nn.Dense(self.weight_chunk_dim)])


STATIC = {
    # target, kind, embeddings, their width, shape of a sample
    "static_small": (functools.partial(mlp, 64, 32), JaxLinearHyperNetwork, 32, 4, (32,)),
    "static_mlp_1m": (functools.partial(mlp, 1024, 256, 10), JaxLinearHyperNetwork, 64, 32, (784,)),
    "static_deep": (deep, JaxLinearHyperNetwork, 64, 16, (128,)),
    "static_cnn": (notebook, WithHidden, 512, 4, (28, 28, 1)),
}
ROWS = {"dynamic_step": 1, "dynamic_10": 10, "dynamic_64": 64, "dynamic_256": 256}


def static(case):
    make, kind, embeddings, width, sample = STATIC[case]
    xs, digits = jax.random.normal(KEY, (64, *sample)), jnp.arange(64) % 10
    hyper = kind.from_target(
        target_network=make(), embedding_dim=width, num_embeddings=embeddings, inputs=[xs]
    )
    generate = lambda params, xs: hyper.apply(params, method=hyper.generate_params)[0]
    loss = jnp.sum
    if case in ("static_mlp_1m", "static_cnn"):
        loss = lambda ys: optax.softmax_cross_entropy_with_integer_labels(ys, digits).mean()
    return Network(hyper.init(KEY, xs), xs, hyper.apply, generate, loss)


def dynamic(case):
    rows = ROWS[case]
    one, xs = jnp.ones((1, 8)), jax.random.normal(KEY, (rows, 1, 8))
    hyper = JaxDynamicHyperNetwork.from_target(
        input_dim=8, target_network=mlp(256, 32), embedding_dim=4, num_embeddings=32, inputs=[one]
    )
    condition = lambda x: dict(x=x, hidden_state=jnp.zeros((1, 32)))
    params = hyper.init(KEY, one, generate_params_kwargs=condition(one))
    apply = lambda params, x: hyper.apply(params, x, generate_params_kwargs=condition(x))
    generate = lambda params, x: hyper.apply(params, **condition(x), method=hyper.generate_params)[0]
    if rows == 1:
        return Network(params, xs[0], apply, generate)
    each = lambda function: jax.vmap(function, in_axes=(None, 0))
    return Network(params, xs, each(apply), each(generate))


def linear(xs, tensors):
    weight, bias = tensors
    return xs @ weight + bias


def pairs(sizes):
    """The shapes of weight and bias of each layer."""
    return [shape for inputs, outputs in sizes for shape in ((inputs, outputs), (outputs,))]


class ByHand:
    """A table of embeddings, a generator's layers, and tensors split from what they give."""

    def __init__(self, shapes, embeddings, width, hidden=None):
        self.shapes, self.ends = shapes, list(itertools.accumulate(map(math.prod, shapes)))
        chunk = -(-self.ends[-1] // embeddings)
        layers = [(width, hidden), (hidden, chunk)] if hidden else [(width, chunk)]
        self.inits = dict(table=(embeddings, width), generator=pairs(layers))

    def params(self, **more):
        """Of these shapes and more."""
        inits = self.inits | more
        leaves, tree = jax.tree.flatten(inits, is_leaf=lambda shape: isinstance(shape, tuple))
        keys = jax.random.split(KEY, len(leaves))
        return tree.unflatten([0.1 * jax.random.normal(key, shape) for key, shape in zip(keys, leaves)])

    def tensors(self, params, scale=1.0):
        """Of an embedding that is scaled, or of one a row."""
        values, *layers = params["table"] * scale, *zip(params["generator"][::2], params["generator"][1::2])
        for layer in layers[:-1]:
            values = jnp.tanh(linear(values, layer))
        values, rows = linear(values, layers[-1]), values.shape[:-2]
        parts = jnp.split(values.reshape(*rows, -1)[..., : self.ends[-1]], self.ends[:-1], axis=-1)
        return [part.reshape(*rows, *shape) for part, shape in zip(parts, self.shapes)]


def run_layers(tensors, xs, layer):
    """Layers with ReLU between them."""
    layers = list(zip(tensors[::2], tensors[1::2]))
    for both in layers[:-1]:
        xs = jax.nn.relu(layer(xs, both))
    return layer(xs, layers[-1])


def run_deep(tensors, xs):
    return jax.nn.relu(run_layers(tensors, xs, linear))


def run_notebook(tensors, xs):
    conv = lambda xs, both: lax.conv_general_dilated(xs, both[0], (2, 2), "VALID", dimension_numbers=LAYOUT) + both[1]
    return flat(run_layers(tensors, xs, conv))


KERNELS = [(3, 3, 1, 64), (3, 3, 64, 64), (3, 3, 64, 64), (2, 2, 64, 10)]
BY_HAND = {
    # shapes, target, and the width of the generator's hidden layer
    "static_small": (pairs([(32, 64), (64, 32)]), functools.partial(run_layers, layer=linear), None),
    "static_mlp_1m": (pairs([(784, 1024), (1024, 256), (256, 10)]), functools.partial(run_layers, layer=linear), None),
    "static_deep": (pairs([(128, 128)] * 64), run_deep, None),
    "static_cnn": ([shape for kernel in KERNELS for shape in (kernel, kernel[-1:])], run_notebook, 32),
}


def static_by_hand(case):
    shapes, target, hidden = BY_HAND[case]
    _, _, embeddings, width, _ = STATIC[case]
    hand, same = ByHand(shapes, 511 if hidden else embeddings, width, hidden), network(case, "jax")
    forward = lambda params, xs: target(hand.tensors(params), xs)
    return Network(hand.params(), same.xs, forward, lambda params, xs: hand.tensors(params), same.loss)


def dynamic_by_hand(case):
    """Sums in place of products of one row, which XLA leaves to a library only where they are large."""
    hand, xs = ByHand(pairs([(8, 256), (256, 32)]), 32, 4), jax.random.normal(KEY, (ROWS[case], 8))
    params = hand.params(of_input=[(8, 32), (32,)], of_state=[(32, 32), (32,)])

    def generate(params, xs):
        state = linear(jnp.zeros((1, 32)), params["of_state"])
        return hand.tensors(params, jnp.tanh(linear(xs, params["of_input"]) + state)[:, :, None])

    layer = lambda xs, both: (xs[:, :, None] * both[0]).sum(axis=1) + both[1]
    forward = lambda params, xs: run_layers(generate(params, xs), xs, layer)
    return Network(params, xs, forward, generate)


# Weight and bias for the input and for the state of a GRU, then of three linear layers.
SIZES = [(INPUTS, 384), (128, 384), (128, 256), (256, 256), (256, LETTERS)]


def next_letter(tensors, xs, hidden):
    """Of SIZES, and a state; the GRU has both biases, as PyTorch's."""
    of_input, of_state = tensors[:2], tensors[2:4]
    i, h = (jnp.split(linear(*both), 3, axis=1) for both in ((xs, of_input), (hidden, of_state)))
    reset, update = jax.nn.sigmoid(i[0] + h[0]), jax.nn.sigmoid(i[1] + h[1])
    hidden = (1 - update) * jnp.tanh(i[2] + reset * h[2]) + update * hidden
    return jax.nn.log_softmax(run_layers(tensors[4:], hidden, linear)), hidden


def name():
    xs = jnp.zeros((8, 1, INPUTS)).at[:, 0, 14].set(1)
    return xs.at[jnp.arange(8), 0, LANGUAGES + jnp.array(NAME)].set(1), jnp.array(NAME[1:] + [LETTERS - 1])


def names():
    """A table that an RNN cell scales, weights anew for each letter."""
    (xs, after), hand = name(), ByHand(pairs(SIZES), 64, 4)
    params = hand.params(of_input=[(INPUTS, 64), (64,)], of_state=[(64, 64), (64,)])

    def forward(params, xs):
        hidden, state, outputs = jnp.zeros((1, 128)), jnp.zeros((1, 64)), []
        for x in xs:
            state = jnp.tanh(linear(x, params["of_input"]) + linear(state, params["of_state"]))
            ys, hidden = next_letter(hand.tensors(params, state.T), x, hidden)
            outputs.append(ys[0])
        return jnp.stack(outputs)

    loss = lambda ys: -jnp.take_along_axis(ys, after[:, None], axis=1).sum()
    return Network(params, xs, forward, loss=loss, clip=10.0)


def convolutions():
    """One convolution after the other: the gradient of vmap's takes XLA two hundred times as long."""
    xs, weights = jax.random.normal(KEY, (32, 28, 28, 16)), jax.random.normal(KEY, (32, 3, 3, 16, 32))
    params = 0.1 * weights, 0.1 * jax.random.normal(KEY, (32, 1, 1, 32))

    def forward(params, xs):
        each = zip(jnp.split(xs, 32), jnp.split(params[0], 32))
        conv = lambda x, w: lax.conv_general_dilated(x, w[0], (1, 1), "SAME", dimension_numbers=LAYOUT)
        return jnp.concatenate([conv(x, w) for x, w in each]) + params[1]

    return Network(params, xs, forward)


@functools.cache
def network(case, who):
    if who == "jax":
        return static(case) if case in STATIC else dynamic(case) if case in ROWS else None
    if case in STATIC:
        return static_by_hand(case)
    return dynamic_by_hand(case) if case in ROWS else {"dynamic_rnn": names, "batched_conv": convolutions}[case]()


def prepare(case, step, who):
    found = network(case, who)
    if not found:
        return None
    params, xs, forward, generate, loss, clip = found
    if (step == "generate" and not generate) or (case == "batched_conv" and step == "adam"):
        return None
    grads = jax.value_and_grad(lambda params, xs: loss(forward(params, xs)))
    clipped = [optax.clip_by_global_norm(clip)] if clip else []
    optimizer = optax.chain(*clipped, optax.adam(1e-4))
    state = optimizer.init(params)

    def adam(params, state, xs):
        value, grad = grads(params, xs)
        updates, state = optimizer.update(grad, state, params)
        return optax.apply_updates(params, updates), state, value

    if step == "adam":
        compiled = jax.jit(adam)
        held = [params, state]

        def train():
            held[0], held[1], value = compiled(held[0], held[1], xs)
            jax.block_until_ready(value)
            jax.block_until_ready(held[0])

        return train
    compiled = jax.jit({"generate": generate, "forward": forward, "backward": grads}[step])
    return lambda: jax.block_until_ready(compiled(params, xs))


if __name__ == "__main__":
    serve(prepare, {name: importlib.metadata.version(name) for name in ("jax", "hyper-nn")})
