"""The page on where a step's time goes: its tables and sentences."""

from collections import Counter
from typing import Any

import pandas as pd
from pandas.io.formats.style import Styler

from dsstudy.analysis.step_phases import ENGINE_PAIRS, compare_phases, is_shared
from dsstudy.analysis.step_phases import load_profiles as load_profiles  # for the notebook
from dsstudy.paper import printed
from dsstudy.records.schema import PHASES
from dsstudy.report.table_style import note_below, style_table
from dsstudy.report.wording import signed
from dsstudy.spec.engines import ENGINES

SHARED_TIMES = (
    "These times were measured while other programs used the machine too. They are preliminary: "
    "they show how a step is taken apart, not how long its parts take."
)
"""The warning above times that are not ``exclusive``."""


def phases_table(profiles: pd.DataFrame) -> Styler:
    """Show the milliseconds of every step: plain, profiled, and by phase."""
    texts = pd.DataFrame(
        {
            "threads": [f"{row.processes} × {row.threads}" for row in profiles.itertuples()],
            "plain": [_plain_cell(row) for row in profiles.itertuples()],
            "profiled": profiles["profiled"].map(_milliseconds),
            "overhead": profiles["overhead"].map(_percent_text),
            **{phase: profiles[phase].map(_milliseconds) for phase in PHASES},
        }
    )
    texts.index = pd.MultiIndex.from_tuples(
        [(label, f"{size} images", printed.NAMES[e]) for label, size, e in profiles.index]
    )
    caption = (
        "Milliseconds per training step. Threads: processes times threads per process. Plain: the "
        "median over rounds without the profiler, with the extremes below it. Overhead: what "
        "profiling adds. The phases add up to the profiled step; they are means over the steps of "
        "the middle round and over the ranks."
    )
    return style_table(texts, caption, "phases", align="right")


def _plain_cell(row: Any) -> str:
    shared = "" if row.timing == "exclusive" else " <em>shared</em>"
    extremes = f"{_milliseconds(row.low)} to {_milliseconds(row.high)}"
    return f"{_milliseconds(row.plain)}{shared}{note_below(extremes)}"


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.2f}"


def engine_differences_table(profiles: pd.DataFrame) -> Styler | None:
    """Show the difference between two engines' steps, phase by phase."""
    rows = {
        (label, f"{size} images", f"{printed.NAMES[engine]} / {printed.NAMES[base]}"): {
            "ratio": f"{row['ratio']:.2f}",
            "difference": signed(1e3 * row["difference"]),
            **{phase: signed(1e3 * row[phase]) for phase in PHASES},
            "most of it": row["most"],
        }
        for engine, base in ENGINE_PAIRS
        for (label, size), row in compare_phases(profiles, engine, base).iterrows()
    }
    if not rows:
        return None
    order = {key: place for place, key in enumerate(profiles.index.droplevel("engine").unique())}
    keys = sorted(rows, key=lambda key: order[key[0], int(key[1].split()[0])])
    texts = pd.DataFrame([rows[key] for key in keys], pd.MultiIndex.from_tuples(keys))
    caption = (
        "One engine's step against another's: the ratio of the plain steps (above 1, the first is "
        "slower), the difference of the profiled steps in milliseconds, phase by phase, and the "
        "phase that contributes most to it."
    )
    return style_table(texts, caption, "changes", align="right")


def _percent_text(share: float) -> str:
    return f"{share:+.0%}".replace("-", "−")


def overhead_text(profiles: pd.DataFrame) -> str:
    """Say how much longer the profiler makes a step."""
    found = profiles["overhead"]
    return (
        f"Profiling changes the length of a step by {_percent_text(found.median())}, the median of "
        f"{len(found)} trials (from {_percent_text(found.min())} to {_percent_text(found.max())})."
    )


def answer_text(profiles: pd.DataFrame) -> str:
    """Answer the page's question: in which phases the engines' steps differ."""
    found = [text for engine, base in ENGINE_PAIRS if (text := _pair_text(profiles, engine, base))]
    if not found:
        return "It is undecided yet: no network was profiled with two engines."
    if is_shared(profiles):
        found.append("These times are preliminary: other programs used the machine meanwhile.")
    return " ".join(found)


def _pair_text(profiles: pd.DataFrame, engine: str, base: str) -> str:
    frame = compare_phases(profiles, engine, base)
    if frame.empty:
        return ""
    longer = frame[frame["ratio"] > 1]
    over = "one comparison" if len(frame) == 1 else f"median of {len(frame)}"
    text = (
        f"A step with {ENGINES[engine].prose} takes {frame['ratio'].median():.2f} times as long "
        f"as with {ENGINES[base].prose} ({over}; it is longer in {len(longer)})"
    )
    grown = longer[longer["difference"] > 0]
    if grown.empty:
        return f"{text}."
    counts = Counter(grown["most"]).most_common()
    most = ", ".join(f"{phase} in {n}" for phase, n in counts)
    return f"{text}; most of the added time is {most}."
