"""The report of ``dsstudy compare``: its tables, figure and sentences, and as JSON."""

import math
from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler

from dsstudy.analysis.advice import advise
from dsstudy.analysis.comparison import (
    DEFAULT_BANDWIDTH,
    DEVICES,
    KNOWN_LINKS,
    Comparison,
    Timed,
    efficiency,
    link_name,
    measured_break_even,
    predict_epochs,
)
from dsstudy.analysis.comparison import load_comparison as load_comparison  # for the notebook
from dsstudy.analysis.intervals import LEVEL, Interval
from dsstudy.records.schema import PHASES
from dsstudy.report.figure_style import ENGINE_COLORS, name_rows
from dsstudy.report.table_style import style_table
from dsstudy.report.wording import bullets_text, count_text, percent_text
from dsstudy.spec.engines import DDP, ENGINES, NORMAL

TIMES_CAPTION = (
    "Seconds per epoch: mean over the rounds, ± half of its 95 % interval (Student's t). Memory: "
    "the peak over all ranks, in MiB. Efficiency: the speed-up over normal training on one device, "
    "divided by the number of devices."
)

STEP_CAPTION = (
    "Milliseconds per profiled step, by phase (mean over the middle round's steps and ranks)."
)


def subject_text(found: Comparison) -> str:
    """Say what was compared, with which settings, and where."""
    settings, hardware = found.about["settings"], found.environment["hardware"]
    gpus = [gpu["name"] for gpu in hardware["gpus"]]
    where = f"{hardware['processor']}, {hardware['cores']} cores"
    if not found.on_cpu:
        where = f"{len(gpus)} × {gpus[0]}"
    return (
        f"{found.about['model']} ({found.about['parameters']:,} parameters) on "
        f"{found.about['dataset']} at {settings['image_size']}x{settings['image_size']}; "
        f"{settings['batch_size']} images per step over all devices, {settings['precision']}, "
        f"{settings['optimizer']}; {where}; "
        f"{count_text(len(found.normal.steps), 'round')}."
    )


def times_frame(found: Comparison) -> pd.DataFrame:
    """Return the texts of the table of times, a row per engine and number of ranks."""
    return pd.DataFrame(
        {
            _row_name(one): {
                "devices": "CPU" if found.on_cpu else count_text(one.devices, "GPU"),
                "s / epoch": _plus_minus(one.epoch()),
                "memory": f"{one.memory:,.0f}",
                "efficiency": percent_text(efficiency(one, found.normal)),
            }
            for one in found.timed
        }
    ).T


def phases_frame(found: Comparison) -> pd.DataFrame:
    """Return the texts of the table of a step's phases, a row per engine."""
    rows = {ENGINES[key[-1]].title: row for key, row in found.profiles.iterrows()}
    return pd.DataFrame(
        {name: {p: f"{1e3 * row[p]:.2f}" for p in PHASES} for name, row in rows.items()}
    ).T


def predictions_frame(found: Comparison, bandwidth: float = DEFAULT_BANDWIDTH) -> pd.DataFrame:
    """Return the texts of the table of predictions, a row per engine."""
    rows: dict[str, dict[str, str]] = {}
    for engine, some in predict_epochs(found, bandwidth).groupby("engine", sort=False):
        texts = {
            f"{row.devices:.0f}": _plus_minus(Interval(row.seconds, row.low, row.high, 0))
            + ("" if math.isnan(row.measured) else f" ({_seconds_text(row.measured)})")
            for row in some.itertuples()
        }
        pays = "–"
        if engine != NORMAL:
            pays = _images_text(measured_break_even(found, engine, bandwidth))
        rows[ENGINES[engine].title] = {f"{n}": texts.get(f"{n}", "–") for n in DEVICES}
        rows[ENGINES[engine].title]["two pay from"] = pays
    return pd.DataFrame(rows).T


def assumptions_text(found: Comparison, bandwidth: float = DEFAULT_BANDWIDTH) -> str:
    """State the assumptions of the predictions."""
    device = "GPUs like this one"
    if found.on_cpu:
        device = "machines like this one with a CPU each"
    several = any(one.devices > 1 for one in found.timed)
    measured = " Measured seconds are in brackets." if several else ""
    large, small = found.normal.batch_size, found.small[NORMAL].batch_size
    return (
        f"Predicted seconds per epoch on 1, 2, 4 and 8 {device}, which share {large} images per "
        f"step.{measured} Each engine's step was timed on one device with {large} and with {small} "
        "images. A line through both gives the part that grows with the images, which the devices "
        "share, and the rest, which each device does alone.\n\n"
        f"{_link_text(bandwidth)} It is also assumed that nothing overlaps; {ENGINES[DDP].title} "
        "sends while it computes, so it may be faster. ± is only the spread of the timing and "
        "does not show how well the assumptions hold: only a measurement on such devices does.\n\n"
        "Last column: images per step from which two devices are faster than normal training on "
        "one (any: with every batch; never: with none)."
    )


def _link_text(bandwidth: float) -> str:
    """Say which link is assumed between the devices, and how to assume another."""
    known = link_name(bandwidth)
    others = ", ".join(
        f"{speed / 1e9:.3g} is {name}" for name, speed in KNOWN_LINKS.items() if name != known
    )
    return (
        f"The link is assumed: gradients are sent in a ring at {bandwidth / 1e9:.3g} GB/s"
        f"{f', {known}' if known else ''}. To predict with another, give its GB/s as the bandwidth "
        f"(the option `--bandwidth`, or the notebook's parameter): {others}."
    )


def report_text(found: Comparison, bandwidth: float = DEFAULT_BANDWIDTH) -> str:
    """Return the whole report as plain text."""
    advice = advise(found)
    parts = [
        subject_text(found),
        f"VERDICT\n{advice.sentence}",
        "Why\n" + bullets_text(advice.reasons),
        "How sure\n" + bullets_text(advice.doubts),
        f"{times_frame(found).to_string()}\n{TIMES_CAPTION}",
        f"{phases_frame(found).to_string()}\n{STEP_CAPTION}",
        f"{predictions_frame(found, bandwidth).to_string()}\n{assumptions_text(found, bandwidth)}",
    ]
    return "\n\n".join(part for part in parts if part.strip())


def verdict_text(found: Comparison) -> str:
    """Return the verdict, its reasons and its doubts as Markdown."""
    advice = advise(found)
    reasons, doubts = bullets_text(advice.reasons), bullets_text(advice.doubts)
    return f"**{advice.sentence}**\n\nWhy:\n\n{reasons}\n\nHow sure:\n\n{doubts}"


def comparison_table(texts: pd.DataFrame, caption: str) -> Styler:
    """Show one of the tables in a notebook."""
    return style_table(texts, caption, "comparison", align="right")


def comparison_json(found: Comparison, bandwidth: float = DEFAULT_BANDWIDTH) -> dict[str, Any]:
    """Return the content of the report for machines; null stands for a missing number."""
    advice = advise(found)
    phases = {
        key[-1]: {phase: float(row[phase]) for phase in PHASES}
        for key, row in found.profiles.iterrows()
    }
    engines = [engine for engine in found.small if engine != NORMAL]
    return _null_if_not_finite(
        {
            **{name: value for name, value in found.about.items() if name != "timed"},
            "recommendation": {
                "engine": advice.choice.engine,
                "processes": advice.choice.processes,
                "told_apart": advice.certain,
                "sentence": advice.sentence,
                "reasons": advice.reasons,
                "doubts": advice.doubts,
            },
            "timed": [
                {
                    "engine": one.engine,
                    "processes": one.processes,
                    "devices": one.devices,
                    "seconds_per_step": one.steps.tolist(),
                    "seconds_per_epoch": vars(one.epoch()),
                    "peak_memory_mb": one.memory,
                    "efficiency": efficiency(one, found.normal),
                    "timing": "exclusive" if one.exclusive else "shared",
                }
                for one in found.timed
            ],
            "phase_seconds": phases,
            "predictions": predict_epochs(found, bandwidth).to_dict("records"),
            "break_even_images": {e: measured_break_even(found, e, bandwidth) for e in engines},
            "bandwidth": bandwidth,
            "link": link_name(bandwidth),
            "level": LEVEL,
            "environment": found.environment,
        }
    )


def comparison_figure(found: Comparison, bandwidth: float = DEFAULT_BANDWIDTH) -> Figure:
    """Draw the seconds per epoch with their intervals, and the predicted speed-up."""
    drawn, (left, right) = plt.subplots(1, 2, figsize=(11, 3.8), layout="constrained")
    for y, one in enumerate(found.timed):
        epoch, color = one.epoch(), ENGINE_COLORS[one.engine]
        left.plot(one.steps * one.steps_per_epoch, [y] * len(one.steps), "|", color=color)
        left.plot([epoch.low, epoch.high], [y, y], color=color, linewidth=2)
        left.plot(epoch.value, y, "o", color=color)
    name_rows(left, [_row_name(one) for one in found.timed])
    left.set(xlabel="seconds per epoch", xlim=(0, None))
    left.grid(axis="y", visible=False)
    _draw_speedup(right, found, bandwidth)
    return drawn


def _draw_speedup(axes: Axes, found: Comparison, bandwidth: float) -> None:
    frame = predict_epochs(found, bandwidth)
    for name, engine in ENGINES.items():
        some = frame[frame["engine"] == name]
        style = {"color": ENGINE_COLORS[name], "label": engine.title}
        axes.plot(some["devices"], some["speedup"], f"{engine.marker}--", **style)
    axes.plot(DEVICES, DEVICES, color="0.5", linewidth=1, linestyle=":", label="ideal")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.set_xticks(DEVICES, [str(n) for n in DEVICES])
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set(xlabel="devices", ylabel="predicted speed / normal on one")
    axes.legend()


def _row_name(one: Timed) -> str:
    ranks = "" if one.engine == NORMAL else f", {count_text(one.processes, 'rank')}"
    return ENGINES[one.engine].title + ranks


def _plus_minus(interval: Interval) -> str:
    half = "" if math.isnan(interval.half) else f" ± {_seconds_text(interval.half)}"
    return _seconds_text(interval.value) + half


def _seconds_text(seconds: float) -> str:
    return f"{seconds:.3g}" if seconds < 100 else f"{seconds:,.0f}"


def _images_text(number: float) -> str:
    if math.isinf(number):
        return "never"
    return f"{math.ceil(number):,}" if number > 0 else "any"


def _null_if_not_finite(value: Any) -> Any:
    """Replace numbers that are not finite by None, which JSON writes as null."""
    if isinstance(value, Mapping):
        return {name: _null_if_not_finite(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_null_if_not_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
