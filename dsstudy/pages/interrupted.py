"""A trial that is killed and resumed, and the record of the kills in tests."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
from IPython.display import Markdown

from dsstudy.paths import project_root
from dsstudy.records.record import Record
from dsstudy.spec.trial import Trial

_TRAIN = "import sys, dsstudy; dsstudy.run_trial(dsstudy.Trial.model_validate_json(sys.argv[1]))"


def train_and_kill(trial: Trial, epoch: int, step: int) -> Record:
    """Train a trial in another process, and kill it with ``kill -9`` at a given step.

    Parameters
    ----------
    trial
        It starts from the beginning and must be long enough for the step to be noticed.
    epoch, step
        From 1: the process is killed once its progress has reached this step.
    """
    record = Record(trial.folder)
    (record.folder / "progress.json").unlink(missing_ok=True)  # left by an earlier kill
    replacing = trial.model_copy(update={"overwrite": True})
    process = subprocess.Popen(
        [sys.executable, "-c", _TRAIN, replacing.model_dump_json()],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None:
        progress = record.progress()
        if progress and (progress["epoch"], progress["step"]) >= (epoch, step):
            process.send_signal(signal.SIGKILL)
            process.wait()
            return record
        time.sleep(0.005)
    raise RuntimeError(f"{record.folder} ended before epoch {epoch}, step {step}")


def record_files(record: Record) -> pd.DataFrame:
    """Return the sizes of a record's files in kB."""
    files = [file for file in sorted(record.folder.rglob("*")) if file.is_file()]
    rows = [(str(f.relative_to(record.folder)), round(f.stat().st_size / 1e3, 1)) for f in files]
    return pd.DataFrame(rows, columns=["file", "kB"]).set_index("file")


def compare_bitwise(one: Record, other: Record) -> Markdown:
    """Count the numbers that differ between two trainings, bit for bit."""
    both = one, other
    numbers = {
        "losses": [record.steps()["loss"] for record in both],
        "predictions": [record.predictions() for record in both],
        "test accuracies": [np.array([e["test_accuracy"] for e in r.epochs()]) for r in both],
    }
    counts = [f"**{(a != b).sum()}** of {len(a)} {name}" for name, (a, b) in numbers.items()]
    return Markdown(f"Numbers that differ: {', '.join(counts)}.")


def kills_text() -> Markdown:
    """Describe the last recorded run of random kills."""
    record = json.loads((project_root() / "benchmarks" / "results" / "kills.json").read_text())
    table = pd.DataFrame(record["killed"]).fillna(0).astype(int).sort_index()
    hardware = record["environment"]["hardware"]
    return Markdown(
        f"Last recorded: **{record['kills']} kills in a row, in {record['trials']} trials. Every "
        f"trial ended equal to its uninterrupted twin** ({record['date']}, seed "
        f"{record['seed']}, {hardware['processor']}, {hardware['cores']} cores; commit "
        f"{record['environment']['commit'][:7]}; record: `benchmarks/results/kills.json`).\n\n"
        f"{table.to_html(border=0)}"
    )
