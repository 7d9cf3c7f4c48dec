"""Try the networks that the book's page on own networks names, under each engine.

    .venv/bin/python tests/searches/nets.py

Each trains two epochs through `run_trial`. ``results/nets.json`` says what came of it, in the words
of the table in ``book/own.md``, which a test compares with this record.
"""

import json
import os
import sys
import tempfile
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dsstudy.errors import InputError, last_line
from dsstudy.launching.launcher import TrialError
from dsstudy.launching.run import run_trial
from dsstudy.spec.engines import ENGINES
from dsstudy.spec.trial import Trial

NETS = {
    "lazy layers": ["lazy"],
    "weights in `channels_last` or another order": ["channels_last", "transposed"],
    "layers that share a weight": ["Shared"],
    "some layers frozen": ["half_frozen"],
    "a parameter that is a single number": ["Scaled"],
    "a layer that takes no part in the loss": ["Unused"],
    "several outputs in train mode, as of auxiliary heads": ["Pair"],
    "no parameter that can be trained": ["frozen"],
    "changes its own weights, unlike on each rank": ["wandering"],
}
"""The table's kinds of networks, and those of ``tests/nets.py`` that are of this kind."""

BRIEF = {"train_images": 64, "test_images": 20, "epochs": 2, "batch_size": 16, "image_size": 32}
RESULT = Path(__file__).parent / "results" / "nets.json"


def ways() -> dict[str, list[dict[str, Any]]]:
    """Return the settings that each column of the table stands for."""
    return {
        engine.title: [
            {"engine": name, "processes": 2 if engine.launcher else 1, "zero_stage": stage}
            for stage in ((0, 3) if engine.has_zero else (0,))
        ]
        for name, engine in ENGINES.items()
    }


def try_net(net: str, way: dict[str, Any]) -> dict[str, Any]:
    """Train a network, and return what came of it, with each epoch's loss, or why it was not."""
    with tempfile.TemporaryDirectory() as folder:
        trial = Trial(model=f"nets:{net}", output_dir=f"{folder}/trial", **BRIEF, **way)
        try:
            record = run_trial(trial)
        except InputError as error:
            return {"outcome": "refused", "why": str(error)}
        except TrialError as error:
            return {"outcome": "the trial fails", "why": last_line(str(error))}
        losses = [round(epoch["train_loss"], 4) for epoch in record.epochs()]
        return {"outcome": "trains", "losses": losses}


def main() -> None:
    """Try every network in every way."""
    folder = str(Path(__file__).parent.parent)
    sys.path.insert(0, folder)
    os.environ["PYTHONPATH"] = os.pathsep.join([folder, os.environ.get("PYTHONPATH", "")])
    tried = [
        {"kind": kind, "net": net, "column": column} | way
        for kind, nets in NETS.items()
        for net in nets
        for column, settings in ways().items()
        for way in settings
    ]
    for one in tried:
        way = {name: one[name] for name in ("engine", "processes", "zero_stage")}
        one |= try_net(one["net"], way)
        print(one, flush=True)
    record = {"date": date.today().isoformat(), "torch": version("torch"),
              "deepspeed": version("deepspeed"), "tried": tried}  # fmt: skip
    RESULT.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
