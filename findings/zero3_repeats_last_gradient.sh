#!/usr/bin/env bash
# Under ZeRO stage 3, a layer that a step does not use is updated all the same, with the gradient of its last use.
#
# Expected: a parameter that the loss does not reach stays where it is, momentum and weight decay apart. With plain SGD
# nothing can move it. So it is in PyTorch, in DDP with find_unused_parameters=True, and in DeepSpeed's stages 0, 1, 2.
# Instead: stage 3 keeps the gradients in a buffer of its own, and neither zero_grad nor the end of a backward pass
# clears the part of a parameter that got no gradient. engine.step() then applies the old one again, at each step, until
# the layer is used again: here exactly the head's last update, three times more. No error, no warning. Two processes
# gave the same.
# Matters: nets with a head for each task or data set that train on them in turn, auxiliary heads that are switched off,
# layers left out at random by skipping them. The idle part runs off in the direction of one old batch, as if that batch
# had been seen once more at each step.
# Remedy: let every layer take part in the loss of each step, times zero (checked below).
# Source: deepspeed/runtime/zero/stage3.py (independent_gradient_partition_epilogue, which hands over the whole buffer;
# partition_grads, which alone overwrites it; zero_grad). DeepSpeed issue 1355 asks for nets like this one at stage 1,
# where they raised an error in 2021; no public report of what stage 3 does was found.
# Versions: deepspeed 0.19.8, torch 2.14.1, Python 3.11, CPU, one process.
# Run to its end on 27 November 2026; exit 0, and the program printed:
#   plain PyTorch                            last own step 0.04075, then idle: 0.00000 0.00000 0.00000
#   DDP, find_unused_parameters              last own step 0.04075, then idle: 0.00000 0.00000 0.00000
#   DeepSpeed, stage 0                       last own step 0.04075, then idle: 0.00000 0.00000 0.00000
#   DeepSpeed, stage 1                       last own step 0.04075, then idle: 0.00000 0.00000 0.00000
#   DeepSpeed, stage 2                       last own step 0.04075, then idle: 0.00000 0.00000 0.00000
#   DeepSpeed, stage 3                       last own step 0.04075, then idle: 0.04075 0.04075 0.04075
#   DeepSpeed, stage 3, touching all layers  last own step 0.04075, then idle: 0.00000 0.00000 0.00000
#   As stated: an idle head stays where it is, except in stage 3, which repeats its last update at each step.
set -euo pipefail

export DS_BUILD_OPS=0 DS_ACCELERATOR=cpu OMP_NUM_THREADS=1 PIP_DISABLE_PIP_VERSION_CHECK=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
export PATH="$work/venv/bin:$PATH" TORCH_EXTENSIONS_DIR="$work/extensions"
pip install -q torch==2.14.1 numpy==2.4.6 setuptools==84.2.1 wheel==0.48.0 ninja==1.13.2
pip install -q --no-build-isolation deepspeed==0.19.8

cat > "$work/program.py" <<'EOF'
import logging, os, socket, warnings
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = str(free.getsockname()[1])
os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
import deepspeed, torch
from torch import nn
logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
warnings.filterwarnings("ignore", category=FutureWarning)
# One process needs no exchange through shared memory: spare it the compilation.
deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
torch.manual_seed(0)
images, wanted = torch.randn(32, 8), torch.randint(0, 4, (32,))

class TwoHeads(nn.Module):
    def __init__(self, touch_all):
        super().__init__()
        self.first, self.second, self.touch_all = nn.Linear(8, 4), nn.Linear(8, 4), touch_all

    def forward(self, images, name):
        scores = getattr(self, name)(images)
        if self.touch_all:
            scores = scores + 0.0 * (self.first(images) + self.second(images))
        return scores

def train(way, stage=0, touch_all=False):
    """How the first head moves at its last own step, and at three steps that use the second head alone."""
    torch.manual_seed(1)
    net = TwoHeads(touch_all)
    sgd = torch.optim.SGD(net.parameters(), lr=0.1)  # no momentum, no weight decay
    if way == "DeepSpeed":
        config = {"train_micro_batch_size_per_gpu": 32, "zero_allow_untested_optimizer": True, "gradient_clipping": 0.0,
                  "zero_optimization": {"stage": stage}}
        run, *_ = deepspeed.initialize(model=net, optimizer=sgd, config=config)
    elif way == "DDP":
        run = nn.parallel.DistributedDataParallel(net, find_unused_parameters=True)
    else:
        run = net
    weight, moves = net.first.weight, []

    def now():
        with deepspeed.zero.GatheredParameters([weight], enabled=stage == 3):
            return weight.detach().clone()

    for name in ("first", "first", "first", "second", "second", "second"):
        before = now()
        loss = nn.functional.cross_entropy(run(images, name), wanted)
        if way == "DeepSpeed":
            run.backward(loss)
            run.step()
        else:
            sgd.zero_grad()
            loss.backward()
            sgd.step()
        moves.append(now() - before)
    return moves[2:]

deepspeed.init_distributed("gloo")
seen = {"plain PyTorch": train("plain"), "DDP, find_unused_parameters": train("DDP")}
seen |= {f"DeepSpeed, stage {stage}": train("DeepSpeed", stage) for stage in (0, 1, 2, 3)}
seen["DeepSpeed, stage 3, touching all layers"] = train("DeepSpeed", 3, touch_all=True)
for name, (last, *idle) in seen.items():
    print(f"{name:40} last own step {last.norm():.5f}, then idle: {' '.join(f'{move.norm():.5f}' for move in idle)}")
last, *idle = seen.pop("DeepSpeed, stage 3")
repeated = last.norm() > 0.001 and all(torch.allclose(move, last, atol=1e-6) for move in idle)
still = all(move.norm() == 0 for _, *idle in seen.values() for move in idle)
if not (repeated and still):
    raise SystemExit("Changed: stage 3 no longer repeats the last gradient of a layer that a step does not use.")
print("As stated: an idle head stays where it is, except in stage 3, which repeats its last update at each step.")
EOF
python "$work/program.py"
