"""A loop like a model server's decoding: a CUDA graph of a few dozen small kernels, replayed step by step, each step
awaited. Reads `NAME SECONDS` a line, runs that long, and prints the times of its steps as one JSON object a line."""

import json
import sys
import time

try:
    import torch
except ImportError as error:
    print(json.dumps({"skipped": f"no PyTorch: {error}"}), flush=True)
    sys.exit(0)
if not torch.cuda.is_available():
    print(json.dumps({"skipped": "PyTorch sees no CUDA device"}), flush=True)
    sys.exit(0)

LAYERS, WIDTH, BATCH = 32, 2048, 8
weights = [torch.randn(WIDTH, WIDTH, device="cuda", dtype=torch.float16) / WIDTH**0.5 for _ in range(LAYERS)]
states = torch.randn(BATCH, WIDTH, device="cuda", dtype=torch.float16)


def step():
    out = states
    for weight in weights:
        out = torch.nn.functional.silu(out @ weight)
    states.copy_(out)


for _ in range(3):
    step()
torch.cuda.synchronize()
graph = torch.cuda.CUDAGraph()
with torch.cuda.graph(graph):
    step()
done = torch.cuda.Event()


def measure(seconds):
    times = []
    end = time.monotonic() + seconds
    before = time.perf_counter_ns()
    while time.monotonic() < end:
        graph.replay()
        done.record()
        done.synchronize()
        now = time.perf_counter_ns()
        times.append(now - before)
        before = now
    times.sort()
    at = lambda share: times[min(len(times) - 1, int(len(times) * share))] / 1e3
    return {"steps": len(times), "median_us": at(0.5), "p99_us": at(0.99), "p999_us": at(0.999), "max_us": times[-1] / 1e3}


measure(2)
print(json.dumps({"ready": torch.cuda.get_device_name(), "torch": torch.__version__}), flush=True)
for line in sys.stdin:
    name, seconds = line.split()
    print(json.dumps({"name": name, **measure(float(seconds))}), flush=True)
