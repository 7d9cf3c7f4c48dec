"""The fields of a record's files that readers rely on, and their types."""

from typing import Annotated, Any, Literal, NotRequired

from pydantic import ConfigDict, Field, TypeAdapter, with_config
from typing_extensions import TypedDict

from dsstudy.spec.engines import ENGINES

# These are dictionaries, not models: hundreds of thousands are checked, and no object is needed.


class _Named(TypedDict):  # a line of a published file
    name: str


class _Epoch(TypedDict):
    epoch: int
    train_loss: NotRequired[float | None]
    test_loss: NotRequired[float | None]
    test_accuracy: NotRequired[float | None]
    train_seconds: NotRequired[float | None]
    peak_memory_mb: NotRequired[float | None]
    held_memory_mb: NotRequired[float | None]


class _Hardware(TypedDict):
    processor: str
    cores: int
    memory_gib: float
    gpus: list[dict[str, Any]]


class _Dataset(TypedDict):
    name: str
    train_images: int
    test_images: int
    classes: Annotated[int, Field(ge=1)]


class _Threads(TypedDict):
    number: int
    cores: int
    reason: str


class _Environment(TypedDict, total=False):
    hardware: _Hardware | None
    software: dict[str, str]
    allocator: dict[str, str]
    commit: str
    device: str
    hosts: int
    memory: str
    side_by_side: int
    threads: _Threads
    dataset: _Dataset | None


class _Outcome(TypedDict, total=False):
    best_accuracy: float | None
    final_accuracy: float | None
    seconds_per_epoch: float | None
    timing: str | None
    interrupted: bool
    error: str | None
    finished_at: str | None
    environment: _Environment | None


class _Result(_Outcome):
    status: Literal["completed", "diverged", "failed"]


class _PublishedTrial(_Outcome, _Named):
    status: NotRequired[Literal["completed", "diverged", "failed", "unfinished"]]


class _Time(_Named):
    timing: str
    steps: int
    seconds_per_epoch_estimate: float
    seconds_per_step: list[float]
    steps_per_epoch: int
    environment: NotRequired[_Environment]


class _Phases(TypedDict):
    data: float
    forward: float
    backward: float
    communication: float
    optimizer: float
    rest: float


class _ProfiledRank(TypedDict):
    rounds: list[_Phases]
    step: list[Annotated[list[str | float], Field(min_length=3, max_length=3)]]


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


class _Timed(_Named):
    engine: Literal[tuple(ENGINES)]  # type: ignore[valid-type]
    processes: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=1)]


class _LeftOut(TypedDict):
    engine: str
    reason: str


class _Comparison(TypedDict):
    model: str
    dataset: str
    settings: dict[str, Any]
    device: Literal["cpu", "cuda"]
    parameters: Annotated[int, Field(ge=0)]
    timed: Annotated[list[_Timed], Field(min_length=1)]
    left_out: list[_LeftOut]


class _Study(TypedDict):
    study: str
    trials: NotRequired[list[str]]
    file: NotRequired[str]
    overrides: NotRequired[dict[str, str]]
    cells: NotRequired[list[Annotated[list[str | int], Field(min_length=5, max_length=5)]]]
    labels: NotRequired[dict[str, dict[str, str]]]


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
        The kind, a `TypedDict`; an object may have further fields. Numbers are finite, and values
        of other types are not converted, also inside other objects.
    """

    def __init__(self, fields: Any):
        fields = with_config(ConfigDict(strict=True, allow_inf_nan=False))(fields)
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

PHASES = tuple(_Phases.__annotations__)
"""The phases of a step in order. The rest is everything else, such as Python and clipping."""
