"""Where the time of a step goes: tables and sentences."""

from collections import Counter
from typing import Any

import pandas as pd
from pandas.io.formats.style import Styler

from dsstudy.analysis.step_phases import ENGINE_PAIRS, compare_phases, is_shared
from dsstudy.analysis.step_phases import load_profiles as load_profiles  # for the notebook
from dsstudy.records.schema import PHASES
from dsstudy.report.table_style import note_below, style_table
from dsstudy.report.wording import bullets_text, percent_text, signed
from dsstudy.spec.engines import ENGINES

SHARED_TIMES = (
    "These times are preliminary, because other programs used the machine while they were "
    "measured. They show how a step is divided into phases, not how long its phases take."
)
"""The warning above times that are not ``exclusive``."""


def phases_table(profiles: pd.DataFrame) -> Styler:
    """Show the milliseconds of every step: plain, profiled, and by phase."""
    rows = list(profiles.itertuples())
    texts = pd.DataFrame(
        {
            "threads": [f"{row.processes} × {row.threads}" for row in rows],
            "plain": list(map(_plain_cell, rows)),
            "profiled": profiles["profiled"].map(_milliseconds),
            "overhead": profiles["overhead"].map(lambda share: percent_text(share, "+")),
            **{phase: profiles[phase].map(_milliseconds) for phase in PHASES},
        }
    )
    texts.index = pd.MultiIndex.from_tuples(
        [(label, f"{size} images", ENGINES[engine].title) for label, size, engine in texts.index]
    )
    caption = (
        "Milliseconds of a training step. Threads: number of processes × threads per process. "
        "Plain: without the profiler, the median over the rounds, with the least and the greatest "
        "below it. Overhead: what profiling adds. Then the profiled step and its phases, which add "
        "up to it: means over the ranks and over the steps of the middle round."
    )
    return style_table(texts, caption, "phases", align="right")


def _plain_cell(row: Any) -> str:
    shared = "" if row.timing == "exclusive" else " <em>shared</em>"
    limits = note_below(f"{_milliseconds(row.low)} to {_milliseconds(row.high)}")
    return f"{_milliseconds(row.plain)}{shared}{limits}"


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.2f}"


def engine_differences_table(profiles: pd.DataFrame) -> Styler | None:
    """Show by phase how the engines' steps differ; None if no two engines were profiled alike."""
    rows = {
        (label, f"{size} images", f"{ENGINES[engine].title} / {ENGINES[base].title}"): {
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
        "One engine's profiled step compared with another's: their ratio (above 1, the first takes "
        "longer), their difference in milliseconds, in total and by phase, and the phase with most "
        "of the difference. The profiler's own time is in all of them."
    )
    return style_table(texts, caption, "changes", align="right")


def overhead_text(profiles: pd.DataFrame) -> str:
    """Say how much longer the profiler makes a step."""
    found = profiles["overhead"]
    median, least, most = (
        percent_text(share, "+") for share in (found.median(), found.min(), found.max())
    )
    return (
        f"Profiling changes the length of a step by {median} at the median of {len(found)} trials "
        f"(from {least} to {most})."
    )


def answer_text(profiles: pd.DataFrame) -> str:
    """Say in which phases the engines' steps differ."""
    texts = [text for pair in ENGINE_PAIRS if (text := _pair_text(profiles, *pair))]
    if not texts:
        return "Undecided: no network was profiled with two engines."
    if is_shared(profiles):
        texts.append("These times are preliminary: other programs used the machine meanwhile.")
    return bullets_text(texts)


def _pair_text(profiles: pd.DataFrame, engine: str, base: str) -> str:
    frame = compare_phases(profiles, engine, base)
    if frame.empty:
        return ""
    ratios = frame["plain_ratio"]
    over = "one comparison" if len(frame) == 1 else f"median of {len(frame)}"
    text = (
        f"**A step with {ENGINES[engine].prose} takes {ratios.median():.2f} times as long "
        f"as with {ENGINES[base].prose}** ({over}; longer in {(ratios > 1).sum()})."
    )
    grown = frame[frame["difference"] > 0]
    if grown.empty:
        return text
    counts = Counter(grown["most"]).most_common()
    most = ", ".join(f"{phase} in {n}" for phase, n in counts)
    return f"{text} Under the profiler, most of the added time is {most}."
