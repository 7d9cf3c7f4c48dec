"""Where a step's time goes: profiles compared, phase by phase, engine by engine; tables, words."""

import statistics
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
from pandas.io.formats.style import Styler

from dsstudy.errors import InputError, one_line
from dsstudy.paper import printed
from dsstudy.records.reading import naming, read_lines
from dsstudy.report.table_style import signed, small, style
from dsstudy.spec.trial import ARCHITECTURES
from dsstudy.studies.trace import PHASES

ENGINES = ("normal", "ddp", "deepspeed")

PAIRS = (("ddp", "normal"), ("deepspeed", "normal"), ("deepspeed", "ddp"))
"""Engines compared, each with the one that it is measured against."""

KEY = ["label", "batch_size", "engine"]

SHARED = (
    "These times were measured while other programs used the machine too. They are preliminary: "
    "they show how a step is taken apart, not how long its parts take."
)
"""What stands above times that are not ``exclusive``."""


def load_profiles(path: str | Path) -> pd.DataFrame:
    """Load what ``dsstudy profile`` measured of a study, one row a trial.

    Parameters
    ----------
    path
        A folder that holds ``profiles.jsonl``.

    Returns
    -------
    pandas.DataFrame
        By ``label`` (the network), ``batch_size`` and ``engine``: the columns of the file;
        ``plain``, the median over the rounds of a step's seconds without the profiler, ``low`` and
        ``high``, their extremes, and ``overhead``, the median of profiled / plain − 1; of the
        middle profiled round, the mean seconds of a step by phase, over its steps and ranks, and
        ``profiled``, their sum.

    Raises
    ------
    InputError
        Nothing has been profiled there, or the file is damaged.
    """
    file = Path(path) / "profiles.jsonl"
    rows = list(read_lines(file))
    if not rows:
        raise InputError(
            f"study={path} holds no profiles: measure some first, 'dsstudy profile "
            f"parameters/{Path(path).name}.yaml'"
        )
    with naming(file):  # whose rounds may not go together
        rows = [row | _measured(row) for row in sorted(rows, key=_place)]
    frame = pd.DataFrame(rows).set_index(KEY)
    for label, size, engine in frame.index[frame.index.duplicated()]:
        raise InputError(
            f"{one_line(file)} holds two profiles of {one_line(label)}, {size} images, engine "
            f"{engine}: profile a study whose trials differ in nothing else, or remove one line"
        )
    return frame


def _measured(row: dict[str, Any]) -> dict[str, Any]:
    plain, profiled = row["plain_seconds"], row["profiled_seconds"]
    middle = profiled.index(statistics.median_low(profiled))
    phases = {
        phase: statistics.mean(rank["rounds"][middle][phase] for rank in row["ranks"])
        for phase in PHASES
    }
    overhead = [one / other - 1 for one, other in zip(profiled, plain, strict=True)]
    return phases | {
        "label": _label(row),
        "profiled": sum(phases.values()),
        "plain": statistics.median(plain),
        "low": min(plain),
        "high": max(plain),
        "overhead": statistics.median(overhead),
    }


def _label(row: dict[str, Any]) -> str:
    name = printed.NAMES.get(row["architecture"], row["architecture"])
    if row["model"] == row["architecture"]:
        return name
    return f"{name} ({printed.short_model(row['model'])})"


def _place(row: dict[str, Any]) -> tuple[int, str, int, int]:
    known = row["architecture"] in ARCHITECTURES
    place = ARCHITECTURES.index(row["architecture"]) if known else len(ARCHITECTURES)
    return place, row["model"], row["batch_size"], ENGINES.index(row["engine"])


def is_shared(profiles: pd.DataFrame) -> bool:
    """Say whether any profile was measured while the machine did something else too."""
    return bool((profiles["timing"] != "exclusive").any())


def compare(profiles: pd.DataFrame, engine: str, base: str) -> pd.DataFrame:
    """Compare two engines, phase by phase, wherever both were profiled.

    Returns
    -------
    pandas.DataFrame
        By ``label`` and ``batch_size``: ``ratio`` of the plain steps; in seconds, ``difference``
        of the profiled steps, and of each of their phases; ``most``, the phase that carries most
        of that difference, in its own direction.
    """
    known = profiles.index.get_level_values("engine")
    columns = [*PHASES, "profiled", "plain"]
    one, other = (
        profiles.loc[known == name, columns].droplevel("engine").astype(float)
        for name in (engine, base)
    )
    both = one.index[one.index.isin(other.index)]
    one, other = one.loc[both], other.loc[both]
    frame = (one - other)[list(PHASES)]
    frame["most"] = [
        max(PHASES, key=lambda phase: row[phase] if row.sum() >= 0 else -row[phase])
        for _, row in frame.iterrows()
    ]
    frame["difference"] = one["profiled"] - other["profiled"]
    return frame.assign(ratio=one["plain"] / other["plain"])


def table(profiles: pd.DataFrame) -> Styler:
    """Show every step's milliseconds: plain, profiled, and by phase."""
    texts = pd.DataFrame(
        {
            "threads": [f"{row.processes} × {row.threads}" for row in profiles.itertuples()],
            "plain": [_plain(row) for row in profiles.itertuples()],
            "profiled": profiles["profiled"].map(_ms),
            "overhead": profiles["overhead"].map(_percent),
            **{phase: profiles[phase].map(_ms) for phase in PHASES},
        }
    )
    texts.index = pd.MultiIndex.from_tuples(
        [(label, f"{size} images", printed.NAMES[e]) for label, size, e in profiles.index]
    )
    caption = (
        "Milliseconds of a training step. Threads: processes times each one's threads. Plain: "
        "without the profiler, the median over rounds, with their least and greatest below it. "
        "Overhead: what profiling adds to it. Then the profiled step and its phases, which add up "
        "to it: means over the steps of the middle round, and over the ranks."
    )
    return style(texts, caption, "phases", align="right")


def _plain(row: Any) -> str:
    shared = "" if row.timing == "exclusive" else " <em>shared</em>"
    return f"{_ms(row.plain)}{shared}{small(f'{_ms(row.low)} to {_ms(row.high)}')}"


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.2f}"


def changes(profiles: pd.DataFrame) -> Styler | None:
    """Show how each engine's step differs from another's, phase by phase."""
    rows = {
        (label, f"{size} images", f"{printed.NAMES[engine]} / {printed.NAMES[base]}"): {
            "ratio": f"{row['ratio']:.2f}",
            "difference": signed(1e3 * row["difference"]),
            **{phase: signed(1e3 * row[phase]) for phase in PHASES},
            "most of it": row["most"],
        }
        for engine, base in PAIRS
        for (label, size), row in compare(profiles, engine, base).iterrows()
    }
    if not rows:
        return None
    order = {key: place for place, key in enumerate(profiles.index.droplevel("engine").unique())}
    keys = sorted(rows, key=lambda key: order[key[0], int(key[1].split()[0])])
    texts = pd.DataFrame([rows[key] for key in keys], pd.MultiIndex.from_tuples(keys))
    caption = (
        "One engine's step against another's: the ratio of the plain steps (above 1, the first "
        "takes longer), then the difference of the profiled ones in milliseconds, phase by phase, "
        "and the phase that carries most of it."
    )
    return style(texts, caption, "changes", align="right")


def _percent(share: float) -> str:
    return f"{share:+.0%}".replace("-", "−")


def overhead_in_words(profiles: pd.DataFrame) -> str:
    """Say how much longer the profiler makes a step."""
    found = profiles["overhead"]
    return (
        f"Profiling changes the length of a step by {_percent(found.median())} in the middle of "
        f"{len(found)} trials (from {_percent(found.min())} to {_percent(found.max())})."
    )


def answer(profiles: pd.DataFrame) -> str:
    """Answer the page's question: which phases the engines' steps differ in."""
    told = [text for engine, base in PAIRS if (text := _pair_in_words(profiles, engine, base))]
    if not told:
        return "It cannot be told yet: no network was profiled with two engines."
    caveat = (
        " These times are preliminary: other programs used the machine meanwhile."
        if is_shared(profiles)
        else ""
    )
    return " ".join(told) + caveat


def _pair_in_words(profiles: pd.DataFrame, engine: str, base: str) -> str:
    frame = compare(profiles, engine, base)
    if frame.empty:
        return ""
    longer = frame[frame["ratio"] > 1]
    over = "one comparison" if len(frame) == 1 else f"median of {len(frame)}"
    text = (
        f"A step with {printed.in_prose(engine)} takes {frame['ratio'].median():.2f} times as long "
        f"as with {printed.in_prose(base)} ({over}; longer in {len(longer)})"
    )
    grown = longer[longer["difference"] > 0]
    if grown.empty:
        return f"{text}."
    counts = Counter(grown["most"]).most_common()
    most = ", ".join(f"{phase} in {n}" for phase, n in counts)
    return f"{text}; most of what is added is {most}."
