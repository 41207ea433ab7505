"""PyTorch by hand, eager and compiled, and JAX by hand, on the card: `peers.py torch|torch_compiled|jax SECONDS`.

The cases are those of torch_peer.py and jax_peer.py beside this file. Each line is `case/step/who/float32`,
milliseconds, or why there are none.
"""

import statistics
import sys
import time
import types
import warnings

warnings.filterwarnings("ignore")
CASES = ["static_small", "static_mlp_1m", "static_deep", "static_cnn", "dynamic_step"]
CASES += ["dynamic_10", "dynamic_64", "dynamic_256", "dynamic_rnn", "batched_conv"]


def without_hyper_nn(side, *names):
    """hyper-nn needs much else; its own cases are not measured here."""
    sys.modules["hypernn"] = types.ModuleType("hypernn")
    module = sys.modules[f"hypernn.{side}"] = types.ModuleType(f"hypernn.{side}")
    for name in names:
        setattr(module, name, type(name, (), {}))


def torch_peer():
    import torch

    if not torch.cuda.is_available():
        sys.exit("torch sees no card")
    torch.set_default_device("cuda")
    without_hyper_nn("torch", "TorchDynamicHyperNetwork", "TorchLinearHyperNetwork")
    import torch_peer

    print(f"# torch {torch.__version__}, {torch.cuda.get_device_name()}", flush=True)
    return torch_peer.prepare, torch.cuda.synchronize


def jax_peer():
    import jax

    if jax.default_backend() != "gpu":
        sys.exit("jax sees no card")
    without_hyper_nn("jax", "JaxDynamicHyperNetwork", "JaxLinearHyperNetwork")
    import jax_peer

    print(f"# jax {jax.__version__}", flush=True)
    return jax_peer.prepare, lambda: None  # Its runs wait themselves.


def measure(run, wait, seconds):
    """The median of seven samples that fill the time, in milliseconds."""

    def timed(runs):
        wait()
        start = time.perf_counter()
        for _ in range(runs):
            run()
        wait()
        return (time.perf_counter() - start) / runs

    timed(3)
    runs = max(1, int(seconds / 7 / timed(1)))
    return 1e3 * statistics.median(timed(runs) for _ in range(7))


def main(who, seconds):
    prepare, wait = jax_peer() if who == "jax" else torch_peer()
    name = "jax_by_hand" if who == "jax" else who
    for case in CASES:
        for step in ["forward", "backward", "adam"]:
            try:
                run = prepare(case, step, name)
                if run:
                    print(f"{case}/{step}/{who}/f32 {measure(run, wait, seconds):.4f}", flush=True)
            except Exception as error:
                text = str(error).splitlines() or [""]
                print(f"{case}/{step}/{who}/f32 failed: {type(error).__name__}: {text[0][:200]}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
