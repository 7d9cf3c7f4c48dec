"""What the files of a record hold, as far as readers rely on it: fields and their types."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Fields(BaseModel):
    """One JSON object; it may hold other fields besides."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class Named(Fields):
    """A line of a published file."""

    name: str


class Epoch(Fields):
    """A line of a trial's ``epochs.jsonl``."""

    epoch: int
    train_loss: float | None = None
    test_loss: float | None = None
    test_accuracy: float | None = None
    train_seconds: float | None = None
    peak_memory_mb: float | None = None
    held_memory_mb: float | None = None


class _Hardware(Fields):
    processor: str
    cores: int
    memory_gib: float
    gpus: list[dict[str, Any]]


class _Dataset(Fields):
    name: str
    train_images: int
    test_images: int
    classes: int = Field(ge=1)


class _Environment(Fields):
    hardware: _Hardware | None = None
    software: dict[str, str] = {}
    allocator: dict[str, str] = {}
    commit: str = ""
    device: str = ""
    dataset: _Dataset | None = None


class _Outcome(Fields):
    best_accuracy: float | None = None
    final_accuracy: float | None = None
    seconds_per_epoch: float | None = None
    timing: str | None = None
    interrupted: bool = False
    error: str | None = None
    finished_at: str | None = None
    environment: _Environment | None = None


class _Result(_Outcome):
    status: Literal["completed", "diverged", "failed"]


class _PublishedTrial(_Outcome, Named):
    status: Literal["completed", "diverged", "failed", "unfinished"] = "unfinished"


class _Time(Named):
    timing: str
    seconds_per_epoch_estimate: float
    seconds_per_step: list[float]
    steps_per_epoch: int


class _Study(Fields):
    study: str
    trials: list[str] = []
    file: str = ""
    overrides: dict[str, str] = {}
    cells: list[Annotated[list[str | int], Field(min_length=5, max_length=5)]] = []
    labels: dict[str, dict[str, str]] = {}


class _Progress(Fields):
    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float | None
    accuracy: float | None


KINDS: dict[str, type[Fields]] = {
    "epochs.jsonl": Epoch,
    "result.json": _Result,
    "trials.jsonl": _PublishedTrial,
    "times.jsonl": _Time,
    "study.json": _Study,
    "progress.json": _Progress,
}
"""By name of the file: what it holds, or what each of its lines does."""
