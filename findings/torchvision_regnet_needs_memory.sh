#!/usr/bin/env bash
# Of torchvision's 80 classifiers, the 15 RegNets alone cannot be built on the meta device.
#
# Expected: "with torch.device('meta')" builds any torchvision classifier without memory, to count its parameters and
# operations, or to fill it later with to_empty (as FSDP2's deferred initialization does). A constructor only says shapes.
# Instead: every RegNet raises NotImplementedError ("Cannot copy out of meta tensor; no data!"): its constructor computes
# the widths of its layers with tensors, which have no values there. The other 65 are built, and give the right shapes.
# Matters: a tool that inspects models without memory fails for one family, and its error names tensors, not the model; a
# tool that takes the error for "this image size is not possible" (as ours did) blames what is right.
# Remedy: build a RegNet on the CPU, and move it: regnet.to("meta") works (checked below).
# Source: torchvision/models/regnet.py (BlockParams.from_init_params: torch.arange, torch.round, tolist). timm had the same
# kind of fault in other models (pull requests 2664 and 2778 of huggingface/pytorch-image-models); no report for
# torchvision's RegNets was found.
# Versions: torch 2.14.1, torchvision 0.29.2, Python 3.11, CPU.
# Run to its end on 28 November 2026; exit 0, and the program printed:
#   80 classifiers; built without memory: 65; refused: 15: regnet_x_16gf, regnet_x_1_6gf, regnet_x_32gf, regnet_x_3_2gf,
#   regnet_x_400mf, regnet_x_800mf, regnet_x_8gf, regnet_y_128gf, regnet_y_16gf, regnet_y_1_6gf, regnet_y_32gf,
#   regnet_y_3_2gf, regnet_y_400mf, regnet_y_800mf, regnet_y_8gf
#   built on the CPU, then moved: regnet_x_16gf (2, 1000), regnet_x_1_6gf (2, 1000)
#   As stated: all but the RegNets can be built without memory.
set -euo pipefail

export PIP_DISABLE_PIP_VERSION_CHECK=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
export PATH="$work/venv/bin:$PATH"
pip install -q torch==2.14.1 torchvision==0.29.2 numpy==2.4.6

cat > "$work/program.py" <<'EOF'
import warnings
import torch
from torchvision import models
warnings.filterwarnings("ignore")

def build(name):
    # The weights of these two are drawn with SciPy unless one says no.
    slow = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    return models.get_model(name, weights=None, **slow)

def on_meta(name):
    """Build a model without memory, and return the shape of its scores for two images, or the error."""
    side = 299 if name == "inception_v3" else 224
    try:
        with torch.device("meta"):
            return tuple(build(name).eval()(torch.zeros(2, 3, side, side)).shape)
    except NotImplementedError as error:
        return str(error).split(";")[0]

seen = {name: on_meta(name) for name in models.list_models(module=models)}
built = [name for name, shape in seen.items() if shape == (2, 1000)]
refused = [name for name, shape in seen.items() if shape == "Cannot copy out of meta tensor"]
moved = {name: build(name).to("meta").eval()(torch.zeros(2, 3, 224, 224, device="meta")).shape for name in refused[:2]}
print(f"{len(seen)} classifiers; built without memory: {len(built)}; refused: {len(refused)}: {', '.join(refused)}")
print(f"built on the CPU, then moved: {', '.join(f'{name} {tuple(shape)}' for name, shape in moved.items())}")
regnets = [name for name in seen if name.startswith("regnet")]
if refused != regnets or len(built) + len(refused) != len(seen):
    raise SystemExit("Changed: the RegNets are no longer the only classifiers that cannot be built without memory.")
print("As stated: all but the RegNets can be built without memory.")
EOF
python "$work/program.py"
