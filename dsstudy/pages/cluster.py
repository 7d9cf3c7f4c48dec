"""The page on clusters: commands that were really run, and what they cost, from the records."""

import functools
import json
import statistics
from typing import Any

import pandas as pd
from IPython.display import Markdown
from pandas.io.formats.style import Styler

from dsstudy.paper import printed
from dsstudy.paths import project_root
from dsstudy.report.origin import hardware_text
from dsstudy.report.table_style import style_table
from dsstudy.spec.engines import LAUNCHED

ROUTES = ("slurm", "ray", "hosts")


@functools.cache
def benchmark_result(route: str) -> dict[str, Any]:
    """Return the measurements of a route, one of `ROUTES`: a file of ``benchmarks/results``."""
    file = project_root() / "benchmarks" / "results" / f"{route}.json"
    content = json.loads(file.read_text())
    assert isinstance(content, dict)
    return content


def commands_text(route: str) -> Markdown:
    """Show the commands that ran a study over a route."""
    known = benchmark_result(route)
    given = known.get("commands") or [known["array"]["command"]]
    return Markdown("```\n" + "\n".join(given) + "\n```")


def measured_text(route: str) -> Markdown:
    """Say where a route's numbers come from."""
    known = benchmark_result(route)
    place = known["environment"]
    versions = ", ".join(f"{name} {number}" for name, number in place["software"].items())
    return Markdown(
        f"Measured {known['date']} by `{known['command']}` on "
        f"{hardware_text(place['hardware'])}; {versions}; commit {place['commit'][:7]}; "
        f"record: `benchmarks/results/{route}.json`."
    )


def costs_table() -> Styler:
    """Show the overhead of both routes for many trials, and the cost of a lost node."""
    slurm, ray = benchmark_result("slurm"), benchmark_result("ray")
    array, over_ray = slurm["array"]["seconds"], ray["seconds"]
    lost, ray_lost = slurm["array"]["lost"]["seconds"], ray["lost"]["seconds"]
    again, trains = "until the trial runs again", "until it trains again"
    rows = {
        "from the command to the first step": ("until the first step", array, over_ray),
        "from the command to the study's end": ("whole study", array, over_ray),
        "from the loss of a node until its trial runs again *": (again, lost, ray_lost),
        "from the loss of a node until it trains again *": (trains, lost, ray_lost),
    }
    texts = pd.DataFrame(
        [
            [_whole_seconds(one[name]), _whole_seconds(two[name])]
            for name, one, two in rows.values()
        ],
        index=list(rows),
        columns=["Slurm", "Ray"],
    )
    caption = (
        f"Seconds, of study {slurm['study']}, {slurm['trials']} trials, over two nodes, one of "
        "them lost. * Most of it is waiting in the queue: a lost trial comes after those that had "
        "not begun, on the one node that is left."
    )
    return style_table(texts, caption, "cluster_costs", align="right")


def _whole_seconds(value: float) -> str:
    return f"{value:,.0f}"


def lost_nodes_text() -> Markdown:
    """Say what happened to the trials on lost nodes."""
    slurm, ray = benchmark_result("slurm"), benchmark_result("ray")
    total, set_to = slurm["trials"], slurm["settings"]
    return Markdown(
        f"Under Slurm, node *two* was lost while it trained "
        f"`{slurm['array']['lost']['trial']}`, under Ray while it trained "
        f"`{ray['lost']['trial']}`. The studies ended as if nothing had been: Slurm "
        f"{slurm['array']['states']}, Ray {ray['states']}; "
        f"{slurm['trials_with_equal_numbers']} of {total} trials of the array came out bit for bit "
        f"as on one machine. Slurm had been told to miss a silent node after "
        f"{set_to['SlurmdTimeout']} s, and to hold a task back {set_to['cred_expire']} s before it "
        "is begun again; left to itself it takes 300 s and 120 s."
    )


def host_costs() -> pd.DataFrame:
    """Return the cost of having a trial's two ranks on two machines.

    Returns
    -------
    pandas.DataFrame
        By engine and place, the median over the rounds of ``start``, seconds from the trial's start
        to its first step, and of ``step``, milliseconds per step; with ``_low`` and ``_high``, the
        extremes.
    """
    rows = {}
    for name, rounds in benchmark_result("hosts")["seconds"].items():
        engine, _, place = name.partition(", ")
        starts, steps = ([one[what] for one in rounds] for what in ("start", "step"))
        rows[engine, place] = {
            "start": statistics.median(starts),
            "start_low": min(starts),
            "start_high": max(starts),
            "step": 1000 * statistics.median(steps),
            "step_low": 1000 * min(steps),
            "step_high": 1000 * max(steps),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def hosts_table() -> Styler:
    """Show `host_costs`."""
    frame = host_costs()
    texts = pd.DataFrame(
        {
            "seconds to the first step": [
                f"{r.start:.1f} ({r.start_low:.1f} to {r.start_high:.1f})"
                for r in frame.itertuples()
            ],
            "milliseconds a step": [
                f"{r.step:.2f} ({r.step_low:.2f} to {r.step_high:.2f})" for r in frame.itertuples()
            ],
        },
        index=pd.Index([f"{printed.NAMES[engine]}, {place}" for engine, place in frame.index]),
    )
    rounds = len(next(iter(benchmark_result("hosts")["seconds"].values())))
    caption = (
        f"LeNet, two ranks with one core each, synthetic images, batches of 16: the median of "
        f"{rounds} rounds (smallest to largest)."
    )
    return style_table(texts, caption, "cluster_hosts", align="right")


def answer_text() -> Markdown:
    """Answer the page's question."""
    frame = host_costs()["step"]
    slurm, ray = benchmark_result("slurm")["array"]["seconds"], benchmark_result("ray")["seconds"]
    first = [
        f"{seconds['until the first step']:.0f} s over {name}"
        for name, seconds in {"Slurm": slurm, "Ray": ray}.items()
    ]
    ratios = [
        f"{frame[engine, 'two machines'] / frame[engine, 'one machine']:.2f} with "
        f"{printed.NAMES[engine]}"
        for engine in LAUNCHED
    ]
    return Markdown(
        "Trials are independent: *n* nodes do *n* of them at a time, and from the command to the "
        f"first step it took {' and '.join(first)}. With one trial's ranks on two machines, a step "
        f"of LeNet took {' and '.join(ratios)}, as a share of its time on one machine, over a wire "
        "between them that is none; over a real network, add the time that the gradients take."
    )
