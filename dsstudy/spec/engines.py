"""The engines: how a trial can be trained, and all that the rest of the library knows of each.

Only its row here and its loop, ``training/loops/<name>.py``, contain an engine's name. All else
(validation, launchers' command lines, colours, titles, sentences) is made from the row.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

NORMAL, DDP, DEEPSPEED = "normal", "ddp", "deepspeed"
"""The engines' names, for code that is about one of them."""


@dataclass(frozen=True)
class Engine:
    """One way to train a trial.

    Attributes
    ----------
    name : str
        Its name in trials and records, and the name of its loop's module.
    title : str
        Its name in tables and figures.
    prose : str
        Its name in a sentence: "with <prose>".
    column : str
        Its name as a column of the paper's tables.
    color : int
        Its place in seaborn's colour-blind palette, the same in every figure.
    marker, line : str
        How matplotlib draws its points and its curves.
    launcher : str or None
        The program that starts its ranks; None if it trains in the trial's own process.
    compiles : bool
        Whether it compiles C++ ops at its first use.
    has_zero : bool
        Whether it has ZeRO stages.
    casts_model : bool
        Whether it keeps the model, and so images and gradients, in the lower precision. The
        others only compute in it (autocast).
    takes_scalars : bool
        Whether a model's parameter may be a tensor without dimensions.
    takes_unused : bool
        Whether a model's parameter may take no part in the loss.
    exchanges : int
        How many times a step sends the gradients around the ring of ranks.
    """

    name: str
    title: str
    prose: str
    column: str
    color: int
    marker: str
    line: str
    launcher: Literal["torchrun", "deepspeed"] | None = None
    compiles: bool = False
    has_zero: bool = False
    casts_model: bool = False
    takes_scalars: bool = True
    takes_unused: bool = True
    exchanges: int = 1


_TABLE = (
    Engine(NORMAL, "normal", "normal training", "Normal training", 0, "o", "-", exchanges=0),
    Engine(
        DDP,
        "DDP",
        "DDP",
        "DDP training",
        2,
        "^",
        "-.",
        launcher="torchrun",
        takes_unused=False,
    ),
    Engine(
        DEEPSPEED,
        "DeepSpeed",
        "DeepSpeed",
        "DeepSpeed training",
        1,
        "s",
        "--",
        launcher="deepspeed",
        compiles=True,
        has_zero=True,
        casts_model=True,
        takes_scalars=False,
    ),
)

ENGINES = {engine.name: engine for engine in _TABLE}
"""By name, the simplest engine first: of two that are equally fast, the earlier is recommended."""

LAUNCHED = tuple(name for name, engine in ENGINES.items() if engine.launcher)
"""The engines whose ranks a launcher starts."""


def one_of(names: Iterable[str]) -> str:
    """Write some names as alternatives: ``normal, ddp or deepspeed``."""
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last
