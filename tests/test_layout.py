"""The rules on the library's layout that import-linter does not check."""

import ast
from pathlib import Path

import nbformat
import pytest

import dsstudy
from dsstudy.spec.engines import ENGINES

LIBRARY = Path(dsstudy.__file__).parent
NOTEBOOKS = sorted((LIBRARY.parent / "notebooks").glob("*.ipynb"))


PACKAGE = {
    ("launching/machine.py", "deepspeed"),  # a library whose version is recorded
    ("launching/launcher_command.py", "deepspeed"),  # a launcher
    ("training/profiled_session.py", "deepspeed"),  # an imported package
}
"""Where a string is not the name of the engine but of the package or of its launcher."""


def may_name_engines(module: Path) -> bool:
    """Say whether a module may contain engines' names: the table, the loops, the paper's data."""
    place = module.relative_to(LIBRARY)
    loops = {Path("training", "loops", f"{engine}.py") for engine in ENGINES}
    return place.parts[0] == "paper" or place in {Path("spec", "engines.py"), *loops}


def engine_literals(module: Path) -> list[str]:
    """Return the places of strings that are an engine's name, docstrings aside."""
    tree, place = ast.parse(module.read_text()), module.relative_to(LIBRARY).as_posix()
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return [
        f"{place}:{node.lineno}: {node.value!r}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and node.value in ENGINES
        if id(node) not in docstrings and (place, node.value) not in PACKAGE
    ]


def test_an_engines_name_is_a_literal_only_in_its_row_and_its_loop():
    modules = [file for file in LIBRARY.glob("**/*.py") if not may_name_engines(file)]
    found = [place for module in sorted(modules) for place in engine_literals(module)]
    assert not found, "\n".join(found)


def library_imports(tree: ast.Module) -> set[str]:
    """Return the names of the library that some code uses, as full names: modules or attributes."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "dsstudy":
            names |= {f"{node.module}.{one.name}" for one in node.names}
        elif isinstance(node, ast.Import):
            names |= {one.name for one in node.names if one.name.startswith("dsstudy.")}
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "dsstudy":
            names.add(f"dsstudy.{node.attr}")
    return names


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_uses_its_page_module_the_reports_and_public_names(notebook):
    cells = nbformat.read(notebook, as_version=4).cells
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    own = "dsstudy.explorer" if notebook.stem == "explore" else f"dsstudy.pages.{notebook.stem}"
    allowed = (own, "dsstudy.report", *(f"dsstudy.{name}" for name in dsstudy.__all__))
    names = library_imports(ast.parse(code))
    assert not [
        name for name in names if not f"{name}.".startswith(tuple(f"{a}." for a in allowed))
    ]
    assert any(f"{name}.".startswith(f"{own}.") for name in names)


def test_every_page_module_has_its_notebook():
    modules = {path.stem for path in (LIBRARY / "pages").iterdir() if path.suffix in ("", ".py")}
    pages = {file.stem for file in NOTEBOOKS} - {"explore"}
    assert modules - {"__init__", "__pycache__"} == pages
