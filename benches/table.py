#!/usr/bin/env python3
"""Every case beside its peers: hypernn, plain candle by hand, hyper-nn, PyTorch by hand, JAX.

    python3 benches/table.py             # one thread, then two: half an hour on a quiet machine
    python3 benches/table.py --quick     # a look at whether all of it runs

Makes its own virtual environments below the build folder, builds the benchmark, then runs all in turn,
so that all meet the same machine: in each of some rounds every case, and of a case each who computes it.
Prints a table in Markdown, of the fastest round: milliseconds, and multiples of hypernn's time, above 1
where hypernn is faster. All that was measured is written beside the environments.
"""

import argparse
import json
import os
import pathlib
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
PEERS = pathlib.Path(__file__).resolve().parent / "peers"
STEPS = {"generate": "generate", "forward": "forward", "backward": "forward + backward", "adam": "Adam step"}
STEPS |= {"unpack": "unpack", "pack": "pack", "layout": "layout"}
CASES = ["static_small", "static_mlp_1m", "static_deep", "static_cnn", "dynamic_step"]
CASES += ["dynamic_10", "dynamic_64", "dynamic_256", "dynamic_rnn", "batched_conv", "flat_small", "flat_deep"]
RUST, TORCH, JAX = "rust", "torch", "jax"
# Of each column: who measures it, what it is called there, and its head.
COLUMNS = [
    (RUST, "hypernn", "hypernn"),
    (RUST, "candle", "candle by hand"),
    (TORCH, "hyper-nn", "hyper-nn"),
    (TORCH, "hyper-nn_compiled", "hyper-nn, compiled"),
    (TORCH, "torch", "PyTorch by hand"),
    (TORCH, "torch_compiled", "PyTorch by hand, compiled"),
    (JAX, "jax", "hyper-nn's JAX side"),
    (JAX, "jax_by_hand", "JAX by hand"),
    (RUST, "plain", "own weights, `hypernn::nn`"),
    (RUST, "plain_candle", "own weights, candle"),
    (TORCH, "plain", "own weights, PyTorch"),
]
# hyper-nn asks for old versions of all that it imports, hence without its dependencies.
PACKAGES = {
    TORCH: "torch numpy setuptools safetensors matplotlib tqdm seaborn gitpython torchvision pandas",
    JAX: "jax[cpu] flax optax numpy",
}
HYPER_NN = "hyper-nn==0.2.2"
KEEPS = {"MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "8589934592"}


def output(*command):
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def target_folder():
    return pathlib.Path(json.loads(output("cargo", "metadata", "--format-version=1", "--no-deps"))["target_directory"])


def environment(folder, peer):
    """The Python of a peer's virtual environment, which is made where there is none."""
    place = folder / peer
    python, done = place / "bin" / "python", place / "complete"
    if not done.exists():
        print(f"making {place}", file=sys.stderr)
        shutil.rmtree(place, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", place], check=True)
        pip = [python, "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, *PACKAGES[peer].split()], check=True)
        subprocess.run([*pip, "--no-deps", HYPER_NN], check=True)
        done.touch()
    return python


def build():
    """The benchmark's program."""
    command = ["cargo", "bench", "-p", "hypernn-benches", "--bench", "table", "--no-run", "--message-format=json"]
    print("building the benchmark", file=sys.stderr)
    lines = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
    programs = [json.loads(line).get("executable") for line in lines if '"name":"table"' in line]
    return [program for program in programs if program][-1]


class Machine:
    """The threads and the memory that everyone gets."""

    def __init__(self, threads, keep_buffers, cache):
        names = ("RAYON_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "TORCHINDUCTOR_COMPILE_THREADS")
        self.threads = threads
        self.variables = dict(os.environ, **dict.fromkeys(names, str(threads)))
        self.variables.update(TORCHINDUCTOR_CACHE_DIR=str(cache), CUDA_VISIBLE_DEVICES="", JAX_PLATFORMS="cpu")
        self.variables.update(KEEPS if keep_buffers else {})

    def pin(self):
        """As many cores as threads: JAX would take them all."""
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: self.threads])

    def process(self, command, **how):
        return subprocess.Popen(command, env=self.variables, preexec_fn=self.pin, text=True, **how)


class Rust:
    """criterion, one path at a time."""

    def __init__(self, program, machine):
        self.program, self.machine = program, machine
        with machine.process([program, "--list"], stdout=subprocess.PIPE) as listed:
            self.paths = {line.removesuffix(": benchmark") for line in listed.stdout.read().splitlines()}

    def measure(self, path, seconds):
        if path not in self.paths:
            return {"ms": None}
        with tempfile.TemporaryDirectory() as home:
            self.machine.variables["CRITERION_HOME"] = home
            how = ["--sample-size=10", "--noplot", "--nresamples=1000", f"--measurement-time={seconds}"]
            command = [self.program, "--bench", "--exact", path, f"--warm-up-time={seconds / 2}", *how]
            with self.machine.process(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
                pass
            found = list(pathlib.Path(home).glob("**/new/sample.json"))
            if not found:
                return {"ms": None, "error": "criterion measured nothing"}
            sample = json.loads(found[0].read_text())
        return {"ms": [time / runs / 1e6 for time, runs in zip(sample["times"], sample["iters"])]}


class Peer:
    """A Python program that answers."""

    def __init__(self, python, script, machine, log):
        how = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, bufsize=1)
        self.program = machine.process([python, PEERS / script, str(machine.threads)], **how)
        self.versions = json.loads(self.program.stdout.readline() or "{}")

    def measure(self, path, seconds):
        if self.program.poll() is not None:
            return {"ms": None, "error": "it has ended"}
        self.program.stdin.write(f"{path} {seconds}\n")
        return json.loads(self.program.stdout.readline() or '{"ms": null, "error": "it has ended"}')


def measure(args, programs, cases):
    """The rounds' medians, in milliseconds, by path and column."""
    medians, errors = {}, {}
    for turn in range(args.rounds):
        for case in cases:
            for step in STEPS:
                for program, who, head in args.columns:
                    if program not in programs or head in errors.get((case, step), {}):
                        continue
                    answer = programs[program].measure(f"{case}/{step}/{who}", args.seconds)
                    if "error" in answer:
                        errors.setdefault((case, step), {})[head] = answer["error"]
                        print(f"{case}/{step}, {head}: {answer['error']}", file=sys.stderr)
                    if answer["ms"]:
                        medians.setdefault((case, step), {}).setdefault(head, []).append(statistics.median(answer["ms"]))
            print(f"round {turn + 1} of {args.rounds}: {case}", file=sys.stderr)
    return medians


def number(value):
    digits = 3 if value < 1 else 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:.{digits}f}"


def table(args, medians):
    heads = [head for program, _, head in args.columns if any(head in row for row in medians.values())]
    lines = ["| Case | Step | hypernn, ms | " + " | ".join(heads[1:]) + " | best peer |"]
    lines.append("|---" * (len(heads) + 3) + "|")
    peers = [head for head in heads[1:] if not head.startswith("own weights")]
    for (case, step), row in medians.items():
        fastest = {head: min(rounds) for head, rounds in row.items()}
        if "hypernn" not in fastest:
            continue
        ours = fastest.pop("hypernn")
        times = {head: number(ms / ours) for head, ms in fastest.items()}
        best = min((fastest[head] for head in peers if head in fastest), default=None)
        cells = [times.get(head, "") for head in heads[1:]] + [number(best / ours) if best else ""]
        lines.append(f"| `{case}` | {STEPS[step]} | {number(ours)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def processor():
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(": ")[1] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.4, help="for each figure in a round")
    parser.add_argument("--quick", action="store_true", help="one round of a twentieth of a second, one thread")
    parser.add_argument("--keep-buffers", action="store_true", help="glibc's allocator keeps large buffers")
    parser.add_argument("--no-compile", action="store_true", help="without torch.compile")
    parser.add_argument("--only", nargs="*", default=CASES, choices=CASES, metavar="CASE")
    parser.add_argument("--torch", type=pathlib.Path, help="the Python of an environment with torch and hyper-nn")
    parser.add_argument("--jax", type=pathlib.Path, help="the Python of an environment with jax, flax, optax and hyper-nn")
    parser.add_argument("--no-jax", action="store_true")
    parser.add_argument("--out", type=pathlib.Path, help="a file for the table as well")
    args = parser.parse_args()
    if args.quick:
        args.threads, args.rounds, args.seconds = [1], 1, 0.05
    args.columns = [column for column in COLUMNS if not (args.no_compile and column[1].endswith("_compiled"))]
    return args


def run(args, threads, folder, program, pythons):
    """One table, and all that was measured for it."""
    machine = Machine(threads, args.keep_buffers, folder / f"inductor{threads}")
    with open(folder / "peers.log", "w") as log:
        programs = {peer: Peer(python, f"{peer}_peer.py", machine, log) for peer, python in pythons.items()}
        programs[RUST] = Rust(program, machine)
        medians = measure(args, programs, args.only)
        versions = {}
        for peer in pythons:
            versions |= programs[peer].versions
            programs[peer].program.stdin.close()
            programs[peer].program.wait()
    names = ", ".join(f"{name} {version}" for name, version in versions.items())
    buffers = ", the allocator keeps its buffers" if args.keep_buffers else ""
    head = f"{threads} thread{'s' if threads > 1 else ''}{buffers}; {processor()}, {os.cpu_count()} cores; {names}"
    raw = {f"{case}/{step}": row for (case, step), row in medians.items()}
    return f"{head}; fastest of {args.rounds} rounds\n\n{table(args, medians)}\n", raw


def main():
    args = options()
    folder = target_folder() / "peers"
    folder.mkdir(parents=True, exist_ok=True)
    pythons = {TORCH: args.torch or environment(folder, TORCH)}
    if not args.no_jax:
        pythons[JAX] = args.jax or environment(folder, JAX)
    program, texts, all_raw = build(), [], {}
    for threads in args.threads:
        text, raw = run(args, threads, folder, program, pythons)
        print(text, flush=True)
        texts.append(text)
        all_raw[threads] = raw
        (folder / "table.json").write_text(json.dumps(all_raw, indent=1))
        (args.out or folder / "table.md").write_text("\n".join(texts))


if __name__ == "__main__":
    main()
