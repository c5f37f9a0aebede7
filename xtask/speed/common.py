"""What both peers are measured on: the same picture sizes, prompts and medians as model/examples/speed.rs."""
import json, sys, time

PROMPT_TOKENS = 913


def prompt(number):
    return [(at * 7919 + number * 104_729) % 100_000 + 10 for at in range(PROMPT_TOKENS)]


def picture():
    """Values of the whole view [1, 3, 1024, 1024] and of six tiles [6, 3, 640, 640], numpy float32."""
    import numpy as np
    view = lambda count, edge: (np.arange(count * edge * edge * 3, dtype=np.int64) * 7919 % 255 / 127.5 - 1).astype(np.float32).reshape(count, edge, edge, 3).transpose(0, 3, 1, 2)
    return view(1, 1024), view(6, 640)


def median(repeats, run):
    for _ in range(2 if repeats > 1 else 0):
        run()
    seconds = []
    for _ in range(repeats):
        begun = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - begun)
    return sorted(seconds)[repeats // 2]


def decode_rate(batch, steps, run):
    """Tokens per second of run(count), which makes `count` tokens of each of `batch` texts."""
    run(max(steps // 4, 1))
    quarters = []
    for _ in range(4):
        begun = time.perf_counter()
        run(max(steps // 4, 1))
        quarters.append(time.perf_counter() - begun)
    quarters.sort()
    return batch * max(steps // 4, 1) * 2 / (quarters[1] + quarters[2])


class Results(dict):
    def put(self, key, value):
        print(f"{key}: {value:.4f}", file=sys.stderr, flush=True)
        self[key] = value

    def show(self):
        print(json.dumps(self), flush=True)
