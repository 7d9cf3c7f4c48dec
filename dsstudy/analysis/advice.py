"""What to train with, by a comparison of the engines: the advice, its reasons, its doubts."""

from collections.abc import Sequence
from dataclasses import dataclass

from dsstudy.analysis.comparison import Comparison, Timed, efficiency, step_ratio
from dsstudy.analysis.intervals import LEVEL
from dsstudy.analysis.step_phases import compare_phases
from dsstudy.paper import printed

WIDE = 4
"""Where the limits of a ratio are further apart than this factor, its interval tells nothing."""


@dataclass(frozen=True)
class Advice:
    """What to train with, why, and how sure that is.

    Attributes
    ----------
    choice : Timed
        The engine that is recommended.
    sentence : str
        The recommendation.
    told : bool
        Whether the times tell the choice from every other engine.
    reasons, doubts : list of str
        Sentences.
    """

    choice: Timed
    sentence: str
    told: bool
    reasons: list[str]
    doubts: list[str]


def advise(found: Comparison) -> Advice:
    """Recommend the simplest engine that is not measurably slower than the fastest.

    Normal training is simpler than DDP, which is simpler than DeepSpeed. Two engines differ where
    the interval of the ratio of their steps, paired by round, excludes 1.
    """
    candidates = found.candidates
    fastest = min(candidates, key=lambda one: step_ratio(one, found.normal).value)
    choice = next(c for c in candidates if c is fastest or not step_ratio(c, fastest).excludes(1))
    others = [one for one in candidates if one is not choice]
    told = bool(others) and all(step_ratio(one, choice).excludes(1) for one in others)
    return Advice(
        choice,
        _advice_sentence(choice, fastest, others, told),
        told,
        [
            *(_against_text(found, one, choice) for one in others),
            *_scaling_reasons(choice, found),
            *_memory_reasons(found),
        ],
        [*_risk_doubts(choice, fastest), *_advice_doubts(found, others, told)],
    )


def _advice_sentence(choice: Timed, fastest: Timed, others: Sequence[Timed], told: bool) -> str:
    if not others:
        return f"Train with {choice.title}: no other engine runs here."
    if told:
        return f"Train with {choice.title}: it is the fastest here, measurably."
    if len(choice.steps) < 2:
        return (
            f"It cannot be told which engine is the fastest, as one round has no spread; "
            f"{choice.title} is the simplest: measure two rounds or more."
        )
    if any(_scatters(one, choice) for one in others):
        return (
            f"Not decided, as the times scatter too much; {choice.title} is the simplest that may "
            "be the fastest: measure again, on an idle machine or with more rounds."
        )
    if choice is fastest:
        return (
            f"Train with {choice.title}: no other engine is measurably faster, and what may be as "
            "fast is less simple."
        )
    return (
        f"Train with {choice.title}: {fastest.title} was the fastest here, but not measurably so, "
        f"and {choice.title} is simpler."
    )


def _scatters(one: Timed, choice: Timed) -> bool:
    times = step_ratio(one, choice)
    return not times.excludes(1) and times.high > WIDE * times.low


def _against_text(found: Comparison, one: Timed, choice: Timed) -> str:
    """Say how another engine's steps compare with the choice's, and in which phase they differ."""
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
    """Whether it is on these ranks that the engine was profiled."""
    rows = found.profiles[found.profiles.index.get_level_values("engine") == one.engine]
    return one.processes in set(rows["processes"])


def _scaling_reasons(choice: Timed, found: Comparison) -> list[str]:
    if choice.devices == 1:
        return []
    share = 100 * efficiency(choice, found.normal)
    return [
        f"Its {choice.devices} devices do {share:.0f} % of what as many times normal training's "
        "one would."
    ]


def _memory_reasons(found: Comparison) -> list[str]:
    if len(found.candidates) < 2:
        return []
    least = min(found.timed, key=lambda one: one.memory / one.devices)
    return [
        f"{least.title[0].upper()}{least.title[1:]} takes the least memory a device, "
        f"{least.memory / least.devices:,.0f} MiB at its peak: where memory is short, that may "
        "count for more than time."
    ]


def _risk_doubts(choice: Timed, fastest: Timed) -> list[str]:
    times = step_ratio(choice, fastest)
    if choice is fastest or times.n < 2:
        return []
    return [
        f"By these times a step with {choice.title} may take up to {times.high:.2f} times as long "
        f"as with {fastest.title}, or down to {times.low:.2f} times."
    ]


def _advice_doubts(found: Comparison, others: Sequence[Timed], told: bool) -> list[str]:
    doubts = [
        f"{printed.NAMES[one['engine']]} was left out: {one['reason']}."
        for one in found.about["left_out"]
    ]
    if others and not told and len(found.normal.steps) > 1:
        doubts.append("Not all engines can be told apart: more rounds would tell more.")
    if not all(one.exclusive for one in (*found.timed, *found.small.values())):
        doubts.append("Other programs used the machine meanwhile: measure again when it is idle.")
    if found.on_cpu:
        doubts.append(
            "This was measured on a CPU, whose cores all ranks share; the memory is what their "
            "processes had resident, libraries included. What GPUs would do it does not tell."
        )
        doubts += _thread_doubts(found)
    if found.about["settings"]["precision"] != "fp32":
        doubts.append(
            "In this precision DeepSpeed keeps the whole model, the others compute in it only: "
            "watch the accuracy too."
        )
    doubts.append("Speed and memory were compared, not what the model learns.")
    return doubts


def _thread_doubts(found: Comparison) -> list[str]:
    """Say so where the engines did not have the same share of the CPU."""
    rows = [(key[-1], row["processes"], row["threads"]) for key, row in found.profiles.iterrows()]
    if len({ranks * threads for _, ranks, threads in rows}) == 1:
        return []
    each = ", ".join(f"{printed.NAMES[name]} {ranks} × {threads}" for name, ranks, threads in rows)
    return [
        f"The engines computed with different numbers of threads (ranks × threads: {each}): where "
        "OMP_NUM_THREADS is set, unset it and compare again."
    ]
