"""The data of the page on the cost model: the paper's pairs, and those of studies."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd

from dsstudy.analysis.claims.evidence import UndecidedError
from dsstudy.analysis.cost_model.model import LINKS, fit_groups, fitted_bandwidth
from dsstudy.analysis.cost_model.pairs import paper_pairs as paper_pairs  # for the notebook
from dsstudy.analysis.cost_model.pairs import study_pairs
from dsstudy.report.origin import marked_title
from dsstudy.spec.engines import ENGINES

Studies = Mapping[str, pd.DataFrame | str]
"""By a study's name: its pairs, from `study_pairs`, or why there are too few."""


def load_studies(folders: Sequence[Path]) -> Studies:
    """Return the pairs of each study, or why there are too few."""
    return {marked_title(folder): _pairs_or_reason(folder) for folder in folders}


def _pairs_or_reason(folder: Path) -> pd.DataFrame | str:
    try:
        return study_pairs(folder)
    except UndecidedError as reason:
        return str(reason)


def bandwidths(some: pd.DataFrame, found: pd.Series) -> dict[str, float]:
    """Return the bandwidths for which break-even is shown, in bytes per second."""
    return {"as fitted": fitted_bandwidth(some, found), **LINKS}


def convolutional(pairs: pd.DataFrame) -> pd.DataFrame:
    """Return the pairs of all networks except the ViT."""
    return pairs[pairs["architecture"] != "vit"]


def study_fits(found: Studies) -> Iterator[tuple[tuple[str, str], pd.DataFrame]]:
    """Yield the pairs of each fit, with the study's name, and engine and setting in words."""
    for study, pairs in found.items():
        if not isinstance(pairs, str):
            for engine, setting, some in fit_groups(pairs):
                yield (study, f"{ENGINES[engine].title}, {setting}"), some
