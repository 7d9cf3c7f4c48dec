"""The fields of a record's files that readers rely on, and their types."""

from typing import Annotated, Any, Literal, NotRequired

from pydantic import ConfigDict, Field, TypeAdapter, with_config
from typing_extensions import TypedDict

from dsstudy.spec.engines import ENGINES

# Dictionaries, not models: hundreds of thousands are checked, and no object is needed.
_strict = with_config(ConfigDict(strict=True, allow_inf_nan=False))


@_strict
class _Named(TypedDict):  # a line of a published file
    name: str


@_strict
class _Epoch(TypedDict):
    epoch: int
    train_loss: NotRequired[float | None]
    test_loss: NotRequired[float | None]
    test_accuracy: NotRequired[float | None]
    train_seconds: NotRequired[float | None]
    peak_memory_mb: NotRequired[float | None]
    held_memory_mb: NotRequired[float | None]


@_strict
class _Hardware(TypedDict):
    processor: str
    cores: int
    memory_gib: float
    gpus: list[dict[str, Any]]


@_strict
class _Dataset(TypedDict):
    name: str
    train_images: int
    test_images: int
    classes: Annotated[int, Field(ge=1)]


@_strict
class _Environment(TypedDict, total=False):
    hardware: _Hardware | None
    software: dict[str, str]
    allocator: dict[str, str]
    commit: str
    device: str
    hosts: int
    dataset: _Dataset | None


@_strict
class _Outcome(TypedDict, total=False):
    best_accuracy: float | None
    final_accuracy: float | None
    seconds_per_epoch: float | None
    timing: str | None
    interrupted: bool
    error: str | None
    finished_at: str | None
    environment: _Environment | None


@_strict
class _Result(_Outcome):
    status: Literal["completed", "diverged", "failed"]


@_strict
class _PublishedTrial(_Outcome, _Named):
    status: NotRequired[Literal["completed", "diverged", "failed", "unfinished"]]


@_strict
class _Time(_Named):
    timing: str
    steps: int
    seconds_per_epoch_estimate: float
    seconds_per_step: list[float]
    steps_per_epoch: int
    environment: NotRequired[_Environment]


@_strict
class _Phases(TypedDict):
    data: float
    forward: float
    backward: float
    communication: float
    optimizer: float
    rest: float


@_strict
class _ProfiledRank(TypedDict):
    rounds: list[_Phases]
    step: list[Annotated[list[str | float], Field(min_length=3, max_length=3)]]


@_strict
class _Profile(_Named):
    model: str
    architecture: str
    engine: str
    setting: str
    processes: int
    threads: int
    batch_size: int
    image_size: int
    precision: str
    timing: str
    plain_seconds: list[float]
    profiled_seconds: list[float]
    ranks: Annotated[list[_ProfiledRank], Field(min_length=1)]


@_strict
class _Timed(_Named):
    engine: Literal[tuple(ENGINES)]  # type: ignore[valid-type]
    processes: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=1)]


@_strict
class _LeftOut(TypedDict):
    engine: str
    reason: str


@_strict
class _Comparison(TypedDict):
    model: str
    dataset: str
    settings: dict[str, Any]
    device: Literal["cpu", "cuda"]
    parameters: Annotated[int, Field(ge=0)]
    timed: Annotated[list[_Timed], Field(min_length=1)]
    left_out: list[_LeftOut]


@_strict
class _Study(TypedDict):
    study: str
    trials: NotRequired[list[str]]
    file: NotRequired[str]
    overrides: NotRequired[dict[str, str]]
    cells: NotRequired[list[Annotated[list[str | int], Field(min_length=5, max_length=5)]]]
    labels: NotRequired[dict[str, dict[str, str]]]


@_strict
class _Progress(TypedDict):
    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float | None
    accuracy: float | None


class Kind:
    """Checks JSON objects of one kind, or a list of them.

    Parameters
    ----------
    fields
        The kind, a `TypedDict`; an object may have further fields.
    """

    def __init__(self, fields: Any):
        self.check = TypeAdapter(fields).validator.validate_python
        self.check_all = TypeAdapter(list[fields]).validator.validate_python


NAMED_LINE, EPOCH_LINE = Kind(_Named), Kind(_Epoch)

KINDS = {
    "epochs.jsonl": EPOCH_LINE,
    "result.json": Kind(_Result),
    "trials.jsonl": Kind(_PublishedTrial),
    "times.jsonl": Kind(_Time),
    "profiles.jsonl": Kind(_Profile),
    "comparison.json": Kind(_Comparison),
    "study.json": Kind(_Study),
    "progress.json": Kind(_Progress),
}
"""The kind of each file, or of each of its lines, by the file's name."""

PHASES = ("data", "forward", "backward", "communication", "optimizer", "rest")
"""The phases of a step in order. The rest is everything else, such as Python and clipping."""
