#!/usr/bin/env bash
# Asking PyTorch for true fp32 by its new switch makes its own torch.backends.cudnn.flags() raise an error.
#
# Expected: torch.backends.fp32_precision = "ieee" (or torch.backends.cudnn.conv.fp32_precision = "ieee"), which PyTorch's
# notes recommend over the older allow_tf32, decides how products are rounded, and nothing else. A later
# "with torch.backends.cudnn.flags(deterministic=True):", which has no word on precision, works as before.
# Instead: the context manager reads all old switches to put them back later; the old one of cuDNN has no answer for what
# the new one has set, and reading it is an error. So every such block fails, on a machine without a GPU too. "tf32" spares
# it, and makes torch.get_float32_matmul_precision() fail instead.
# Matters: one line at a program's start breaks code far away, in other libraries that make one operation deterministic or
# switch cuDNN off for it. Without any line, convolutions on a GPU are rounded to TF32 and matrix products are not, so a
# comparison "in fp32" has to set something.
# Remedy: the older pair, torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False, breaks neither.
# Source: torch/backends/cudnn/__init__.py (set_flags); "TensorFloat-32 (TF32) on Ampere" in PyTorch's CUDA notes.
# Versions: torch 2.14.1, Python 3.11, no GPU.
# Run to its end on 28 November 2026; exit 0, and the program printed:
#   nothing                  cudnn.flags(): works         get_float32_matmul_precision(): works
#   new, ieee                cudnn.flags(): RuntimeError  get_float32_matmul_precision(): works
#   new, ieee, convolutions  cudnn.flags(): RuntimeError  get_float32_matmul_precision(): works
#   new, tf32                cudnn.flags(): works         get_float32_matmul_precision(): RuntimeError
#   old, False               cudnn.flags(): works         get_float32_matmul_precision(): works
#   As stated: true fp32 by the new switch breaks cudnn.flags(), TF32 by it the other; the old pair breaks neither.
set -euo pipefail

export OMP_NUM_THREADS=1 PIP_DISABLE_PIP_VERSION_CHECK=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
export PATH="$work/venv/bin:$PATH"
pip install -q torch==2.14.1 numpy==2.4.6

cat > "$work/program.py" <<'EOF'
import subprocess, sys
SETTINGS = {
    "nothing": "pass",
    "new, ieee": "torch.backends.fp32_precision = 'ieee'",
    "new, ieee, convolutions": "torch.backends.cudnn.conv.fp32_precision = 'ieee'",
    "new, tf32": "torch.backends.fp32_precision = 'tf32'",
    "old, False": "torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False",
}
PROGRAM = """
import torch
{setting}
def outcome(use):
    try:
        use()
    except RuntimeError as error:
        return "RuntimeError"
    return "works"
def block():
    with torch.backends.cudnn.flags(deterministic=True):
        pass
print(outcome(block), outcome(torch.get_float32_matmul_precision))
"""

def outcomes(setting):
    """What the block and the question about matrix products do after a setting, in a process of its own."""
    return subprocess.run([sys.executable, "-W", "ignore", "-c", PROGRAM.format(setting=setting)], check=True,
                          capture_output=True, text=True).stdout.split()

seen = {name: outcomes(setting) for name, setting in SETTINGS.items()}
for name, (block, question) in seen.items():
    print(f"{name:24} cudnn.flags(): {block:13} get_float32_matmul_precision(): {question}")
fails = {"nothing": (0, 0), "new, ieee": (1, 0), "new, ieee, convolutions": (1, 0), "new, tf32": (0, 1), "old, False": (0, 0)}
if {name: tuple(one == "RuntimeError" for one in both) for name, both in seen.items()} != fails:
    raise SystemExit("Changed: torch's new switch for fp32 no longer breaks cudnn.flags() and get_float32_matmul_precision().")
print("As stated: true fp32 by the new switch breaks cudnn.flags(), TF32 by it the other; the old pair breaks neither.")
EOF
python "$work/program.py"
