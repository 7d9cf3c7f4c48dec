#!/usr/bin/env bash
# A look at one batch of DeepSpeed's data loader, in the middle of an epoch, begins the epoch again.
#
# Expected: the loader that deepspeed.initialize returns behaves like torch's DataLoader: next(iter(loader)) gives a batch to
# look at, to plot or to log, and the loop that runs meanwhile goes on where it was.
# Instead: it is its own iterator, and iter() makes that one iterator anew. So the running loop goes on behind the batch
# that was looked at, from the beginning: it sees images twice, makes more steps than len(loader), and a scheduler that
# counts on len(loader) steps an epoch is wrong from then on. Nothing is printed.
# Matters: notebooks and logging hooks that show a sample during training; an evaluation on a part of the training set.
# Remedy: look at the batch before the loop, or at a DataLoader of one's own.
# Source: deepspeed/runtime/dataloader.py (DeepSpeedDataLoader.__iter__ returns self).
# Versions: deepspeed 0.19.8, torch 2.14.1, Python 3.11, no GPU.
# Run to its end on 28 November 2026; exit 0, and the program printed:
#   torch      4 steps of 4: 0 1 | 2 3 | 4 5 | 6 7
#   DeepSpeed  6 steps of 4: 4 0 | 7 3 | 2 5 | 7 3 | 2 5 | 1 6
#   As stated: torch's loop makes its 4 steps, DeepSpeed's goes on from the second batch and makes 6.
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

def epoch(loader):
    """The batches of an epoch in whose third step one batch is looked at."""
    seen = []
    for step, (batch,) in enumerate(loader):
        seen.append(" ".join(f"{image:.0f}" for image in batch))
        if step == 2:
            next(iter(loader))
    return seen

torchs, theirs = epoch(DataLoader(images, batch_size=2)), epoch(loader)
for name, seen in {"torch": torchs, "DeepSpeed": theirs}.items():
    print(f"{name:10} {len(seen)} steps of {len(loader)}: {' | '.join(seen)}")
if not (len(torchs) == 4 and len(theirs) == 6 and theirs[3:5] == theirs[1:3] and len(set(theirs)) == 4):
    raise SystemExit("Changed: a look at a batch no longer begins the epoch of DeepSpeed's loader again.")
print("As stated: torch's loop makes its 4 steps, DeepSpeed's goes on from the second batch and makes 6.")
EOF
python "$work/program.py"
