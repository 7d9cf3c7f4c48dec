#!/usr/bin/env bash
# Running an executed notebook again with one parameter changed puts all its other parameters back to their defaults.
#
# Expected: an executed notebook carries the parameters that it was run with, in its cell "Parameters". So
# "papermill done.ipynb again.ipynb -p lr 0.5" repeats that run at another learning rate.
# Instead: the cell is replaced whole by one that holds lr alone. Model and epochs fall back to the notebook's defaults,
# and the run succeeds: lenet for 1 epoch instead of resnet18 for 25. Without any -p the same command does repeat the run
# with its parameters, which makes one trust it.
# Matters: whoever keeps executed notebooks as records of trainings repeats "this one, a little different" from them and
# gets another net. Remedy: start from the original notebook with all parameters; a record's are in its metadata
# (papermill.parameters).
# Source: papermill/parameterize.py (parameterize_notebook: "Replace the injected cell with a new version"), papermill
# pull request 163, which brought it in for repeated calls.
# Versions: papermill 2.7.0, ipykernel 7.4.0, Python 3.11.
# Run to its end on 27 November 2026; exit 0, and the program printed:
#   papermill trial.ipynb done.ipynb -p model resnet18 -p epochs 25 -> resnet18 25 0.1
#   papermill done.ipynb same.ipynb -> resnet18 25 0.1
#   papermill done.ipynb again.ipynb -p lr 0.5 -> lenet 1 0.5
#   As stated: with no new parameter the run is repeated; with one, all the others are lost.
set -euo pipefail

export PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONWARNINGS=ignore
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
export PATH="$work/venv/bin:$PATH"
pip install -q papermill==2.7.0 ipykernel==7.4.0

cat > "$work/program.py" <<'EOF'
import os, subprocess, sys
import nbformat

os.chdir(os.path.dirname(os.path.abspath(__file__)))
kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
defaults = nbformat.v4.new_code_cell("model, epochs, lr = 'lenet', 1, 0.1", metadata={"tags": ["parameters"]})
shown = nbformat.v4.new_code_cell("print(model, epochs, lr)")
notebook = nbformat.v4.new_notebook(cells=[defaults, shown], metadata={"kernelspec": kernel})
nbformat.write(notebook, "trial.ipynb")

def run(source, target, **parameters):
    options = [part for name, value in parameters.items() for part in ("-p", name, str(value))]
    quiet = ["--log-level", "ERROR", "--no-progress-bar"]
    subprocess.run([sys.executable, "-m", "papermill", *quiet, source, target, *options], check=True)
    printed = nbformat.read(target, as_version=4).cells[-1].outputs[0].text.strip()
    print(f"papermill {source} {target} {' '.join(options)}".rstrip(), "->", printed)
    return printed

first = run("trial.ipynb", "done.ipynb", model="resnet18", epochs=25)
repeated = run("done.ipynb", "same.ipynb")
changed = run("done.ipynb", "again.ipynb", lr=0.5)
if (first, repeated, changed) != ("resnet18 25 0.1", "resnet18 25 0.1", "lenet 1 0.5"):
    raise SystemExit("Changed: one new parameter no longer puts the others of an executed notebook back to their defaults.")
print("As stated: with no new parameter the run is repeated; with one, all the others are lost.")
EOF
python "$work/program.py"
