#!/usr/bin/env bash
# One busy process beside it makes a small training step on two CPU threads four times slower, not twice.
#
# Expected: on two cores, another program that keeps one core busy costs a training with two threads half of the machine
# at worst: a step takes up to twice as long. With one thread, it costs next to nothing.
# Instead: the two threads meet after every operation, and the one that is there first waits by spinning, on the core that
# the other one needs. A step of LeNet takes 4 to 5 times as long. With one thread it is nearly as quick
# as on the idle machine, and three to four times as quick as with two.
# Matters: a browser, a second training, or a neighbour on a shared machine; and every timing made there. It looks like a
# slow network or a slow library. Data-parallel ranks on one CPU suffer in the same way from one another.
# Remedy: one thread for small networks. OMP_WAIT_POLICY=PASSIVE, with which threads sleep, is the quick answer and hardly
# one: the busy process then costs less than half as much again, but a step takes 2.4 times as long on the idle machine.
# Source: libgomp, the OpenMP library of PyTorch's Linux wheels; its manual, GOMP_SPINCOUNT: without OMP_WAIT_POLICY
# threads spin for a while before they sleep.
# Versions: torch 2.14.1 with its libgomp, Python 3.11, two CPU cores (AMD EPYC).
# Run to its end on 28 November 2026; exit 0, and the program printed:
#   two threads             2.62 ms idle,   12.50 ms beside a busy process: 4.8 times
#   two threads, PASSIVE    6.34 ms idle,    8.03 ms beside a busy process: 1.3 times
#   one thread              2.92 ms idle,    3.24 ms beside a busy process: 1.1 times
#   As stated: two threads that spin lose more than the half of the machine.
set -euo pipefail

export PIP_DISABLE_PIP_VERSION_CHECK=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
export PATH="$work/venv/bin:$PATH"
pip install -q torch==2.14.1 numpy==2.4.6

cat > "$work/program.py" <<'EOF'
import os, statistics, subprocess, sys, time
CORES = sorted(os.sched_getaffinity(0))[:2]

STEP = """
import statistics, time, torch
from torch import nn
torch.manual_seed(0)
net = nn.Sequential(nn.Conv2d(3, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
                    nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10))
sgd = torch.optim.SGD(net.parameters(), lr=0.01)
images, labels = torch.randn(16, 3, 32, 32), torch.randint(0, 10, (16,))
seconds = []
until = time.perf_counter() + 6
while time.perf_counter() < until:
    began = time.perf_counter()
    sgd.zero_grad()
    nn.functional.cross_entropy(net(images), labels).backward()
    sgd.step()
    seconds.append(time.perf_counter() - began)
print(1000 * statistics.fmean(seconds[len(seconds) // 4:]))
"""

def step(threads, busy, **environment):
    """The mean milliseconds of a step on two cores, idle or beside one busy process."""
    os.sched_setaffinity(0, CORES)
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if busy else None
    try:
        said = subprocess.run([sys.executable, "-c", STEP], check=True, capture_output=True, text=True,
                              env=os.environ | {"OMP_NUM_THREADS": str(threads)} | environment).stdout
    finally:
        if other:
            other.kill()
    return float(said)

if len(CORES) < 2:
    raise SystemExit("This needs two cores.")
seen = {}
for name, threads, environment in [("two threads", 2, {}), ("two threads, PASSIVE", 2, {"OMP_WAIT_POLICY": "PASSIVE"}),
                                   ("one thread", 1, {})]:
    rounds = [(step(threads, False, **environment), step(threads, True, **environment)) for _ in range(3)]
    idle, beside = (statistics.median(values) for values in zip(*rounds))
    seen[name] = beside / idle
    print(f"{name:21} {idle:6.2f} ms idle, {beside:7.2f} ms beside a busy process: {beside / idle:.1f} times")
if seen["two threads"] < 3 or max(seen["two threads, PASSIVE"], seen["one thread"]) > 3:
    raise SystemExit("Changed: two threads no longer wait for one another by spinning.")
print("As stated: two threads that spin lose more than the half of the machine.")
EOF
python "$work/program.py"
