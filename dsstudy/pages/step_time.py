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

SHARED_TIMES = (
    "These times were measured while other programs used the machine too. They are preliminary: "
    "they show how a step is taken apart, not how long its parts take."
)
"""What stands above times that are not ``exclusive``."""


def phases_table(profiles: pd.DataFrame) -> Styler:
    """Show every step's milliseconds: plain, profiled, and by phase."""
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
        "Milliseconds of a training step. Threads: processes times each one's threads. Plain: "
        "without the profiler, the median over rounds, with their least and greatest below it. "
        "Overhead: what profiling adds to it. Then the profiled step and its phases, which add up "
        "to it: means over the steps of the middle round, and over the ranks."
    )
    return style_table(texts, caption, "phases", align="right")


def _plain_cell(row: Any) -> str:
    shared = "" if row.timing == "exclusive" else " <em>shared</em>"
    return f"{_milliseconds(row.plain)}{shared}{note_below(f'{_milliseconds(row.low)} to {_milliseconds(row.high)}')}"


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.2f}"


def engine_differences_table(profiles: pd.DataFrame) -> Styler | None:
    """Show how each engine's step differs from another's, phase by phase."""
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
        "One engine's step against another's: the ratio of the plain steps (above 1, the first "
        "takes longer), then the difference of the profiled ones in milliseconds, phase by phase, "
        "and the phase that carries most of it."
    )
    return style_table(texts, caption, "changes", align="right")


def _percent_text(share: float) -> str:
    return f"{share:+.0%}".replace("-", "−")


def overhead_text(profiles: pd.DataFrame) -> str:
    """Say how much longer the profiler makes a step."""
    found = profiles["overhead"]
    return (
        f"Profiling changes the length of a step by {_percent_text(found.median())} in the middle of "
        f"{len(found)} trials (from {_percent_text(found.min())} to {_percent_text(found.max())})."
    )


def answer_text(profiles: pd.DataFrame) -> str:
    """Answer the page's question: which phases the engines' steps differ in."""
    told = [text for engine, base in ENGINE_PAIRS if (text := _pair_text(profiles, engine, base))]
    if not told:
        return "It cannot be told yet: no network was profiled with two engines."
    caveat = (
        " These times are preliminary: other programs used the machine meanwhile."
        if is_shared(profiles)
        else ""
    )
    return " ".join(told) + caveat


def _pair_text(profiles: pd.DataFrame, engine: str, base: str) -> str:
    frame = compare_phases(profiles, engine, base)
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
