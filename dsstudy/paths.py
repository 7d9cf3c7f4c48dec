"""Where the project's folders are: records of runs, committed results."""

import os
import re
from pathlib import Path

from dsstudy.errors import InputError, quoted


def results_folder() -> Path:
    """Return where the committed results of all studies lie."""
    return project_root() / "book" / "results"


def published_folder(study: str) -> Path:
    """Return where a study's committed results lie."""
    check_name(study)
    return results_folder() / study


def check_name(name: str) -> None:
    """Refuse the name of a study or a trial that would not be one folder below another.

    Raises
    ------
    InputError
        It holds slashes, line breaks or the like, is too long, or begins with a dot.
    """
    if not re.fullmatch(r"\w[\w .+-]*", name) or len(name.encode()) > 120:
        raise InputError(
            f"{quoted(name)} cannot be the name of a study or a trial: use letters, digits, spaces "
            "and _ . + -, a letter or digit first, 120 bytes at most"
        )


def runs_folder() -> Path:
    """Return where records go: ``$DSSTUDY_RUNS``, or ``runs/`` in the project."""
    return Path(os.environ.get("DSSTUDY_RUNS") or project_root() / "runs").absolute()


def project_root() -> Path:
    """Return the project's folder, or the current one where the library was installed alone."""
    root = Path(__file__).resolve().parents[1]
    return root if (root / "notebooks" / "trial.ipynb").exists() else Path.cwd()
