#!/usr/bin/env bash
# Layers that are unfrozen after deepspeed.initialize are never trained under ZeRO.
#
# Expected: "train the head first, then requires_grad_(True) on the body" works as in plain PyTorch, where the optimizer
# holds every parameter and skips those without a gradient; or else it is refused.
# Instead: it works at stage 0. At stages 1, 2 and 3 the body never moves: no error, and the loss goes on falling, as the
# head learns. The parameters trained are those that had requires_grad at the moment of initialize, for good.
# Matters: gradual unfreezing is a usual recipe for image classifiers. The same script fine-tunes the whole net without
# ZeRO and the head alone with it, and the two curves look like a cost of ZeRO. Remedy (tried at stages 1 to 3): a
# parameter group of its own for the body, with a learning rate of 0 at first; or a new engine after unfreezing.
# Source: deepspeed/runtime/zero/stage_1_and_2.py (DeepSpeedZeroOptimizer.__init__: trainable_parameters), stage3.py
# (_get_trainable_parameter_groups); DeepSpeed issues 1767 and 5639.
# Versions: deepspeed 0.19.8, torch 2.14.1, Python 3.11, CPU, one process.
# Run to its end on 27 November 2026; exit 0, and the program printed:
#   plain PyTorch       loss 1.2454 before unfreezing, 1.0571 at the end; the body moved by 0.2852
#   DeepSpeed, stage 0  loss 1.2454 before unfreezing, 1.0571 at the end; the body moved by 0.2852
#   DeepSpeed, stage 1  loss 1.2454 before unfreezing, 1.1982 at the end; the body moved by 0.0000
#   DeepSpeed, stage 2  loss 1.2454 before unfreezing, 1.1982 at the end; the body moved by 0.0000
#   DeepSpeed, stage 3  loss 1.2454 before unfreezing, 1.1982 at the end; the body moved by 0.0000
#   As stated: stage 0 trains the unfrozen layers, stages 1 to 3 leave them as they were, without an error.
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

def train(stage):
    """Ten steps with a frozen body, ten with all layers; how far the body moved in the latter, and the losses."""
    torch.manual_seed(1)
    body, head = nn.Linear(8, 8), nn.Linear(8, 4)
    net = nn.Sequential(body, nn.Tanh(), head)
    body.requires_grad_(False)
    sgd = torch.optim.SGD(net.parameters(), lr=0.5)
    if stage is not None:
        config = {"train_micro_batch_size_per_gpu": 32, "zero_allow_untested_optimizer": True, "gradient_clipping": 0.0,
                  "zero_optimization": {"stage": stage}}
        engine, *_ = deepspeed.initialize(model=net, optimizer=sgd, config=config)

    def step():
        if stage is None:
            loss = nn.functional.cross_entropy(net(images), wanted)
            sgd.zero_grad()
            loss.backward()
            sgd.step()
        else:
            loss = nn.functional.cross_entropy(engine(images), wanted)
            engine.backward(loss)
            engine.step()
        return loss.item()

    def weights():
        with deepspeed.zero.GatheredParameters([body.weight], enabled=stage == 3):
            return body.weight.detach().clone()

    frozen = [step() for _ in range(10)]
    before = weights()
    body.requires_grad_(True)
    free = [step() for _ in range(10)]
    return (weights() - before).abs().max().item(), frozen[-1], free[-1]

seen = {}
for stage in (None, 0, 1, 2, 3):
    seen[stage], before, after = train(stage)
    name = "plain PyTorch     " if stage is None else f"DeepSpeed, stage {stage}"
    print(f"{name}  loss {before:.4f} before unfreezing, {after:.4f} at the end; the body moved by {seen[stage]:.4f}")
trains = seen[None] > 0.01 and abs(seen[0] - seen[None]) < 1e-4
if not (trains and seen[1] == seen[2] == seen[3] == 0.0):
    raise SystemExit("Changed: ZeRO's stages 1 to 3 no longer leave layers untrained that are unfrozen after initialize.")
print("As stated: stage 0 trains the unfrozen layers, stages 1 to 3 leave them as they were, without an error.")
EOF
python "$work/program.py"
