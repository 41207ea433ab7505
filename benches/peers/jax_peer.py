"""hyper-nn's JAX side, compiled by jax.jit, where it runs.

Run by table.py; the cases are those of benches/src/cases. Its recurrent cell has one bias less than
PyTorch's.
"""

import functools
import importlib.metadata

import jax

# hyper-nn calls what newer versions of JAX have under another name.
jax.tree_map = jax.tree_util.tree_map

import flax.linen as nn
import jax.numpy as jnp
import optax
from hypernn.jax import JaxDynamicHyperNetwork, JaxLinearHyperNetwork
from serve import serve

KEY = jax.random.PRNGKey(0)


def mlp(*sizes):
    layers = [layer for size in sizes for layer in (nn.Dense(size), nn.relu)]
    return nn.Sequential(layers[:-1])


def deep():
    return nn.Sequential([layer for _ in range(64) for layer in (nn.Dense(128), nn.relu)])


STATIC = {
    # target, embeddings, their width, shape of a sample
    "static_small": (functools.partial(mlp, 64, 32), 32, 4, 32),
    "static_mlp_1m": (functools.partial(mlp, 1024, 256, 10), 64, 32, 784),
    "static_deep": (deep, 64, 16, 128),
}
ROWS = {"dynamic_step": 1, "dynamic_10": 10, "dynamic_64": 64, "dynamic_256": 256}


def static(case):
    make, embeddings, width, inputs = STATIC[case]
    xs, digits = jax.random.normal(KEY, (64, inputs)), jnp.arange(64) % 10
    hyper = JaxLinearHyperNetwork.from_target(
        target_network=make(), embedding_dim=width, num_embeddings=embeddings, inputs=[xs]
    )
    generate = lambda params, xs: hyper.apply(params, method=hyper.generate_params)[0]
    loss = jnp.sum
    if case == "static_mlp_1m":
        loss = lambda ys: optax.softmax_cross_entropy_with_integer_labels(ys, digits).mean()
    return hyper.init(KEY, xs), xs, generate, hyper.apply, loss


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
        return params, xs[0], generate, apply, jnp.sum
    each = lambda function: jax.vmap(function, in_axes=(None, 0))
    return params, xs, each(generate), each(apply), jnp.sum


@functools.cache
def network(case):
    return static(case) if case in STATIC else dynamic(case) if case in ROWS else None


def prepare(case, step, who):
    found = network(case)
    if not found:
        return None
    params, xs, generate, forward, loss = found
    grads = jax.value_and_grad(lambda params, xs: loss(forward(params, xs)))
    optimizer = optax.adam(1e-4)
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
