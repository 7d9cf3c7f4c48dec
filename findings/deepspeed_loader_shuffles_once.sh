#!/usr/bin/env bash
# The data loader that deepspeed.initialize returns gives every epoch the same batches in the same order.
#
# Expected: deepspeed.initialize(..., training_data=dataset) returns a loader that shuffles, as its tutorials use it: a plain
# loop over epochs sees the images in a new order each time, like torch's DataLoader(shuffle=True).
# Instead: it shuffles once. The loader makes a DistributedSampler, whose order follows from its seed and its epoch, and
# never tells it the epoch; so epoch after epoch the same images meet in the same batches. Nothing is printed.
# Matters: every training by the pattern of DeepSpeed's own CIFAR-10 example; the last epochs of a small network end
# lower, and two seeds of a study have one order. It also makes a comparison with a reshuffling loop unfair.
# Remedy: loader.data_sampler.set_epoch(epoch) at each epoch's start, or a DataLoader of one's own.
# Source: deepspeed/runtime/dataloader.py (DeepSpeedDataLoader.__init__, __iter__); torch's DistributedSampler: without
# set_epoch "the same ordering will be always used".
# Versions: deepspeed 0.19.8, torch 2.14.1, Python 3.11, no GPU.
# Run to its end on 28 November 2026; exit 0, and the program printed:
#   torch, shuffle=True     epoch 1: 2 0 | 5 3 | 1 4 | 7 6   epoch 2: 0 3 | 7 1 | 6 2 | 5 4   epoch 3: 5 7 | 1 6 | 2 0 | 3 4
#   DeepSpeed's             epoch 1: 4 0 | 7 3 | 2 5 | 1 6   epoch 2: 4 0 | 7 3 | 2 5 | 1 6   epoch 3: 4 0 | 7 3 | 2 5 | 1 6
#   DeepSpeed's, set_epoch  epoch 1: 4 0 | 7 3 | 2 5 | 1 6   epoch 2: 5 4 | 2 6 | 7 3 | 1 0   epoch 3: 0 4 | 7 2 | 6 5 | 1 3
#   As stated: DeepSpeed's loader shuffles once, and repeats that order in every epoch.
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
from torch.utils.data import DataLoader, TensorDataset
logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
warnings.filterwarnings("ignore", category=FutureWarning)
# One process needs no exchange through shared memory: spare it the compilation.
deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
images = TensorDataset(torch.arange(8.0))
net = nn.Linear(1, 1)
*_, loader, _ = deepspeed.initialize(model=net, optimizer=torch.optim.SGD(net.parameters(), lr=0.1), training_data=images,
                                     config={"train_micro_batch_size_per_gpu": 2, "gradient_clipping": 0.0})

def epochs(loader, before=lambda epoch: None):
    """The images of three epochs, in their order, batches between bars."""
    seen = []
    for epoch in range(3):
        before(epoch)
        seen.append(" | ".join(" ".join(f"{image:.0f}" for image in batch) for (batch,) in loader))
    return seen

torch.manual_seed(0)
torchs = epochs(DataLoader(images, batch_size=2, shuffle=True))
theirs = epochs(loader)
told = epochs(loader, loader.data_sampler.set_epoch)
for name, seen in {"torch, shuffle=True": torchs, "DeepSpeed's": theirs, "DeepSpeed's, set_epoch": told}.items():
    print(f"{name:23}", "   ".join(f"epoch {n}: {order}" for n, order in enumerate(seen, 1)))
if not (len(set(theirs)) == 1 and len(set(torchs)) == 3 and len(set(told)) == 3 and theirs[0] != "0 1 | 2 3 | 4 5 | 6 7"):
    raise SystemExit("Changed: DeepSpeed's loader no longer repeats one shuffled order in every epoch.")
print("As stated: DeepSpeed's loader shuffles once, and repeats that order in every epoch.")
EOF
python "$work/program.py"
