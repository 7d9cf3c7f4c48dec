"""A trial: the validated, immutable parameters of one training run. No torch."""

import difflib
import functools
import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from typing_extensions import TypedDict

from dsstudy.errors import InputError, quoted
from dsstudy.paths import project_root, runs_folder
from dsstudy.spec.engines import ENGINES, LAUNCHED, NORMAL, one_of

ARCHITECTURES = ("lenet", "alexnet", "vgg11_bn", "resnet18", "densenet121", "squeezenet1_0", "vit")
"""The paper's seven rows in its order; each is also the name of a model."""

PLACES = (
    "data_dir", "output_dir", "overwrite", "device", "hostfile", "checkpoint_steps",
    "keep_checkpoint", "watchdog_seconds", "tensorboard", "threads",
)  # fmt: skip
"""Parameters of where and how a trial runs; they are not part of its identity."""

DEFAULT_BUCKET = 500_000_000
"""DeepSpeed's default size of a bucket, in elements."""

_COUNT = "a whole number, 1 or more (a billion at most)"
_OWN_MODEL = r"[A-Za-z][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*"
_PATH = r"^[^\x00-\x1f\x7f]+$"

Count = Annotated[int, Field(ge=1, le=10**9)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Decay = Annotated[float, Field(ge=0, le=1e6)]
# -0.0 equals 0.0, and trials with either must have the same name: adding 0.0 makes it 0.0.
Fraction = Annotated[float, Field(ge=0, lt=1), AfterValidator(lambda number: number + 0.0)]


def _parameter(default: Any, allowed: str, meaning: str, **limits: Any) -> Any:
    return Field(default, description=meaning, json_schema_extra={"allowed": allowed}, **limits)


class Trial(BaseModel):
    """The parameters of one training run, as in the notebook's parameters cell.

    Every parameter is a scalar, so that ``papermill -p`` can set it. "No value" is the word
    ``none``. ``auto`` is replaced by the value that it stands for.

    Raises
    ------
    InputError
        A parameter is unknown, misspelt or out of range, or two parameters contradict each other.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    model: str = _parameter(
        "lenet",
        f"{', '.join(ARCHITECTURES)}, timm/<name>, torchvision/<name>, or module:callable of your"
        " own",
        "the network to train",
        pattern=rf"^({'|'.join(ARCHITECTURES)}|(timm|torchvision)/[A-Za-z0-9_.\-]{{1,88}}|{_OWN_MODEL})$",
        max_length=100,
        strict=True,
    )
    architecture: str = _parameter(
        "auto",
        "a short name of letters, digits and _ . - / :",
        "the row of the paper's tables that the model belongs to (auto: its own name)",
        pattern=r"^\w[\w./:\-]{0,99}$",
        strict=True,
    )
    engine: Literal[tuple(ENGINES)] = _parameter(  # type: ignore[valid-type]
        NORMAL, one_of(ENGINES), "how the model is trained"
    )
    optimizer: Literal["sgd", "adam"] = _parameter("sgd", "sgd or adam", "the optimizer")
    scheduler: Literal["none", "warmup", "cyclic"] = _parameter(
        "none", "none, warmup or cyclic", "the schedule of the learning rate"
    )
    precision: Literal["fp32", "tf32", "fp16", "bf16"] = _parameter(
        "fp32",
        "fp32, tf32 (fp32 with factors rounded to ten bits), fp16 or bf16",
        "the floating-point type of the arithmetic",
    )
    processes: Count = _parameter(1, _COUNT, "training processes (ranks), one GPU each")
    zero_stage: int = _parameter(
        0, "0, 1, 2 or 3", "DeepSpeed's ZeRO stage: what is partitioned over the ranks", ge=0, le=3
    )
    bucket_size: Count = _parameter(
        DEFAULT_BUCKET, _COUNT, "elements that ZeRO gathers before the ranks exchange them"
    )
    epochs: Count = _parameter(3, _COUNT, "passes over the training images")
    batch_size: Count = _parameter(16, _COUNT, "images per step, over all processes (global)")
    learning_rate: Positive = _parameter(
        1e-3, "a number above 0", "the base rate; with a scheduler, the highest"
    )
    momentum: Fraction = _parameter(
        0.9, "a number from 0 to below 1", "SGD's momentum, from which its cycle starts"
    )
    beta1: Fraction = _parameter(0.9, "a number from 0 to below 1", "Adam's decay of the mean")
    beta2: Fraction = _parameter(
        0.999, "a number from 0 to below 1", "Adam's decay of the variance"
    )
    weight_decay: Decay = _parameter(
        0.0, "a number, 0 or more (a million at most)", "L2 penalty added to the gradient"
    )
    decoupled_weight_decay: bool = _parameter(
        False, "true or false (adam alone)", "shrink the weights instead: AdamW"
    )
    gradient_clipping: Literal["none"] | Positive = _parameter(
        "none", "none or a number above 0", "largest norm of the whole gradient"
    )
    warmup_steps: Count = _parameter(1000, _COUNT, "steps of the logarithmic warm-up")
    cycle_steps: Count = _parameter(2000, _COUNT, "steps of half a cycle of CyclicLR")
    cycle_momentum: bool = _parameter(
        "auto", "true, false or auto", "CyclicLR cycles momentum too (auto: with sgd)"
    )
    dataset: Literal["cifar10", "cifar100", "imagefolder", "synthetic"] = _parameter(
        "synthetic", "cifar10, cifar100, imagefolder or synthetic", "the images"
    )
    data_dir: str = _parameter(
        "none", "a folder, or none", "the data set's folder, relative to $DSSTUDY_DATA (data/)",
        pattern=_PATH, strict=True,
    )  # fmt: skip
    train_images: Literal["all"] | Count = _parameter(
        "all", f"all or {_COUNT}", "training images, balanced over classes"
    )
    test_images: Literal["all"] | Count = _parameter(
        "all", f"all or {_COUNT}", "test images, balanced over classes"
    )
    reshuffle: bool = _parameter(
        True, "true or false", "reorder the images each epoch (false: keep the first order)"
    )
    evaluation: Literal["eval", "train"] = _parameter(
        "eval", "eval or train", "the model's mode during evaluation"
    )
    image_size: int = _parameter(
        "auto", "a whole number of pixels from 8 to 1024, or auto", "side of the square input"
        " (auto: 32 for lenet, 224 otherwise)", ge=8, le=1024
    )  # fmt: skip
    seed: int = _parameter(
        0, "a whole number from 0 to 4294967295", "the seed of weights and image order",
        ge=0, lt=2**32
    )  # fmt: skip
    device: Literal["auto", "cpu", "cuda"] = _parameter(
        "auto", "auto, cpu or cuda", "where to train (auto: a GPU if there is one)"
    )
    hostfile: str = _parameter(
        "none", "a file, or none", "the machines that run the ranks (none: this one)",
        pattern=_PATH, strict=True,
    )  # fmt: skip
    output_dir: str = _parameter(
        "none", "a folder, or none", "the trial's own folder (none: runs/trials/<trial name>)",
        pattern=_PATH, strict=True,
    )  # fmt: skip
    overwrite: bool = _parameter(
        False, "true or false", "train again although output_dir holds a record"
    )

    checkpoint_steps: Literal["none"] | Count = _parameter(
        "none", f"none or {_COUNT}", "steps between checkpoints (none: each epoch)"
    )
    keep_checkpoint: bool = _parameter(
        True, "true or false", "keep the last checkpoint, with the weights, of a finished trial"
    )
    watchdog_seconds: Literal["none"] | Count = _parameter(
        600, f"none or seconds, {_COUNT}", "time without progress before the ranks are ended"
    )
    tensorboard: bool = _parameter(
        False, "true or false", "log to TensorBoard too, in the trial's folder"
    )
    threads: Literal["auto"] | Count = _parameter(
        "auto", f"auto or {_COUNT}", "CPU threads of each process (auto: an equal share of the"
        " cores)"
    )  # fmt: skip

    def __init__(self, /, **parameters: Any) -> None:
        try:
            super().__init__(**parameters)
        except ValidationError as error:
            raise InputError(_validation_sentence(error)) from None

    @model_validator(mode="before")
    @classmethod
    def _replace_auto(cls, given: dict[str, Any]) -> dict[str, Any]:
        values = without_auto(given)
        for name, value in given.items():
            if type(value) not in (str, int, float):  # anything else, except for a switch, is rare
                values[name] = _unambiguous(name, values[name])
        return values

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        engine = ENGINES[self.engine]
        if not engine.launcher:
            why, other = "trains in one process", f"engine to {one_of(LAUNCHED)}"
            self._require("processes", 1, "engine", why, other)
            self._require("hostfile", "none", "engine", why, other)
        if not engine.has_zero:
            with_zero = one_of(name for name, one in ENGINES.items() if one.has_zero)
            self._require("zero_stage", 0, "engine", "has no ZeRO", f"engine={with_zero}")
        if self.zero_stage == 0:
            why, other = "has no such buckets", "zero_stage to 1, 2 or 3"
            self._require("bucket_size", DEFAULT_BUCKET, "zero_stage", why, other)
        if self.decoupled_weight_decay and self.optimizer != "adam":
            raise ValueError(
                f"decoupled_weight_decay=true is not possible with optimizer={self.optimizer}: set "
                "decoupled_weight_decay=false, or optimizer=adam"
            )
        if self.batch_size % self.processes:
            raise ValueError(
                f"batch_size={self.batch_size} cannot be split evenly over processes="
                f"{self.processes}: set batch_size to a multiple of processes"
            )
        if self.train_images != "all" and self.train_images < self.batch_size:
            raise ValueError(
                f"train_images={self.train_images} does not fill one batch: set at least "
                f"batch_size={self.batch_size} images, or a smaller batch_size"
            )
        if self.dataset == "imagefolder" and self.data_dir == "none":
            raise ValueError(
                "data_dir=none is not possible with dataset=imagefolder: set data_dir to a folder "
                "that holds train/<class>/ and test/<class>/"
            )
        return self

    def _require(self, name: str, only: Any, other: str, why: str, remedy: str) -> None:
        """Refuse any but one value of a parameter, because of the value of another one."""
        value = getattr(self, name)
        if value != only:
            raise ValueError(
                f"{name}={quoted(value)} is not possible with {other}={getattr(self, other)}, "
                f"which {why}: set {name}={only}, or {remedy}"
            )

    @classmethod
    def from_namespace(cls, namespace: Mapping[str, Any]) -> Self:
        """Make a trial of a notebook's variables.

        papermill only warns of a misspelt parameter; here every variable counts as a parameter.

        Parameters
        ----------
        namespace
            The notebook's ``globals()``. Modules, functions, IPython's own names and names with a
            leading underscore are skipped.

        Raises
        ------
        InputError
            A name is not a parameter of a trial, or a value is not allowed.
        """
        plain = (str, int, float, bool, list, dict, tuple, type(None))
        ipython = {"In", "Out"}
        return cls(
            **{
                name: value
                for name, value in namespace.items()
                if isinstance(value, plain) and not name.startswith("_") and name not in ipython
            }
        )

    @property
    def setting(self) -> str:
        """The paper's name for optimizer and scheduler: ``SGD``, ``SGD+S``, ``Adam`` or ``Adam+S``.

        Source: the paper, section 3.2.1.
        """
        name = {"sgd": "SGD", "adam": "Adam"}[self.optimizer]
        return name if self.scheduler == "none" else f"{name}+S"

    @property
    def name(self) -> str:
        """A readable name that ends in a short hash of the scientific parameters.

        Only parameters that differ from their defaults are hashed, so that names stay the same when
        a later version adds a parameter.
        """
        default = defaults(self.model, self.optimizer)
        identity = {"model": self.model, "optimizer": self.optimizer} | {
            name: value
            for name, value in vars(self).items()
            if value != default[name] and name not in PLACES
        }
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]
        # A file name may have 255 bytes; only the model's name can be long.
        parts = (self.model[:74], self.engine, self.optimizer, self.scheduler, f"seed{self.seed}")
        words = re.sub(r"[^\w.\-]+", "_", "-".join(part for part in parts if part != "none"))
        return f"{words}-{digest}"

    @property
    def folder(self) -> Path:
        """The record's folder: `output_dir`, or ``$DSSTUDY_RUNS/trials/<name>`` (``runs/``)."""
        if self.output_dir == "none":
            return runs_folder() / "trials" / self.name
        return _expanded("output_dir", self.output_dir).absolute()

    @property
    def data_folder(self) -> Path:
        """`data_dir`, relative to ``$DSSTUDY_DATA`` (default: ``data/`` in the project)."""
        root = Path(os.environ.get("DSSTUDY_DATA") or project_root() / "data")
        given = Path() if self.data_dir == "none" else _expanded("data_dir", self.data_dir)
        return (root.expanduser() / given).absolute()

    def describe(self) -> str:
        """Describe the trial in one sentence."""
        where = "1 process" if self.processes == 1 else f"{self.processes} processes"
        images = "all" if self.train_images == "all" else f"{self.train_images:,}"
        return (
            f"{self.model} on {images} training images of {self.dataset} at "
            f"{self.image_size}x{self.image_size}, trained by engine {self.engine} ({where}, "
            f"{self.precision}) with {self.setting}, global batch size {self.batch_size}, "
            f"{self.epochs} epochs, seed {self.seed}"
        )


def _parameters_of_type(kind: type) -> tuple[str, ...]:
    fields = Trial.model_fields.items()
    return tuple(name for name, field in fields if field.annotation is kind)


SWITCHES = _parameters_of_type(bool)
"""Parameters that are true or false."""

TEXTS = _parameters_of_type(str)
"""Free texts; papermill would read some of them as numbers."""


def without_auto(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return all parameters of a trial, unchecked; those not given have their defaults."""
    values = _unset() | dict(given)
    for name, meaning in _AUTOMATIC.items():
        if values[name] == "auto":
            values[name] = meaning(values)
    return values


_AUTOMATIC: dict[str, Callable[[dict[str, Any]], Any]] = {
    "architecture": lambda values: values["model"],
    "image_size": lambda values: 32 if values["model"] == "lenet" else 224,
    "cycle_momentum": lambda values: values["optimizer"] == "sgd",
}
"""What ``auto`` stands for, by parameter."""


def _unambiguous(name: str, value: Any) -> Any:
    # pydantic reads True and b"1" as 1; epochs=True is a mistake.
    if isinstance(value, bool | bytes) and name not in (*TEXTS, *SWITCHES):
        return str(value)
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def parameter_value(name: str, value: Any) -> Any:
    """Return the value that a trial would have for a given value of one of its parameters.

    Raises
    ------
    InputError
        No trial can have this value.
    """
    if name in _AUTOMATIC and value == "auto":
        raise InputError(
            f"{name}=auto is not possible here, as no trial keeps this value: set {name} to the "
            "value that auto stands for"
        )
    try:
        return _parameter_check(name).validate_python({name: _unambiguous(name, value)})[name]
    except ValidationError as error:
        raise InputError(_validation_sentence(error)) from None


@functools.cache
def _parameter_check(name: str) -> TypeAdapter:
    field = Trial.model_fields[name]
    checked = Annotated[field.annotation, name, *field.metadata]  # type: ignore[name-defined]
    return TypeAdapter(TypedDict("Parameter", {name: checked}))  # type: ignore[operator, misc]


@functools.cache
def _unset() -> dict[str, Any]:
    """Return the defaults of all parameters; ``auto`` is not replaced."""
    return {name: field.default for name, field in Trial.model_fields.items()}


@functools.cache
def defaults(model: str, optimizer: str) -> Mapping[str, Any]:
    """Return all parameters of a trial that sets only these two, on which ``auto`` depends."""
    return MappingProxyType(Trial(model=model, optimizer=optimizer).model_dump())


def _expanded(name: str, folder: str) -> Path:
    try:
        return Path(folder).expanduser()
    except RuntimeError:
        raise InputError(
            f"{name}={quoted(folder)} names no user of this machine: set {name} to another folder"
        ) from None


def _validation_sentence(error: ValidationError) -> str:
    """Turn pydantic's first complaint into one sentence."""
    first = error.errors(include_url=False)[0]
    if not first["loc"]:
        return str(first["ctx"]["error"])
    name = str(first["loc"][0])
    field = Trial.model_fields.get(name)
    if field is None:
        close = difflib.get_close_matches(name, known := list(Trial.model_fields), n=1)
        hint = f"did you mean {close[0]}?" if close else f"the parameters are {', '.join(known)}"
        return f"{quoted(name)} is not a parameter of a trial: {hint}"
    assert isinstance(field.json_schema_extra, dict)
    allowed = str(field.json_schema_extra["allowed"])
    if name in TEXTS and isinstance(first["input"], int | float):
        allowed += " (as text: in quotes, or with papermill's -r in place of -p)"
    return f"{name}={quoted(first['input'])} is not allowed: set {name} to {allowed}"
