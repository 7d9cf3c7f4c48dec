"""The colours and axes of all figures."""

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes

from dsstudy.spec.engines import ENGINES


def set_log_ticks(axes: Axes, values: np.ndarray) -> None:
    """Put round numbers on a logarithmic axis, as many as its range bears."""
    known = values[np.isfinite(values)]
    if not len(known):
        return
    decades = 10.0 ** np.arange(np.floor(np.log10(known.min())), 1 + np.log10(known.max()))
    steps = (1, 2, 5) if known.max() / known.min() > 8 else (1, 1.5, 2, 3, 4, 5, 7)
    ticks = [step * decade for decade in decades for step in steps]
    near = [t for t in ticks if 0.8 * known.min() <= t <= 1.25 * known.max()]
    axes.set_yticks(near)
    axes.set_yticks([], minor=True)
    axes.yaxis.set_major_formatter("{x:,g}")


_PALETTE = sns.color_palette("colorblind")

ENGINE_COLORS = {name: _PALETTE[engine.color] for name, engine in ENGINES.items()}
"""One colour-blind-safe colour an engine, the same in every figure."""
