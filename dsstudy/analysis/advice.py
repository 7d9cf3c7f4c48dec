"""The recommendation of a comparison of the engines: its reasons and its doubts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from dsstudy.analysis.comparison import Comparison, Timed, efficiency, step_ratio
from dsstudy.analysis.intervals import LEVEL
from dsstudy.analysis.step_phases import compare_phases
from dsstudy.spec.engines import ENGINES, one_of

WIDE = 4
"""An interval of a ratio is useless if its limits differ by more than this factor."""


@dataclass(frozen=True)
class Advice:
    """The recommended engine, why, and how sure that is.

    Attributes
    ----------
    choice : Timed
        The recommended engine.
    sentence : str
        The recommendation.
    certain : bool
        Whether the times distinguish the choice from every other engine.
    reasons, doubts : list of str
        Sentences.
    """

    choice: Timed
    sentence: str
    certain: bool
    reasons: list[str]
    doubts: list[str]


def advise(found: Comparison) -> Advice:
    """Recommend the simplest engine that is not measurably slower than the fastest.

    The engines' table goes from simple to complex. Two engines differ if the interval of the ratio
    of their steps, paired by round, excludes 1.
    """
    candidates = found.candidates
    fastest = min(candidates, key=lambda one: step_ratio(one, found.normal).value)
    choice = next(c for c in candidates if c is fastest or not step_ratio(c, fastest).excludes(1))
    others = [one for one in candidates if one is not choice]
    certain = bool(others) and all(step_ratio(one, choice).excludes(1) for one in others)
    return Advice(
        choice,
        _advice_sentence(choice, fastest, others, certain),
        certain,
        [*(_against_text(found, one, choice) for one in others), *_other_reasons(choice, found)],
        [*_engine_doubts(found, choice, fastest, certain), *_setting_doubts(found)],
    )


def _advice_sentence(choice: Timed, fastest: Timed, others: Sequence[Timed], certain: bool) -> str:
    if not others:
        return f"Train with {choice.title}: no other engine runs here."
    if certain:
        return f"Train with {choice.title}: it is the fastest here, measurably."
    if len(choice.steps) < 2:
        return (
            f"Undecided, as one round has no spread; {choice.title} is the simplest: "
            "measure two rounds or more."
        )
    if any(_scatters(one, choice) for one in others):
        return (
            f"Undecided, as the times scatter too much; {choice.title} is the simplest engine that "
            "may be the fastest: measure again, on an idle machine or with more rounds."
        )
    if choice is fastest:
        return (
            f"Train with {choice.title}: no other engine is measurably faster, and those that may "
            "be as fast are more complex."
        )
    return (
        f"Train with {choice.title}: {fastest.title} was the fastest here, but not measurably so, "
        f"and {choice.title} is simpler."
    )


def _scatters(one: Timed, choice: Timed) -> bool:
    times = step_ratio(one, choice)
    return not times.excludes(1) and times.high > WIDE * times.low


def _against_text(found: Comparison, one: Timed, choice: Timed) -> str:
    """Compare another engine's steps with the choice's, and name the phase that differs most."""
    times = step_ratio(one, choice)
    text = f"A step with {one.title} takes {times.value:.2f} times as long as with {choice.title}"
    if times.n < 2:
        return f"{text} (one round)."
    text += f" ({round(100 * LEVEL)} % interval {times.low:.2f} to {times.high:.2f})"
    if not times.excludes(1):
        return f"{text}: no measurable difference."
    if not all(_is_profiled(found, each) for each in (one, choice)):
        return f"{text}."
    frame = compare_phases(found.profiles, one.engine, choice.engine)
    if frame.empty or (frame["difference"].iloc[0] > 0) != (times.value > 1):
        return f"{text}."
    return f"{text}; most of the difference is {frame['most'].iloc[0]}."


def _is_profiled(found: Comparison, one: Timed) -> bool:
    """Whether the engine was profiled with as many ranks as here."""
    rows = found.profiles[found.profiles.index.get_level_values("engine") == one.engine]
    return one.processes in set(rows["processes"])


def _other_reasons(choice: Timed, found: Comparison) -> Iterator[str]:
    if choice.devices > 1:
        share = 100 * efficiency(choice, found.normal)
        yield (
            f"Its {choice.devices} devices reach {share:.0f} % of {choice.devices} times the speed "
            "of normal training on one."
        )
    if len(found.candidates) > 1:
        least = min(found.timed, key=lambda one: one.memory / one.devices)
        yield (
            f"{least.title[0].upper()}{least.title[1:]} needs the least memory per device, "
            f"{least.memory / least.devices:,.0f} MiB at its peak: if memory is short, this may "
            "matter more than time."
        )


def _engine_doubts(
    found: Comparison, choice: Timed, fastest: Timed, certain: bool
) -> Iterator[str]:
    times = step_ratio(choice, fastest)
    if choice is not fastest and times.n > 1:
        yield (
            f"By these times, a step with {choice.title} may take from {times.low:.2f} to "
            f"{times.high:.2f} times as long as with {fastest.title}."
        )
    for one in found.about["left_out"]:
        yield f"{ENGINES[one['engine']].title} was left out: {one['reason']}."
    if len(found.candidates) > 1 and not certain and len(found.normal.steps) > 1:
        yield "Not all engines are measurably different: more rounds may distinguish them."


def _setting_doubts(found: Comparison) -> Iterator[str]:
    if not all(one.exclusive for one in (*found.timed, *found.small.values())):
        yield "Other programs used the machine meanwhile: measure again when it is idle."
    if found.on_cpu:
        yield (
            "This was measured on a CPU, whose cores all ranks share; memory is the resident "
            "memory of their processes, without pages of files. It does not show what GPUs would "
            "do."
        )
        yield from _thread_doubts(found)
    if found.about["settings"]["precision"] in ("fp16", "bf16"):
        casting = one_of(engine.title for engine in ENGINES.values() if engine.casts_model)
        yield (
            f"With {casting} the whole model is in this precision; the other engines only compute "
            "in it: watch the accuracy too."
        )
    yield "Speed and memory were compared, not what the model learns."


def _thread_doubts(found: Comparison) -> Iterator[str]:
    rows = [(key[-1], row["processes"], row["threads"]) for key, row in found.profiles.iterrows()]
    if len({_usable_cores(row) for _, row in found.profiles.iterrows()}) > 1:
        each = ", ".join(f"{ENGINES[name].title} {n} × {threads}" for name, n, threads in rows)
        yield (
            f"The engines computed with different numbers of threads (ranks × threads: {each}): if "
            "OMP_NUM_THREADS is set, unset it and compare again."
        )


def _usable_cores(profile: Any) -> int:
    """Return how many cores a profiled trial might use; older records have the threads alone."""
    environment = profile.get("environment")
    noted = environment.get("threads") if isinstance(environment, dict) else None
    return noted["cores"] if noted else profile["processes"] * profile["threads"]
