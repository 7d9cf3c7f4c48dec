"""The page on interruptions: a trial that is killed live, and the record of tested kills."""

import json
import signal
import subprocess
import sys
import time

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
        It starts from the beginning, and must be long enough for the step to be noticed.
    epoch, step
        From 1: the process is killed once its progress has reached this step.
    """
    record = Record(trial.folder)
    (record.folder / "progress.json").unlink(missing_ok=True)  # left by an earlier kill
    anew = trial.model_copy(update={"overwrite": True})
    process = subprocess.Popen(
        [sys.executable, "-c", _TRAIN, anew.model_dump_json()],
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


def files_table(record: Record) -> pd.DataFrame:
    """Return the files of a record: name, and size in kB."""
    files = [file for file in sorted(record.folder.rglob("*")) if file.is_file()]
    rows = [(str(f.relative_to(record.folder)), round(f.stat().st_size / 1e3, 1)) for f in files]
    return pd.DataFrame(rows, columns=["file", "kB"]).set_index("file")


def compare_bitwise(one: Record, other: Record) -> Markdown:
    """Count the numbers that differ between two trainings, bit for bit."""
    (loss, predicted), (other_loss, other_predicted) = (
        (record.steps()["loss"], record.predictions()) for record in (one, other)
    )
    accuracies = [[epoch["test_accuracy"] for epoch in record.epochs()] for record in (one, other)]
    epochs = sum(a != b for a, b in zip(*accuracies, strict=True))
    return Markdown(
        f"Of {len(loss)} losses **{(loss != other_loss).sum()}** differ, of {len(predicted)} "
        f"predictions **{(predicted != other_predicted).sum()}**, of {len(accuracies[0])} test "
        f"accuracies **{epochs}**."
    )


def kills_text() -> Markdown:
    """Describe the last recorded run of random kills."""
    record = json.loads((project_root() / "benchmarks" / "results" / "kills.json").read_text())
    table = pd.DataFrame(record["killed"]).fillna(0).astype(int).sort_index()
    hardware = record["environment"]["hardware"]
    return Markdown(
        f"Last recorded: **{record['kills']} kills in a row, over {record['trials']} trials, every "
        f"one of which ended equal to its uninterrupted twin** ({record['date']}, seed "
        f"{record['seed']}, {hardware['processor']}, {hardware['cores']} cores; commit "
        f"{record['environment']['commit'][:7]}; record: `benchmarks/results/kills.json`).\n\n"
        f"{table.to_html(border=0)}"
    )
