"""An interactive study book: does DeepSpeed help me train my model."""

from importlib import import_module
from typing import Any

# Names are loaded when they are first used: `import dsstudy` brings in neither torch nor pandas.
_HOME = {
    "Trial": "spec.trial",
    "InputError": "errors",
    "Record": "records.record",
    "Machine": "launching.machine",
    "load_data": "images.data",
    "build_model": "training.models",
    "model_summary": "training.models",
    "check_trial": "launching.run",
    "run_trial": "launching.run",
    "TrialError": "launching.launcher",
    "load_results": "analysis.load",
    "load_epochs": "analysis.load",
    "load_trials": "analysis.cells",
    "find_study": "records.study_folder",
    "measure_engines": "studies.compare_engines",
}
__all__ = list(_HOME)  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'dsstudy' has no attribute '{name}'")
    return getattr(import_module(f"dsstudy.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *_HOME]
