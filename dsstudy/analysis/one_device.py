"""One device: each engine with a single process, against normal training on the same device."""

import pandas as pd

from dsstudy.analysis.intervals import ratio_interval
from dsstudy.spec.engines import ENGINES, NORMAL

ROW = ["architecture", "model", "batch_size", "optimizer"]
"""What must be equal for two engines to be compared."""


def step_ratios(trials: pd.DataFrame) -> pd.DataFrame:
    """Compare every engine's step with normal training's, round by round.

    Parameters
    ----------
    trials
        From `dsstudy.load_results`, of a study timed alone with ``dsstudy time``. Trials of several
        processes do not count.

    Returns
    -------
    pandas.DataFrame
        By `ROW` and ``engine``, in the study's order: ``value``, the geometric mean of the ratios
        of times, ``low`` and ``high``, its 95 % interval, and ``n``, the number of rounds;
        ``normal_ms``, the milliseconds of normal training's step (the mean over the rounds).
    """
    columns = [*ROW, "engine", "processes", "timed_rounds", "train_images"]
    known = trials.reindex(columns=columns).dropna(subset="timed_rounds")
    known = known[known["processes"] == 1]
    rows = {}
    for row, some in known.groupby(ROW, sort=False):
        seconds = {one.engine: pd.Series(one.timed_rounds) for one in some.itertuples()}
        if NORMAL not in seconds:
            continue
        steps = some["train_images"].iloc[0] // some["batch_size"].iloc[0]
        for engine in (e for e in ENGINES if e in seconds and e != NORMAL):
            found = ratio_interval((seconds[engine] / seconds[NORMAL]).dropna())
            milliseconds = 1e3 * seconds[NORMAL].mean() / steps
            rows[(*row, engine)] = {**vars(found), "normal_ms": milliseconds}
    index = pd.MultiIndex.from_tuples(list(rows), names=[*ROW, "engine"])
    return pd.DataFrame(list(rows.values()), index, ["value", "low", "high", "n", "normal_ms"])


def of_engine(ratios: pd.DataFrame, engine: str) -> pd.DataFrame:
    """Return the rows of one engine, perhaps none."""
    return ratios[ratios.index.get_level_values("engine") == engine]
