"""Studies written as records without training, with the paper's numbers as if measured."""

from pathlib import Path
from typing import Any

from dsstudy.paper import printed
from dsstudy.records.record import Record
from dsstudy.records.schema import PHASES
from dsstudy.spec.trial import Trial

Cell = tuple[str, str, str]
ACCURACY, SECONDS = (
    {tuple(row[:3]): row[3] for row in printed.printed_values(column).itertuples(index=False)}
    for column in ("best_accuracy", "seconds_per_epoch")
)


def trial_of(cell: Cell, **parameters: Any) -> Trial:
    """Return the trial of one of the paper's cells."""
    architecture, engine, setting = cell
    scheduler = {"deepspeed": "warmup", "normal": "cyclic"}[engine]
    known = {
        "model": architecture,
        "engine": engine,
        "processes": 2 if engine == "deepspeed" else 1,
        "optimizer": "adam" if setting.startswith("Adam") else "sgd",
        "scheduler": scheduler if setting.endswith("+S") else "none",
        "dataset": "cifar10",
        "epochs": 25,
    }
    return Trial(**(known | parameters))


def write_record(
    root: Path,
    trial: Trial,
    epochs: dict[str, Any] | None = None,
    gpus: int = 0,
    **result: Any,
) -> Record:
    """Write a finished record with the paper's numbers, or those that are given.

    The fields `epochs` are written into the line of each epoch. The machine had `gpus`.
    """
    cell = (trial.architecture, trial.engine, trial.setting)
    record = Record(root / trial.name)
    record.start(trial)
    accuracy = result.get("best_accuracy", ACCURACY.get(cell))
    for epoch in sorted({1, 2, trial.epochs - 1, trial.epochs}):  # those that claims look at
        line = {"epoch": epoch, "train_loss": 1.0, "test_accuracy": accuracy}
        record.add_epoch(line | (epochs or {}))
    known = {
        "status": "completed",
        "best_accuracy": accuracy,
        "seconds_per_epoch": SECONDS.get(cell),
        "timing": "exclusive",
        "finished_at": "2026-11-22T09:03:50+00:00",
        "environment": {
            "hardware": {
                "processor": "EPYC",
                "cores": 2,
                "memory_gib": 24,
                "gpus": [{"name": "GeForce", "memory_gib": 24}] * gpus,
            },
            "software": {"torch": "2.14.1"},
            "commit": "abc1234",
            "device": "cuda" if gpus else "cpu",
            "dataset": {
                "name": trial.dataset,
                "train_images": 50_000,
                "test_images": 10_000,
                "classes": 10,
            },
        },
    }
    record.finish(known | result)
    return record


def write_study(
    root: Path, leave_out: tuple[Cell, ...] = (), gpus: int = 0, **parameters: Any
) -> Path:
    """Write the paper's 42 trials, with some parameters changed and some cells left out."""
    for cell in printed.CELLS:
        if cell not in leave_out:
            write_record(root, trial_of(cell, **parameters), gpus=gpus)
    return root


def profile_row(
    model: str, batch_size: int, engine: str, milliseconds: tuple[float, ...], **fields: Any
) -> dict[str, Any]:
    """Return a line of profiles.jsonl with three rounds; the second has the median length.

    `milliseconds` are those of the phases, in their order.
    """
    seconds = [ms / 1e3 for ms in milliseconds]
    factors = (0.9, 1.0, 3.0)
    processes = 1 if engine == "normal" else 2
    step, begin = [], 0.0
    for phase, length in zip(PHASES, seconds, strict=True):
        step.append([phase, begin, begin + 1e6 * length])
        begin += 1e6 * length
    rounds = [dict(zip(PHASES, [f * s for s in seconds], strict=True)) for f in factors]
    known = {
        "name": f"{model}-{batch_size}-{engine}",
        "model": model,
        "architecture": model,
        "engine": engine,
        "setting": "SGD",
        "processes": processes,
        "threads": 1,
        "batch_size": batch_size,
        "image_size": 32,
        "precision": "fp32",
        "timing": "exclusive",
        "plain_seconds": [sum(seconds) * f / 1.25 for f in factors],
        "profiled_seconds": [sum(seconds) * f for f in factors],
        "ranks": [{"rounds": rounds, "step": step}] * processes,
    }
    return known | fields
