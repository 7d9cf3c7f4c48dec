"""What a study costs beyond training and evaluation, and where it goes.

Usage: python benchmarks/overhead.py runs/demo

Reads the notebooks that dsstudy run has executed: papermill notes each cell's duration. Overhead is
the notebook's whole duration minus its trial's training and evaluation.
"""

import statistics
import sys
from pathlib import Path

import nbformat
from common import save

from dsstudy.records.record import Record

PARTS = {
    "load_data": "imports of torch and seaborn, images, sample figure",
    "model_summary": "model's summary",
    "run_trial": "run_trial: checks, launcher and ranks starting, building the model",
    "figures.": "figures and tables of results",
}


def main() -> None:
    folder = Path(sys.argv[1])
    overheads: dict[str, list[dict[str, float]]] = {"normal": [], "deepspeed": []}
    for record in map(Record, sorted(folder.glob("*/"))):
        trial, notebook = record.trial(), record.folder / "trial.ipynb"
        if trial is not None and record.finished and notebook.exists():
            overheads[trial.engine].append(breakdown(record, notebook))
    save(
        "overhead",
        {
            "study": folder.name,
            "seconds_per_trial": {
                engine: {
                    part: round(statistics.median(row[part] for row in rows), 2) for part in rows[0]
                }
                for engine, rows in overheads.items()
                if rows
            },
            "trials": {engine: len(rows) for engine, rows in overheads.items()},
        },
    )


def breakdown(record: Record, notebook: Path) -> dict[str, float]:
    """Return the seconds of each part of a trial's overhead, and their sum."""
    content = nbformat.read(notebook, as_version=4)
    trained = sum(epoch["train_seconds"] + epoch["eval_seconds"] for epoch in record.epochs())
    parts = dict.fromkeys(PARTS.values(), 0.0)
    for cell in content.cells:
        for mark, part in PARTS.items():
            if cell.cell_type == "code" and mark in cell.source:
                parts[part] += cell.metadata.papermill["duration"] or 0
                break
    parts[PARTS["run_trial"]] -= trained
    total = content.metadata.papermill["duration"] - trained
    return parts | {"kernel and the rest": total - sum(parts.values()), "overhead": total}


if __name__ == "__main__":
    main()
