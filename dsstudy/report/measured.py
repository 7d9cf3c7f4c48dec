"""What a page's numbers were measured on: one line that opens to all that is known."""

import html
from collections import Counter
from pathlib import Path
from typing import Any

from IPython.display import HTML

from dsstudy.analysis.load import load_results
from dsstudy.analysis.provenance import environments
from dsstudy.report.departures import list_departures
from dsstudy.report.origin import origin_box, origin_facts
from dsstudy.report.wording import join_distinct, span


def measured_box(path: str | Path) -> HTML:
    """Show a study's hardware, images, epochs and seeds; opened, its origin and departures.

    Parameters
    ----------
    path
        As for `dsstudy.load_results`.
    """
    results, facts = load_results(path), origin_facts(path)
    sets = [place["dataset"] for place in environments(results)]
    parts = [
        join_distinct(_machine_text(place["hardware"]) for place in environments(results)),
        join_distinct(f"{one['train_images']:,} images of {one['name']}" for one in sets),
        f"epochs: {span(results['epochs'])}",
        f"seeds: {span(results['seed'])}",
        f"{facts['trials'].partition(';')[0]} trials",
    ]
    departures = "".join(f"<p>{html.escape(one)}</p>" for one in list_departures(results))
    return HTML(
        f'<details class="measured"><summary><b>Measured on</b> {html.escape("; ".join(parts))}. '
        f"<u>More</u></summary>{origin_box(path).to_html()}<p><b>Where this departs from the "
        f"paper.</b></p>{departures or '<p>Nowhere.</p>'}</details>"
    )


def _machine_text(hardware: dict[str, Any]) -> str:
    """Name a machine's processor and GPUs, without its memory, which differs from day to day."""
    gpus = Counter(gpu["name"] for gpu in hardware["gpus"])
    devices = ", ".join(f"{count} x {name}" for name, count in gpus.items()) or "no GPU"
    return f"{hardware['processor']}, {hardware['cores']} cores, {devices}"
