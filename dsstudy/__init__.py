"""An interactive study book: does DeepSpeed help me train my model."""

from importlib import import_module
from typing import Any

# Names are loaded when they are first used: `import dsstudy` brings in neither torch nor pandas.
_HOME = {
    "Trial": "trial",
    "InputError": "trial",
    "Record": "record",
    "Machine": "machine",
    "load_data": "data",
    "build_model": "models",
    "model_summary": "models",
    "run_trial": "run",
    "TrialError": "run",
    "load_results": "analysis",
    "load_epochs": "analysis",
    "figures": "figures",
}
__all__ = list(_HOME)  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'dsstudy' has no attribute '{name}'")
    module = import_module(f"dsstudy.{_HOME[name]}")
    return module if name == _HOME[name] else getattr(module, name)


def __dir__() -> list[str]:
    return [*globals(), *_HOME]
