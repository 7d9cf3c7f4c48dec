"""The book: execute its notebooks over the records of studies, then run Jupyter Book."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import nbformat
import papermill
import yaml

from dsstudy.analysis.cells import in_paper, load_trials
from dsstudy.errors import InputError
from dsstudy.launching.machine import Machine
from dsstudy.launching.threads import usable_cores
from dsstudy.launching.warm_kernels import WarmKernelManager, warm_kernels
from dsstudy.launching.warm_python import warm_python
from dsstudy.paths import project_root, results_folder
from dsstudy.records.study_folder import find_study, study_name
from dsstudy.report.origin import marked_title


class Page(NamedTuple):
    """A page: its notebook's name and parameters, its path in the book, the study it is over."""

    name: str
    path: str
    study: Path | None
    parameters: dict[str, Any]
    suffix: str = ""  # of its title
    is_section: bool = False  # of the page before


def build_book(studies: str | Path, output: str | Path) -> Path:
    """Build the book over the records of one study, or of several.

    Parameters
    ----------
    studies
        One study's folder, ``runs/<study>`` or ``book/results/<study>``; or a folder of such
        folders, ``book/results``, each of which becomes a part of the book.
    output
        The folder for the HTML pages. An older book there is replaced; anything else is not.

    Returns
    -------
    Path
        The book's first page.

    Raises
    ------
    InputError
        If the output folder holds something else, there are no records, or a page cannot be built.
    """
    output = Path(output).absolute()
    if output.exists() and any(output.iterdir()) and not (output / "intro.html").exists():
        raise InputError(f"output={output} holds something that is not a book: give another folder")
    folders = study_folders(studies)
    with tempfile.TemporaryDirectory(prefix="dsstudy-book-") as scratch:
        source = Path(scratch) / "book"
        no_results = shutil.ignore_patterns("_build", "results")
        shutil.copytree(project_root() / "book", source, ignore=no_results)
        with patch.dict(os.environ, PYTHONWARNINGS="ignore"):  # else pages show libraries' warnings
            with warm_kernels(), warm_python():
                _stage(source, folders)
            _run(["jupyter-book", "build", "--warningiserror", "--keep-going", str(source)])
        pages = source / "_build" / "html"
        for target, folder in folders.items():
            for records in folder.glob("*.jsonl"):  # the provenance boxes link to them
                shutil.copy(records, pages / target)
        shutil.rmtree(output, ignore_errors=True)
        shutil.copytree(pages, output)
    return output / "intro.html"


def study_folders(path: str | Path) -> dict[str, Path]:
    """Return the folders of records at a path by the folders of the book that their pages go to.

    The pages of one study go to the book's root, those of several to a folder for each.
    """
    inside = sorted((project_root() / path).glob("*/trials.jsonl"))
    if not inside and project_root() / path == results_folder():
        raise InputError(
            f"{path} holds no published study yet: publish one, 'dsstudy publish runs/<study>'"
        )
    return {file.parent.name: file.parent for file in inside} or {"": find_study(path)}


def page_metadata(name: str) -> dict[str, Any]:
    """Return what a page's notebook says about itself.

    ``over`` is what the page is over: "study" (any study, or only the one that ``study`` names),
    "all studies" or "nothing". ``cells`` leaves out studies with no trial "in the paper"'s cells,
    or none "outside the paper".
    """
    notebook = project_root() / "notebooks" / f"{name}.ipynb"
    if notebook.exists():
        return dict(nbformat.read(notebook, as_version=4).metadata.dsstudy)
    return {"over": "nothing"}  # a Markdown page


def book_parts(folders: dict[str, Path]) -> list[tuple[str, list[Page]]]:
    """Return the parts of the book over some `study_folders`: caption and pages of each.

    A chapter of ``_toc.yml`` with sections is repeated, with them, for each study. Other pages over
    one study are left out if the book lacks that study; a study with such a page of its own has no
    sections.
    """
    parts = _contents()["parts"]
    single = [c["file"] for part in parts for c in part["chapters"] if "sections" not in c]
    chapters = _pages(single, folders)
    own = {page.study for page in chapters}
    found = []
    for part in parts:
        pages: list[Page] = []
        for chapter in part["chapters"]:
            if "sections" in chapter:
                for target, folder in folders.items():
                    sections = [] if folder in own else [one["file"] for one in chapter["sections"]]
                    pages += _study_pages(chapter["file"], sections, {target: folder})
            else:
                pages += [page for page in chapters if page.name == chapter["file"]]
        if pages:
            found.append((part["caption"], pages))
    return found


def _contents() -> dict[str, Any]:
    return yaml.safe_load((project_root() / "book" / "_toc.yml").read_text())


def _study_pages(name: str, sections: list[str], folders: dict[str, Path]) -> list[Page]:
    """Return a study's page, and the pages below it that are about what the study holds."""
    (folder,) = folders.values()
    (first,) = _pages([name], folders)
    return [first._replace(suffix=f": {marked_title(folder)}")] + [
        page._replace(suffix=f" ({marked_title(folder)})", is_section=True)
        for page in _pages(sections, folders)
    ]


def _pages(names: list[str], folders: dict[str, Path]) -> list[Page]:
    pages = []
    for name in names:
        about = page_metadata(name)
        if about["over"] == "study":
            pages += [
                Page(name, str(Path(target, name)), folder, {"study": str(folder)})
                for target, folder in folders.items()
                if about.get("study") in (None, study_name(folder))
                and ("cells" not in about or about["cells"] in _study_cells(folder))
            ]
        else:
            studies = {"studies": [str(folder) for folder in folders.values()]}
            pages.append(Page(name, name, None, studies if about["over"] == "all studies" else {}))
    return pages


def _study_cells(folder: Path) -> set[str]:
    """Return whether a study has trials in the paper's cells, outside of them, or both."""
    names = {True: "in the paper", False: "outside the paper"}
    return set(in_paper(load_trials(folder)).map(names))


def _stage(source: Path, folders: dict[str, Path]) -> None:
    """Put the executed notebooks and the table of contents into the book's source."""
    contents, parts = _contents(), book_parts(folders)
    pages = _pages([contents["root"]], folders) + [page for _, some in parts for page in some]
    with ThreadPoolExecutor(usable_cores(Machine.here())) as pool:
        list(pool.map(lambda page: _execute(page, source / f"{page.path}.ipynb"), pages))
    config = (source / "_config.yml").read_text()
    config = config.replace("VERSION", version("dsstudy")).replace("DATE", str(date.today()))
    (source / "_config.yml").write_text(config)
    if address := binder_address():
        with (source / "own.md").open("a") as own:
            own.write(_binder_text(address))
    contents["parts"] = [
        {"caption": caption, "chapters": _chapters(pages)} for caption, pages in parts
    ]
    (source / "_toc.yml").write_text(yaml.safe_dump(contents, sort_keys=False))


def _chapters(pages: list[Page]) -> list[dict[str, Any]]:
    """Return pages as ``_toc.yml`` lists them, each with the sections that follow it."""
    chapters: list[dict[str, Any]] = []
    for page in pages:
        if page.is_section:
            chapters[-1].setdefault("sections", []).append({"file": page.path})
        else:
            chapters.append({"file": page.path})
    return chapters


def _binder_text(address: str) -> str:
    """Return the section with the button that starts the project on Binder."""
    return (
        "\n## Without a machine of your own\n\n"
        "Binder starts this project in your browser, on somebody else's processors, with the "
        "trial notebook open. Its default parameters train in seconds. DeepSpeed (`engine = "
        '"deepspeed"`) compiles its C++ ops first, which takes minutes. Leave `processes = 1`: two '
        "ranks need more than the 2 GB of memory there. Nothing is kept when you leave.\n\n"
        f"```{{button-link}} {address}\n:color: primary\nOpen the trial notebook on Binder\n```\n"
    )


def binder_address() -> str:
    """Return the address that starts the project on mybinder.org, or "" if it has none.

    It has one if git's remote ``origin`` is a repository on GitHub, as in a clone from there.

    References
    ----------
    https://mybinder.readthedocs.io/en/latest/howto/open_notebooks.html
    """
    if not shutil.which("git"):
        return ""
    command = ["git", "-C", str(project_root()), "remote", "get-url", "origin"]
    remote = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    host = r"(?:https://(?:[^@/]*@)?|(?:ssh://)?git@)github\.com[/:]"
    if not (found := re.fullmatch(host + r"([\w.-]+/[\w.-]+?)(?:\.git)?/?", remote)):
        return ""
    return f"https://mybinder.org/v2/gh/{found[1]}/HEAD?urlpath=lab/tree/notebooks/trial.ipynb"


def _execute(page: Page, target: Path) -> None:
    """Execute a page's notebook, if it has one, and append the suffix to its title."""
    notebook = project_root() / "notebooks" / f"{page.name}.ipynb"
    if not notebook.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        executed = papermill.execute_notebook(
            notebook,
            target,
            parameters=page.parameters,
            progress_bar=False,
            cwd=project_root(),
            kernel_manager_class=WarmKernelManager,
        )
    except papermill.PapermillExecutionError as error:
        given = page.parameters or "no study"
        raise InputError(f"{notebook.name} failed over {given}:{error}") from None
    for cell in executed.cells:
        if {"parameters", "injected-parameters"} & set(cell.metadata.get("tags", [])):
            cell.metadata.tags.append("remove-cell")  # a path on this machine helps no reader
        elif cell.cell_type == "code":
            hidden = "hide-input" if cell.outputs else "hide-cell"
            cell.metadata.tags = [*cell.metadata.get("tags", []), hidden]
    title, newline, rest = executed.cells[0].source.partition("\n")
    executed.cells[0].source = f"{title}{page.suffix}{newline}{rest}"
    nbformat.write(executed, target)


def _run(command: list[str]) -> None:
    tool = Path(sys.executable).parent / command[0]
    done = subprocess.run(
        [str(tool), *command[1:]], cwd=project_root(), capture_output=True, text=True
    )
    if done.returncode:
        lines = f"{done.stdout}\n{done.stderr}".strip().splitlines()
        raise InputError(f"{' '.join(command[:3])} failed:\n" + "\n".join(lines[-40:]))
