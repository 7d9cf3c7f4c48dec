"""Strategies of hypothesis for study files, parameters and records, valid and damaged."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from dsstudy.spec.trial import ARCHITECTURES, Trial

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
    | st.dates() | st.datetimes()
    | st.sampled_from(["..", "a/../../b", "a\nb", "a\0b", "\ud800", "1e5", "nan", "True", "none"])
)  # fmt: skip
NAMES = st.sampled_from([*Trial.model_fields, "self", "a\nb", ""]) | st.text()


# Study files

STUDY = """\
defaults: {epochs: 2, learning_rate: 1e-3}
matrix:
  engine: [normal, deepspeed]
  clipping: {with: {gradient_clipping: 1.0}, without: {}}
  seed: &seeds [0, 1]
overrides:
- when: {engine: deepspeed, seed: *seeds}
  set: {processes: 2}
"""
TOKENS = st.sampled_from(
    ["&a ", "*a", "*seeds", "<<: ", "!!int ", "!!float ", "!!bool ", "!!timestamp ", "!!set ",
     "!!binary ", "!!python/name:os.system ", "!%00 ", "[", "]", "{", "}", "? ", "- ", ": ", "\t",
     "\0", "\n", "---", "...", "%", "~", ".nan", ".inf", "0x" + "f" * 5000, "1" * 5000, "1:60:60",
     "2026-13-41", "2026-01-01", "|", ">", "'", '"', "=", "\x85", "\u2028"]
)  # fmt: skip


@st.composite
def mutated(draw) -> str:
    text = STUDY
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        put = draw(TOKENS | st.text(max_size=3))
        text = text[:start] + put + text[start + draw(st.integers(0, 9)) :]
    return text


def like_a_study() -> st.SearchStrategy[dict]:
    keys = NAMES | st.none() | st.booleans() | st.integers() | st.floats() | st.dates()
    anything = st.recursive(
        SCALARS,
        lambda some: st.lists(some, max_size=3) | st.dictionaries(keys, some, max_size=3),
        max_leaves=8,
    )
    values = st.dictionaries(keys, anything, max_size=3) | anything
    axis = st.lists(anything, max_size=3) | st.dictionaries(keys, values, max_size=3) | anything
    rule = st.fixed_dictionaries({"when": values, "set": values}) | anything
    matrix = st.dictionaries(keys, axis, min_size=1, max_size=3)
    return st.fixed_dictionaries(
        {"matrix": matrix | st.lists(matrix, max_size=2)},
        optional={"defaults": values, "overrides": st.lists(rule, max_size=3) | anything},
    )


def bomb(first: str) -> str:
    """Return a YAML list of 10^9 words, if its aliases were expanded."""
    lists = [f"&{first}0 [lol]"]
    for depth in range(1, 10):
        lists.append(f"&{first}{depth} [{', '.join([f'*{first}{depth - 1}'] * 10)}]")
    return f"[{', '.join(lists)}]"


HOSTILE = (
    "!!python/object/apply:os.system ['touch executed']",
    "matrix: {model: [!!python/object/apply:pathlib.Path.touch [executed]]}",
    f"matrix: {{model: {bomb('a')}}}",
    f"defaults: {{model: {bomb('a')}}}\nmatrix: {{seed: [0]}}",
    f"matrix: {{model: [{bomb('a')}]}}\noverrides: [{{when: {{model: [{bomb('b')}]}}, set: {{}}}}]",
    f"matrix: {{a: {{b: {{model: {bomb('a')}}}}}}}",
    "matrix: &m {a: {b: *m}}",
    "matrix: {seed: &s [*s]}",
    "matrix: {seed: [&s [*s]]}\noverrides: [{when: {seed: [&t [*t]]}, set: {}}]",
    "[" * 100_000,
    "{a: " * 100_000,
    "- " * 100_000,
    "matrix: {seed: [0]}\0",
    "matrix: {seed: [0]}\n" + "# much\n" * 100_000,
    "matrix:\n"
    + "".join(
        f"  {name}: {list(range(1, 1000))}\n"
        for name in ("epochs", "seed", "warmup_steps", "cycle_steps", "batch_size")
    ),
    f"matrix: {{epochs: [{'9' * 5000}]}}",
    f"matrix: {{epochs: [0x{'9' * 5000}]}}",
    "matrix: {seed: [2026-13-41]}",
    "matrix: {seed: [!!int x]}",
    "matrix: {seed: [!!bool x]}",
    "matrix: {seed: [!!timestamp x]}",
    "? [seed]\n: [0]",
    "matrix: {1: [0]}",
    "matrix: {self: [0]}",
    "matrix: {a: {}}",
    "defaults: {1: 2}\nmatrix: {seed: [0]}",
    "matrix: {seed: [0]}\noverrides: [{when: 3, set: {}}]",
    "matrix: {seed: [0]}\noverrides: [{when: {}, set: 3}]",
)
"""Study files that run code, that never end, or that PyYAML cannot parse."""


# Parameters

share = st.floats(0, 1, exclude_max=True) | st.sampled_from([0, -0.0])
count = st.integers(1, 10**9)
above_zero = st.floats(0, exclude_min=True, allow_infinity=False) | count
LETTERS = st.characters(categories=["L", "Nd"], include_characters="_./-")
folder = st.text(st.characters(exclude_categories=["C"]), min_size=1) | st.sampled_from(
    ["none", "2026", "1e5", "nan", "True", "None", "007", "-p", "a/../../b", "a b", "~", "~nobody0"]
)
PLAUSIBLE = {
    "model": st.sampled_from(ARCHITECTURES)
    | st.from_regex(r"(timm|torchvision)/[A-Za-z0-9_.\-]{1,88}", fullmatch=True)
    | st.from_regex(
        r"[A-Za-z]\w{0,20}(\.[A-Za-z_]\w{0,20}){0,2}:[A-Za-z_]\w{0,20}",
        fullmatch=True,
        alphabet=st.characters(codec="ascii"),
    ),
    "architecture": st.from_regex(r"\w[\w./\-]{0,99}", fullmatch=True, alphabet=LETTERS)
    | st.sampled_from(["2026", "1e5", "nan", "True", "None", "007"]),
    "engine": st.sampled_from(["normal", "deepspeed", "ddp"]),
    "optimizer": st.sampled_from(["sgd", "adam"]),
    "scheduler": st.sampled_from(["none", "warmup", "cyclic"]),
    "precision": st.sampled_from(["fp32", "tf32", "fp16", "bf16"]),
    "processes": st.integers(1, 10**4),
    "zero_stage": st.integers(0, 3),
    "bucket_size": count,
    "epochs": count,
    "learning_rate": above_zero,
    "momentum": share,
    "beta1": share,
    "beta2": share,
    "weight_decay": st.floats(0, 1e6) | st.just(-0.0),
    "gradient_clipping": st.just("none") | above_zero,
    "warmup_steps": count,
    "cycle_steps": count,
    "cycle_momentum": st.booleans(),
    "dataset": st.sampled_from(["cifar10", "cifar100", "imagefolder", "synthetic"]),
    "data_dir": folder,
    "test_images": st.just("all") | count,
    "image_size": st.integers(8, 1024),
    "seed": st.integers(0, 2**32 - 1),
    "device": st.sampled_from(["auto", "cpu", "cuda"]),
    "hostfile": folder,
    "output_dir": folder,
    "overwrite": st.booleans(),
    "checkpoint_steps": st.just("none") | count,
    "keep_checkpoint": st.booleans(),
    "watchdog_seconds": st.just("none") | count,
    "tensorboard": st.booleans(),
    "threads": st.just("auto") | count,
}


@st.composite
def valid(draw) -> dict:
    """Draw parameters that are allowed one by one and together."""
    parameters = draw(st.fixed_dictionaries({}, optional=PLAUSIBLE))
    engine = parameters.get("engine", "normal")
    if engine == "normal":
        parameters["processes"] = 1
        parameters.pop("hostfile", None)
    if engine != "deepspeed":
        parameters["zero_stage"] = 0
    if parameters.get("zero_stage", 0) == 0:
        parameters.pop("bucket_size", None)
    if parameters.get("data_dir", "none") == "none":
        parameters["dataset"] = "cifar10"
    parameters["batch_size"] = parameters.get("processes", 1) * draw(st.integers(1, 10**4))
    parameters["train_images"] = draw(st.just("all") | st.integers(parameters["batch_size"], 10**9))
    return parameters


# Records

number = st.none() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
"""Values that an epoch may have."""

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text()
    | st.sampled_from(["..", "../../x", "\ud800", "a\nb", 10**20, -1]),
    lambda some: st.lists(some, max_size=3) | st.dictionaries(st.text(), some, max_size=3),
    max_leaves=5,
)  # fmt: skip


@st.composite
def damaged(draw, content: bytes, lines: bool) -> bytes:
    """Truncate a JSON file, replace it, or change one value somewhere in it."""
    text = content.decode()
    kind = draw(st.sampled_from(["cut", "bytes", "text", "value", "value", "value"]))
    if kind == "cut":
        return content[: draw(st.integers(0, len(content) - 1))]
    if kind == "bytes":
        return draw(st.binary())
    if kind == "text":
        return draw(st.sampled_from(GARBAGE) | JSON.map(json.dumps)).encode()
    if not lines:
        return json.dumps(draw(altered(json.loads(text)))).encode()
    rows = draw(altered([json.loads(line) for line in text.splitlines()]))
    return "".join(f"{json.dumps(row)}\n" for row in rows).encode()


GARBAGE = (
    "", "{", "null", "[]", "3", "NaN", "{}", "[" * 100_000, '{"a":' * 100_000, "9" * 5000,
    '{"epoch": 1, "x": NaN}', '{"epoch": 1e999}', "\ufeff{}",
)  # fmt: skip


@st.composite
def altered(draw, value: Any) -> Any:
    """Replace or remove one value, at any depth; a list of rows stays a list of rows."""
    keys = list(value) if isinstance(value, dict) else range(len(value))
    if not keys:
        return value
    key = draw(st.sampled_from(keys))
    copy = value.copy()
    if isinstance(value[key], dict | list) and value[key] and draw(st.booleans()):
        copy[key] = draw(altered(value[key]))
    elif draw(st.booleans()):
        del copy[key]
    else:
        copy[key] = draw(JSON)
    return copy


@st.composite
def damaged_arrays(draw, content: bytes) -> bytes:
    """Truncate a file of arrays, change a byte in it, or replace it by other arrays."""
    kind = draw(st.sampled_from(["cut", "bytes", "byte", "byte", "arrays", "arrays"]))
    place = draw(st.integers(0, len(content) - 1))
    if kind == "cut":
        return content[:place]
    if kind == "bytes":
        return draw(st.binary())
    if kind == "byte":
        return content[:place] + draw(st.binary(min_size=1, max_size=1)) + content[place + 1 :]
    shapes = arrays.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3)
    kinds = st.sampled_from(["f4", "i8", "?", "U3", "c8", "M8[s]", "f4,i8"])
    made = {name: draw(arrays.arrays(kinds, shapes)) for name in ("loss", "learning_rate")}
    made["loss"] = draw(st.sampled_from([made["loss"], np.array([Touch(), None])]))
    file = io.BytesIO()
    if draw(st.booleans()):
        np.savez(file, **draw(st.sampled_from([made, {"loss": made["loss"]}])))
    else:
        np.save(file, made["loss"])
    return file.getvalue()


class Touch:
    """An object that creates a file when it is unpickled: code of the file's writer has run."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("executed"),)
