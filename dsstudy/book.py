"""Building the book: its notebooks executed over one study's records, then Jupyter Book."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat
import yaml

from dsstudy.analysis import study_folder
from dsstudy.trial import InputError, project_root


def build_book(study: str | Path, output: str | Path) -> Path:
    """Build the book over a study's records.

    Parameters
    ----------
    study
        ``runs/<study>`` or ``book/results/<study>``.
    output
        The folder for the HTML pages; an older book there is replaced, and only a book.

    Returns
    -------
    Path
        The book's first page.

    Raises
    ------
    InputError
        The output folder holds something else, the study has no records, or a page cannot be
        built: Sphinx's or the notebook's own words follow.
    """
    output = Path(output).absolute()
    if output.exists() and any(output.iterdir()) and not (output / "intro.html").exists():
        raise InputError(f"output={output} holds something that is no book: give another folder")
    study = study_folder(study)
    with tempfile.TemporaryDirectory(prefix="dsstudy-book-") as scratch:
        source = Path(scratch) / "book"
        shutil.copytree(
            project_root() / "book", source, ignore=shutil.ignore_patterns("_build", "results")
        )
        for page in _pages(source):
            notebook = project_root() / "notebooks" / f"{page}.ipynb"
            if notebook.exists():
                _execute(notebook, source / notebook.name, study)
        _run(["jupyter-book", "build", "--warningiserror", "--keep-going", str(source)])
        shutil.rmtree(output, ignore_errors=True)
        shutil.copytree(source / "_build" / "html", output)
    return output / "intro.html"


def _pages(source: Path) -> list[str]:
    contents = yaml.safe_load((source / "_toc.yml").read_text())
    return [chapter["file"] for part in contents["parts"] for chapter in part["chapters"]]


def _execute(notebook: Path, target: Path, study: Path) -> None:
    """Execute a notebook of the book; those that read records have the parameter ``study``."""
    parameters = ["-p", "study", str(study)] if '"parameters"' in notebook.read_text() else []
    _run(["papermill", "--no-progress-bar", str(notebook), str(target), *parameters])
    executed = nbformat.read(target, as_version=4)
    for cell in executed.cells:
        if {"parameters", "injected-parameters"} & set(cell.metadata.get("tags", [])):
            cell.metadata.tags.append("remove-cell")  # a path on this machine, of use to nobody
    nbformat.write(executed, target)


def _run(command: list[str]) -> None:
    tool = Path(sys.executable).parent / command[0]
    done = subprocess.run(
        [str(tool), *command[1:]],
        cwd=project_root(),
        env=os.environ | {"PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        words = f"{done.stdout}\n{done.stderr}".strip().splitlines()
        raise InputError(f"{' '.join(command[:3])} failed:\n" + "\n".join(words[-40:]))
