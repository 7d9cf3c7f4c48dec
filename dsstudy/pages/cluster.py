"""Trials on clusters: the commands that ran them, and what they cost, from benchmarks."""

import functools
import json
import statistics
from typing import Any

import pandas as pd
from IPython.display import Markdown
from pandas.io.formats.style import Styler

from dsstudy.paths import project_root
from dsstudy.report.origin import hardware_text
from dsstudy.report.table_style import style_table
from dsstudy.report.wording import span, versions_text
from dsstudy.spec.engines import ENGINES, LAUNCHED


@functools.cache
def benchmark_result(route: str) -> dict[str, Any]:
    """Return the measurements of ``slurm``, ``ray`` or ``hosts`` (one trial on two machines)."""
    file = project_root() / "benchmarks" / "results" / f"{route}.json"
    return dict(json.loads(file.read_text()))


def commands_text(route: str) -> Markdown:
    """Show the commands that ran a study over a route."""
    known = benchmark_result(route)
    given = known.get("commands") or [known["array"]["command"]]
    return Markdown("```\n" + "\n".join(given) + "\n```")


def measured_text(route: str) -> Markdown:
    """Say where a route's numbers come from."""
    known = benchmark_result(route)
    place = known["environment"]
    return Markdown(
        f"Measured {known['date']} by `{known['command']}` on "
        f"{hardware_text(place['hardware'])}; "
        f"{versions_text(place['software'])}; commit {place['commit'][:7]}; "
        f"record: `benchmarks/results/{route}.json`."
    )


def costs_table() -> Styler:
    """Show the overhead of both routes for many trials, and the cost of a lost node."""
    slurm, ray = benchmark_result("slurm"), benchmark_result("ray")
    array = slurm["array"]
    whole = {"Slurm": array["seconds"], "Ray": ray["seconds"]}
    lost = {"Slurm": array["lost"]["seconds"], "Ray": ray["lost"]["seconds"]}
    runs, trains = "until the trial runs again", "until it trains again"
    rows = {
        "from the command to the first step": (whole, "until the first step"),
        "from the command to the study's end": (whole, "whole study"),
        "from the loss of a node until its trial runs again *": (lost, runs),
        "from the loss of a node until it trains again *": (lost, trains),
    }
    texts = {
        title: {route: f"{seconds[name]:,.0f}" for route, seconds in routes.items()}
        for title, (routes, name) in rows.items()
    }
    caption = (
        f"Seconds, for the {slurm['trials']} trials of study {slurm['study']} on two nodes, one of "
        "which was lost. * Most of it is waiting in the queue: a lost trial comes after those that "
        "had not started, on the one node that is left."
    )
    frame = pd.DataFrame.from_dict(texts, orient="index")
    return style_table(frame, caption, "cluster_costs", align="right")


def lost_nodes_text() -> Markdown:
    """Say what happened to the trials on lost nodes."""
    slurm, ray = benchmark_result("slurm"), benchmark_result("ray")
    array, set_to = slurm["array"], slurm["settings"]
    return Markdown(
        f"Node *two* was lost under Slurm while it trained `{array['lost']['trial']}`, and under "
        f"Ray while it trained `{ray['lost']['trial']}`. Both studies ended completely: Slurm "
        f"{array['states']}, Ray {ray['states']}. {slurm['trials_with_equal_numbers']} of "
        f"{slurm['trials']} trials of the array are bit for bit equal to those on one machine. "
        f"Slurm was set to give up a silent node after {set_to['SlurmdTimeout']} s and to start "
        f"its task again after another {set_to['cred_expire']} s; the defaults are 300 s and 120 s."
    )


def _host_costs() -> pd.DataFrame:
    """Return the costs of two machines by engine and place: each a list over the rounds."""
    rows = {}
    for name, rounds in benchmark_result("hosts")["seconds"].items():
        engine, _, place = name.partition(", ")
        rows[engine, place] = {
            "seconds to the first step": [one["start"] for one in rounds],
            "milliseconds per step": [1000 * one["step"] for one in rounds],
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def hosts_table() -> Styler:
    """Show the cost of having a trial's two ranks on two machines."""
    costs = _host_costs()
    digits = dict(zip(costs, (".1f", ".2f"), strict=True))
    texts = pd.DataFrame(
        {
            name: [f"{statistics.median(x):{form}} ({span(x, form)})" for x in costs[name]]
            for name, form in digits.items()
        },
        index=[f"{ENGINES[engine].title}, {place}" for engine, place in costs.index],
    )
    caption = (
        "LeNet, two ranks with one core each, synthetic images, batches of 16: the median of "
        f"{len(costs.iloc[0, 0])} rounds (smallest to largest)."
    )
    return style_table(texts, caption, "cluster_hosts", align="right")


def answer_text() -> Markdown:
    """Say what a cluster adds to the time of trials, and of a step."""
    slurm, ray = benchmark_result("slurm")["array"]["seconds"], benchmark_result("ray")["seconds"]
    first = " and ".join(
        f"{seconds['until the first step']:.0f} s with {name}"
        for name, seconds in {"Slurm": slurm, "Ray": ray}.items()
    )
    steps = _host_costs()["milliseconds per step"].map(statistics.median).unstack()
    ratios = steps["two machines"] / steps["one machine"]
    ratio_texts = " and ".join(
        f"{ratios[name]:.2f} with {ENGINES[name].title}" for name in LAUNCHED if name in ratios
    )
    return Markdown(
        "Trials are independent, so *n* nodes run *n* of them at a time. From the command to the "
        f"first step it took {first}. With one trial's ranks on two machines, a step of LeNet took "
        f"this share of its time on one machine: {ratio_texts}. The network between the two is "
        "virtual; with a real one, add the time to send the gradients."
    )
