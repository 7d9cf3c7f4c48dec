"""The engines side by side: their code, and the same trial under each."""

import ast
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Code, Markdown
from matplotlib.figure import Figure

from dsstudy.records.record import Record
from dsstudy.report.figure_style import ENGINE_COLORS
from dsstudy.report.wording import bullets_text, count_text
from dsstudy.spec.engines import ENGINES
from dsstudy.spec.trial import Trial


def function_source(module: str, name: str) -> Code:
    """Show a function of the library without importing its module."""
    spec = find_spec(module)
    assert spec is not None and spec.origin is not None
    text = Path(spec.origin).read_text()
    (function,) = (
        node
        for node in ast.parse(text).body
        if isinstance(node, ast.FunctionDef) and node.name == name
    )
    return Code(ast.get_source_segment(text, function), language="python")


def losses_figure(records: Sequence[Record]) -> Figure:
    """Draw the loss of every step of one trial under several engines, and their differences.

    Parameters
    ----------
    records
        Records of trials with the same number of steps; the first is the base.
    """
    figure, (above, below) = plt.subplots(
        2, 1, figsize=(9, 5.4), height_ratios=[3, 2], sharex=True, layout="constrained"
    )
    first = records[0].steps()["loss"]
    steps = np.arange(1, len(first) + 1)
    for index, record in enumerate(records):
        engine, loss = _trial_of(record).engine, record.steps()["loss"]
        style = {"color": ENGINE_COLORS[engine], "label": ENGINES[engine].title}
        above.plot(steps, loss, linewidth=3 - 2 * (index > 0), **style)
        if index:
            below.semilogy(steps, np.maximum(abs(loss - first) / first, 1e-9), **style)
    above.set(ylabel="cross-entropy (nats)", ylim=(0, None))
    above.legend()
    base = ENGINES[_trial_of(records[0]).engine].title
    below.set(xlabel="step", ylabel=f"relative difference\nfrom {base}")
    return figure


def agreement_text(records: Sequence[Record]) -> Markdown:
    """Say what one trial reached under each of several engines.

    Parameters
    ----------
    records
        As for `losses_figure`.
    """
    first, *others = records
    compared = [_outcome_text(record) + _losses_text(first, record) for record in others]
    return Markdown(bullets_text([_outcome_text(first), *compared]))


def _outcome_text(record: Record) -> str:
    trial, result = _trial_of(record), record.result() or {}
    return (
        f"**{ENGINES[trial.engine].title}**, {count_text(trial.processes, 'process', 'es')}: it "
        f"classifies {result['final_accuracy']:.1f} % of the test images correctly after "
        f"{count_text(trial.epochs, 'epoch')} of {result['seconds_per_epoch']:.2f} s. Its first "
        f"step came after {result['startup_seconds']:.1f} s (timing: {result['timing']})."
    )


def _losses_text(first: Record, other: Record) -> str:
    loss, against = (record.steps()["loss"] for record in (first, other))
    apart = np.flatnonzero(abs(against - loss) / loss > 1e-4)
    equal = f"for the first {apart[0]} of" if len(apart) else "in all"
    return (
        f" Its losses agree with those with {ENGINES[_trial_of(first).engine].prose} to one part "
        f"in ten thousand {equal} {len(loss)} steps."
    )


def _trial_of(record: Record) -> Trial:
    trial = record.trial()
    assert trial is not None
    return trial
