#!/usr/bin/env bash
# ReduceLROnPlateau handed to deepspeed.initialize takes the batch size for the validation loss.
#
# Expected: this scheduler needs a metric in step(metric). DeepSpeed steps schedulers by itself and has no metric, so it
# refuses the scheduler, or the first engine.step() raises PyTorch's TypeError "missing 1 required positional argument".
# Instead: the engine catches that TypeError and calls step(train_batch_size). The batch size is constant, so it counts as
# a loss that never gets better: the learning rate falls by the factor every patience + 1 optimizer steps, while the real
# loss falls. No error; with PyTorch's defaults the rate is a millionth of its start after 67 steps.
# A scheduler of timm's, whose step needs the epoch, gets the batch size for the same reason, and stands still.
# Matters: "the net does not learn under DeepSpeed". DeepSpeed's documentation says that schedulers which do not step once
# per batch are to be kept out of initialize; nothing enforces it. Remedy: keep it to yourself and call
# scheduler.step(loss) after each evaluation.
# Source: deepspeed/runtime/engine.py (_take_model_step: "Hack to work with Megatron 2.0 and DeepSpeed pipelines");
# DeepSpeed's documentation, page "Learning Rate Schedulers".
# Versions: deepspeed 0.19.8, torch 2.14.1, Python 3.11, CPU, one process.
# Run to its end on 27 November 2026; exit 0, and the program printed:
#   step  1  loss 1.3466  rate after it 0.1000  best 'metric' 8.0
#   step  2  loss 1.0687  rate after it 0.1000  best 'metric' 8.0
#   step  3  loss 0.9092  rate after it 0.1000  best 'metric' 8.0
#   step  4  loss 0.8157  rate after it 0.1000  best 'metric' 8.0
#   step  5  loss 0.7591  rate after it 0.0500  best 'metric' 8.0
#   step  6  loss 0.7237  rate after it 0.0500  best 'metric' 8.0
#   step  7  loss 0.7115  rate after it 0.0500  best 'metric' 8.0
#   step  8  loss 0.7014  rate after it 0.0500  best 'metric' 8.0
#   step  9  loss 0.6929  rate after it 0.0250  best 'metric' 8.0
#   step 10  loss 0.6858  rate after it 0.0250  best 'metric' 8.0
#   step 11  loss 0.6826  rate after it 0.0250  best 'metric' 8.0
#   step 12  loss 0.6797  rate after it 0.0250  best 'metric' 8.0
#   step 13  loss 0.6770  rate after it 0.0125  best 'metric' 8.0
#   As stated: the loss falls at each step, and the rate is halved every patience + 1 steps, the 'metric' being 8.
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
images, wanted = torch.randn(8, 4), torch.randn(8, 2)
net = nn.Linear(4, 2)
sgd = torch.optim.SGD(net.parameters(), lr=0.1)
plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(sgd, factor=0.5, patience=3)
config = {"train_micro_batch_size_per_gpu": 8, "zero_optimization": {"stage": 0}, "gradient_clipping": 0.0}
engine, *_ = deepspeed.initialize(model=net, optimizer=sgd, lr_scheduler=plateau, config=config)
losses, rates, error = [], [], None
try:
    for step in range(13):
        loss = nn.functional.mse_loss(engine(images), wanted)
        engine.backward(loss)
        engine.step()
        losses.append(loss.item())
        rates.append(engine.get_lr()[0])
        print(f"step {step + 1:2}  loss {losses[-1]:.4f}  rate after it {rates[-1]:.4f}  best 'metric' {plateau.best}")
except TypeError as raised:
    error = raised
falling = all(after < before for before, after in zip(losses, losses[1:]))
expected = [0.1] * 4 + [0.05] * 4 + [0.025] * 4 + [0.0125]
if error or not (falling and plateau.best == 8.0 and len(rates) == 13
                 and all(abs(rate - value) < 1e-9 for rate, value in zip(rates, expected))):
    raise SystemExit(f"Changed: the scheduler is no longer stepped with the batch size ({error or 'other rates'}).")
print("As stated: the loss falls at each step, and the rate is halved every patience + 1 steps, the 'metric' being 8.")
EOF
python "$work/program.py"
