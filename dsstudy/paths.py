"""The project's folders: records of runs, and committed results."""

import os
import re
from pathlib import Path

from dsstudy.errors import InputError, quoted


def results_folder() -> Path:
    """Return the folder of the committed results of all studies."""
    return project_root() / "book" / "results"


def published_folder(study: str) -> Path:
    """Return the folder of a study's committed results."""
    check_name(study)
    return results_folder() / study


def check_name(name: str) -> None:
    """Refuse a name of a study or a trial that cannot be the name of a folder."""
    if not re.fullmatch(r"\w[\w .+-]*", name) or len(name.encode()) > 120:
        raise InputError(
            f"{quoted(name)} cannot be the name of a study or a trial: use letters, digits, spaces "
            "and _ . + -, a letter or digit first, 120 bytes at most"
        )


def runs_folder() -> Path:
    """Return the folder for records: ``$DSSTUDY_RUNS``, or ``runs/`` in the project."""
    return Path(os.environ.get("DSSTUDY_RUNS") or project_root() / "runs").absolute()


def project_root() -> Path:
    """Return the project's folder, or the current folder if only the library is installed."""
    root = Path(__file__).resolve().parents[1]
    return root if (root / "notebooks" / "trial.ipynb").exists() else Path.cwd()
