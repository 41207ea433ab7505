"""JAX, compiled by jax.jit: hyper-nn's JAX side; `dynamic_rnn` and `batched_conv` by hand.

Run by table.py; the cases are those of benches/src/cases. hyper-nn's recurrent cell has one bias less
than PyTorch's. It would run `dynamic_rnn` too, but by hand that trains about three times as fast: XLA
makes the gradient of one `jnp.split` far cheaper than that of a slice per tensor. Images have their
channels last, as XLA likes them best on a CPU.
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


# Weight and bias for the input and for the state of a GRU, then of three linear layers.
SIZES = [(INPUTS, 384), (128, 384), (128, 256), (256, 256), (256, LETTERS)]
SHAPES = [shape for inputs, outputs in SIZES for shape in ((inputs, outputs), (outputs,))]


def next_letter(tensors, xs, hidden):
    """Of SHAPES, and a state; the GRU has both biases, as PyTorch's."""
    of_input, of_state, *layers, last = zip(tensors[::2], tensors[1::2])
    i, h = (jnp.split(linear(*both), 3, axis=1) for both in ((xs, of_input), (hidden, of_state)))
    reset, update = jax.nn.sigmoid(i[0] + h[0]), jax.nn.sigmoid(i[1] + h[1])
    hidden = (1 - update) * jnp.tanh(i[2] + reset * h[2]) + update * hidden
    ys = functools.reduce(lambda ys, layer: jax.nn.relu(linear(ys, layer)), layers, hidden)
    return jax.nn.log_softmax(linear(ys, last)), hidden


def name():
    xs = jnp.zeros((8, 1, INPUTS)).at[:, 0, 14].set(1)
    return xs.at[jnp.arange(8), 0, LANGUAGES + jnp.array(NAME)].set(1), jnp.array(NAME[1:] + [LETTERS - 1])


def names():
    """A table that an RNN cell scales, weights anew for each letter."""
    (xs, after), ends = name(), list(itertools.accumulate(map(math.prod, SHAPES)))
    chunk = -(-ends[-1] // 64)
    shapes = dict(table=(64, 4), generator=[(4, chunk), (chunk,)])
    shapes.update(of_input=[(INPUTS, 64), (64,)], of_state=[(64, 64), (64,)])
    leaves, tree = jax.tree.flatten(shapes, is_leaf=lambda shape: isinstance(shape, tuple))
    keys = jax.random.split(KEY, len(leaves))
    params = tree.unflatten([0.1 * jax.random.normal(key, shape) for key, shape in zip(keys, leaves)])

    def forward(params, xs):
        hidden, state, outputs = jnp.zeros((1, 128)), jnp.zeros((1, 64)), []
        for x in xs:
            state = jnp.tanh(linear(x, params["of_input"]) + linear(state, params["of_state"]))
            vector = linear(params["table"] * state.T, params["generator"]).reshape(-1)[: ends[-1]]
            tensors = [t.reshape(shape) for t, shape in zip(jnp.split(vector, ends[:-1]), SHAPES)]
            ys, hidden = next_letter(tensors, x, hidden)
            outputs.append(ys[0])
        return jnp.stack(outputs)

    loss = lambda ys: -jnp.take_along_axis(ys, after[:, None], axis=1).sum()
    return Network(params, xs, forward, loss=loss, clip=10.0)


def convolutions():
    """One convolution after the other: the gradient of vmap's takes XLA two hundred times as long."""
    xs, weights = jax.random.normal(KEY, (32, 28, 28, 16)), jax.random.normal(KEY, (32, 3, 3, 16, 32))
    params = 0.1 * weights, 0.1 * jax.random.normal(KEY, (32, 1, 1, 32))
    layout = ("NHWC", "HWIO", "NHWC")

    def forward(params, xs):
        each = zip(jnp.split(xs, 32), jnp.split(params[0], 32))
        conv = lambda x, w: lax.conv_general_dilated(x, w[0], (1, 1), "SAME", dimension_numbers=layout)
        return jnp.concatenate([conv(x, w) for x, w in each]) + params[1]

    return Network(params, xs, forward)


@functools.cache
def network(case):
    if case in STATIC:
        return static(case)
    return dynamic(case) if case in ROWS else {"dynamic_rnn": names, "batched_conv": convolutions}[case]()


def prepare(case, step, who):
    params, xs, forward, generate, loss, clip = network(case)
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
