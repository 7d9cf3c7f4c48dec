"""Building the book: its notebooks executed over studies' records, then Jupyter Book."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from itertools import groupby
from pathlib import Path
from typing import Any
from unittest.mock import patch

import nbformat
import papermill
import yaml

from dsstudy.analysis.provenance import any_synthetic
from dsstudy.errors import InputError
from dsstudy.launching.warm_kernels import WarmKernelManager
from dsstudy.paths import project_root, results_folder
from dsstudy.records.study_folder import find_study, study_name
from dsstudy.report.origin import origin_facts, study_progress_text, study_title

PART = "The study"
"""The part of ``_toc.yml`` whose pages every study has."""

CHAPTERS_PART = "Why they differ"
"""The part of the chapters, each of which ends with its answer."""

TOLD = ("table1", "table2")
"""A study's pages whose answers the first page has too."""

ANSWERS = "<!-- the answers -->\n"
"""Where ``intro.md`` takes these up."""

OWN_PAGES = {"lenet-full": ["lenet_full"]}
"""Further pages, of single studies."""

OVER_ALL = ("results", "cost_model")
"""Pages over all the studies in the book."""

CHAPTERS = {"bridge": "bridge", "step_time": "phases", "capacity": "capacity"}
"""Chapters over a study of their own, by page: such a study has no tables after the paper's."""


def build_book(studies: str | Path, output: str | Path) -> Path:
    """Build the book over the records of one study, or of several.

    Parameters
    ----------
    studies
        One study's folder, ``runs/<study>`` or ``book/results/<study>``; or a folder of such
        folders, ``book/results``, each of which becomes a part of the book.
    output
        The folder for the HTML pages; an older book there is replaced, and only a book.

    Returns
    -------
    Path
        The book's first page.

    Raises
    ------
    InputError
        The output folder holds something else, there are no records, or a page cannot be built:
        Sphinx's or the notebook's own words follow.
    """
    output = Path(output).absolute()
    if output.exists() and any(output.iterdir()) and not (output / "intro.html").exists():
        raise InputError(f"output={output} holds something that is no book: give another folder")
    folders = study_folders(studies)
    with tempfile.TemporaryDirectory(prefix="dsstudy-book-") as scratch:
        source = Path(scratch) / "book"
        shutil.copytree(
            project_root() / "book", source, ignore=shutil.ignore_patterns("_build", "results")
        )
        with patch.dict(os.environ, PYTHONWARNINGS="ignore"):  # of libraries, in the pages
            _stage(source, folders)
            _run(["jupyter-book", "build", "--warningiserror", "--keep-going", str(source)])
        pages = source / "_build" / "html"
        for target, folder in folders.items():
            for records in folder.glob("*.jsonl"):  # what the provenance boxes link to
                shutil.copy(records, pages / target)
        shutil.rmtree(output, ignore_errors=True)
        shutil.copytree(pages, output)
    return output / "intro.html"


def study_folders(path: str | Path) -> dict[str, Path]:
    """Return the folders of records at a path, by where in the book their pages go.

    One study's pages go to the book's root; those of several each to a folder of their own.
    """
    inside = sorted((project_root() / path).glob("*/trials.jsonl"))
    if inside:
        return {file.parent.name: file.parent for file in inside}
    if project_root() / path == results_folder():
        raise InputError(
            f"{path} holds no published study yet: publish one, 'dsstudy publish runs/<study>'"
        )
    return {"": find_study(path)}


def _stage(source: Path, folders: dict[str, Path]) -> None:
    """Put the executed notebooks and the table of contents into the book's source."""
    contents = yaml.safe_load((source / "_toc.yml").read_text())
    parts: list[dict[str, Any]] = []
    told: dict[str, Path | None] = {
        str(Path(target, page)): folder
        for target, folder in folders.items()
        if study_name(folder) not in CHAPTERS.values()
        for page in TOLD
    }
    for part in contents["parts"]:
        pages = [chapter["file"] for chapter in part["chapters"]]
        if part["caption"] == PART:
            parts += [_stage_study(source, pages, target, folders[target]) for target in folders]
            continue
        chapters = dict(one for page in pages for one in _stage_chapter(source, page, folders))
        if chapters:
            parts.append(_part(part["caption"], list(chapters)))
        if part["caption"] == CHAPTERS_PART:
            told |= chapters
    answers = "" if any_synthetic(folders.values()) else _answers(source, told)
    intro = (source / "intro.md").read_text().replace(ANSWERS, answers)
    (source / "intro.md").write_text(intro + _studies(folders))
    with (source / "own.md").open("a") as own:
        own.write(_without_a_machine())
    (source / "_toc.yml").write_text(yaml.safe_dump(contents | {"parts": parts}, sort_keys=False))


def _stage_study(source: Path, pages: list[str], target: str, folder: Path) -> dict[str, Any]:
    """Execute a study's pages into a folder of their own; return their part of the contents."""
    name = study_name(folder)
    pages = pages[:1] if name in CHAPTERS.values() else [*pages, *OWN_PAGES.get(name, [])]
    (source / target).mkdir(exist_ok=True)
    for page in pages:
        _execute(page, source / target / f"{page}.ipynb", name, study=str(folder))
    return _part(f"{PART} {study_title(folder)}", [str(Path(target, page)) for page in pages])


def _stage_chapter(
    source: Path, page: str, folders: dict[str, Path]
) -> list[tuple[str, Path | None]]:
    """Execute a page; return where it lies and its study; nothing where that is absent."""
    if page in OVER_ALL:
        _execute(page, source / f"{page}.ipynb", studies=[str(one) for one in folders.values()])
        return [(page, None)]
    if page not in CHAPTERS:
        _execute(page, source / f"{page}.ipynb")
        return [(page, None)]
    for target, folder in folders.items():
        if study_name(folder) == CHAPTERS[page]:  # beside its study's records
            (source / target).mkdir(exist_ok=True)
            _execute(page, source / target / f"{page}.ipynb", study=str(folder))
            return [(str(Path(target, page)), folder)]
    return []


def _answers(source: Path, told: dict[str, Path | None]) -> str:
    """List for the first page what pages end with, those of a study together."""
    lines = ["## The answers so far\n"]
    for folder, pages in groupby(told, key=told.__getitem__):
        parts = [f"*{study_title(folder)}: {_measured_text(folder)}.*"] if folder else []
        parts += [_page_answer(source, page) for page in pages]
        lines.append("- " + "\\\n  ".join(parts))
    return "\n".join(lines) + "\n"


def _page_answer(source: Path, page: str) -> str:
    cells = nbformat.read(source / f"{page}.ipynb", as_version=4).cells
    title = cells[0].source.splitlines()[0].removeprefix("# ")
    return f"[{title}]({page}.ipynb)\\\n  {cells[-1].outputs[-1].data['text/markdown']}"


def _measured_text(folder: Path) -> str:
    """Say where and on what a study was measured."""
    facts = origin_facts(folder)
    named = [name for name in ("epochs", "seeds", "times", "profiles") if facts[name] != "none"]
    return "; ".join([facts["hardware"], facts["images"], *(f"{n}: {facts[n]}" for n in named)])


def _part(caption: str, files: list[str]) -> dict[str, Any]:
    return {"caption": caption, "chapters": [{"file": file} for file in files]}


def _studies(folders: dict[str, Path]) -> str:
    """List the book's studies for its first page: a link to each, and how much of it is there."""
    lines = [
        f"- [{study_title(folder)}]({Path(target, 'study.ipynb')}): {study_progress_text(folder)}"
        for target, folder in folders.items()
    ]
    return "\n(the-studies)=\n\n## The studies in this book\n\n" + "\n".join(lines) + "\n"


def _without_a_machine() -> str:
    """Return the section with the button that starts the project on Binder, where that can be."""
    address = binder()
    if not address:
        return ""
    return (
        "\n## Without a machine of your own\n\n"
        "Binder starts this project in your browser, on somebody else's processors, with the "
        "trial notebook open. As it stands it trains in seconds. DeepSpeed (`engine = "
        '"deepspeed"`) compiles its C++ ops first, which takes minutes; leave `processes = 1`, for '
        "two ranks need more than the 2 GB of memory there. Nothing is kept when you leave.\n\n"
        f"```{{button-link}} {address}\n:color: primary\nOpen the trial notebook on Binder\n```\n"
    )


def binder() -> str:
    """Return the address that starts the project on mybinder.org; nothing where it has none.

    It has one where git's remote ``origin`` is a repository on GitHub: what a clone from there has.

    References
    ----------
    https://mybinder.readthedocs.io/en/latest/howto/open_notebooks.html
    """
    command = ["git", "-C", str(project_root()), "remote", "get-url", "origin"]
    try:
        remote = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    except FileNotFoundError:  # no git
        return ""
    found = re.fullmatch(
        r"(?:https://(?:[^@/]*@)?|(?:ssh://)?git@)github\.com[/:]([\w.-]+/[\w.-]+?)(?:\.git)?/?",
        remote,
    )
    if not found:
        return ""
    return f"https://mybinder.org/v2/gh/{found[1]}/HEAD?urlpath=lab/tree/notebooks/trial.ipynb"


def _execute(page: str, target: Path, name: str = "", **parameters: Any) -> None:
    """Execute a notebook of the book, where the page is one; name the study in its title."""
    notebook = project_root() / "notebooks" / f"{page}.ipynb"
    if not notebook.exists():
        return
    try:
        executed = papermill.execute_notebook(
            notebook,
            target,
            parameters=parameters,
            progress_bar=False,
            cwd=project_root(),
            kernel_manager_class=WarmKernelManager,
        )
    except papermill.PapermillExecutionError as error:
        over = parameters or "no study"
        raise InputError(f"{notebook.name} failed over {over}:{error}") from None
    for cell in executed.cells:
        if {"parameters", "injected-parameters"} & set(cell.metadata.get("tags", [])):
            cell.metadata.tags.append("remove-cell")  # a path on this machine, of use to nobody
    if name:
        title, newline, rest = executed.cells[0].source.partition("\n")
        executed.cells[0].source = f"{title} ({name}){newline}{rest}"
    nbformat.write(executed, target)


def _run(command: list[str]) -> None:
    tool = Path(sys.executable).parent / command[0]
    done = subprocess.run(
        [str(tool), *command[1:]],
        cwd=project_root(),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        words = f"{done.stdout}\n{done.stderr}".strip().splitlines()
        raise InputError(f"{' '.join(command[:3])} failed:\n" + "\n".join(words[-40:]))
