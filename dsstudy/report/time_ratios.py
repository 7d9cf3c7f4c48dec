"""The paper's Table 2 as a picture: with DeepSpeed on two GPUs against without on one."""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from dsstudy.paper.printed import NAMES, printed_by_cell
from dsstudy.report.figure_style import SETTING_MARKERS, name_rows
from dsstudy.spec.engines import DEEPSPEED, NORMAL
from dsstudy.spec.trial import ARCHITECTURES


def time_ratios_figure() -> Figure:
    """Draw the time per epoch with DeepSpeed's two GPUs over that with one, as printed."""
    values = printed_by_cell("seconds_per_epoch")
    figure, axes = plt.subplots(figsize=(9, 3.8), layout="constrained")
    for shift, (setting, marker) in enumerate(SETTING_MARKERS.items()):
        ratios = [
            values[name, DEEPSPEED, setting] / values[name, NORMAL, setting]
            for name in ARCHITECTURES
        ]
        rows = [row + 0.2 * (shift - 1) for row in range(len(ARCHITECTURES))]
        axes.scatter(ratios, rows, marker=marker, color=f"{0.1 + 0.3 * shift}", label=setting)
    axes.axvline(1, color="0.3", linewidth=1)
    axes.axvline(0.5, color="0.3", linewidth=1, linestyle=":")
    axes.set(
        xlabel="seconds per epoch, DeepSpeed on two GPUs / normal on one (dotted: twice as fast)",
        xlim=(0, 3),
    )
    name_rows(axes, [NAMES[name] for name in ARCHITECTURES])
    axes.legend(loc="lower right")
    return figure
