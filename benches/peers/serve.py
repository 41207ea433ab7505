"""What the peers share: a loop that measures what it is asked for, so that all can be run in turn."""

import json
import sys
import time

SAMPLES = 10


def measure(run, seconds):
    """Milliseconds per run, of ten samples that fill the time, after runs that do not count."""
    start = time.perf_counter()
    runs = 0
    while runs < 3 or time.perf_counter() - start < seconds / 2:
        run()
        runs += 1
    each = (time.perf_counter() - start) / runs
    per_sample = max(1, round(seconds / SAMPLES / each))
    samples = []
    for _ in range(SAMPLES):
        start = time.perf_counter()
        for _ in range(per_sample):
            run()
        samples.append((time.perf_counter() - start) / per_sample * 1e3)
    return samples


def serve(prepare, versions):
    """Answers each line on stdin, `case/step/who` and seconds, with a line on stdout.

    `prepare(case, step, who)` gives what is to be run; None where there is no such thing.
    """
    answers, sys.stdout = sys.stdout, sys.stderr
    print(json.dumps(versions), file=answers, flush=True)
    prepared = {}
    for line in sys.stdin:
        path, seconds = line.split()
        try:
            if path not in prepared:
                run = prepare(*path.split("/"))
                if run:
                    run()  # Compiles where anything is compiled.
                prepared[path] = run
            run = prepared[path]
            answer = {"ms": measure(run, float(seconds)) if run else None}
        except Exception as error:
            prepared[path] = None
            answer = {"ms": None, "error": f"{type(error).__name__}: {error}"[:300]}
        print(json.dumps(answer), file=answers, flush=True)
