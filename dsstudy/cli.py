"""The command line: ``dsstudy``."""

import contextlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from dsstudy.errors import InputError, last_line
from dsstudy.spec.engines import DEEPSPEED, LAUNCHED, NORMAL
from dsstudy.spec.trial import Trial


class _Commands(click.Group):
    """Commands that report a user's mistake in one sentence, without a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except InputError as error:
            raise click.ClickException(str(error)) from None


@click.group(cls=_Commands)
@click.version_option(package_name="dsstudy")
def main() -> None:
    """Ask whether DeepSpeed helps to train a model: a reproducible study."""


@main.command()
@click.option("--compile-ops", "compile_first", is_flag=True, help="Compile DeepSpeed's C++ ops.")
def doctor(compile_first: bool) -> None:
    """Say what this machine can run, and how to make the rest possible."""
    from dsstudy.launching.machine import Machine, compile_ops
    from dsstudy.launching.placement import problems

    if compile_first:
        click.echo("Compiling DeepSpeed's C++ ops (once; about two minutes) ...")
        compile_ops()
    machine = Machine.here()
    for name, value in _doctor_facts(machine).items():
        click.echo(f"{name:<18} {value}")
    ready = True
    for name, parameters in _doctor_questions().items():
        found = problems(Trial(**parameters), machine)
        ready = ready and not (found and name.endswith("fp32"))
        mark = click.style("no ", fg="yellow") if found else click.style("yes", fg="green")
        click.echo(f"{mark}  {name}" + "".join(f"\n       {sentence}" for sentence in found))
    sys.exit(0 if ready else 1)


def _study_command(command: Callable) -> click.Command:
    """Make a command that takes a study's file, and options that change or select its trials."""
    for option in (
        click.option("--only", default="", metavar="NAME=VALUE,...", help="Only these trials."),
        click.option("--set", "overrides", multiple=True, metavar="NAME=VALUE",
                     help="Replace a parameter in every trial."),
        click.argument("file", type=click.Path(path_type=Path)),
    ):  # fmt: skip
        command = option(command)
    return main.command()(command)


@_study_command
@click.option("--dry-run", is_flag=True, help="List what would be run, and run nothing.")
@click.option("--rerun", type=click.Choice(["failed"]), help="Run failed trials again.")
@click.option(
    "--jobs",
    default="1",
    show_default=True,
    metavar="N",
    help="So many trials at once, "
    "each with its share of the cores or its own GPUs; auto: all that have room.",
)
@click.option("--ray", "address", metavar="ADDRESS", help="On a Ray cluster: host:port, or auto.")
def run(file: Path, overrides: tuple[str, ...], only: str, dry_run: bool, rerun: str,
        jobs: str, address: str | None) -> None:  # fmt: skip
    """Run what is left of a study; the same command resumes it."""
    from dsstudy.studies.batch import run_study

    study, trials = _chosen(file, overrides, only)
    if dry_run:
        for trial in trials:
            click.echo(f"{trial.name}: {trial.describe()}")
        return
    try:
        states = run_study(study, trials, rerun == "failed", _runner(jobs, address))
    except KeyboardInterrupt:
        several = "" if jobs == "1" else f" --jobs {jobs}"
        click.echo(f"\nStopped. Resume with: dsstudy run {file}{several}", err=True)
        sys.exit(130)
    _report(study.folder, states)


def _runner(jobs: str, address: str | None) -> Any:
    """Return where a study's trials run: on a Ray cluster, or here, one or several at once."""
    from dsstudy.studies.batch import ThisMachine
    from dsstudy.studies.ray_cluster import RayCluster

    if address and jobs != "1":
        raise InputError("--jobs is not possible with --ray, which runs as many trials at once as "
                         "its nodes have room for: leave one of them out")  # fmt: skip
    if address:
        return RayCluster(address)
    if jobs == "1":
        return ThisMachine()
    from dsstudy.studies.side_by_side import SideBySide  # slow to import

    return SideBySide(jobs)


def _report(folder: Path, states: dict[str, str]) -> None:
    """Print the state of a study; exit with 1 unless all its trials are done."""
    from dsstudy.records.record import Record
    from dsstudy.records.study_folder import DONE, records_outside_study, states_text

    click.echo(f"{folder}: {states_text(states)}.")
    for name in (name for name, state in states.items() if state in ("failed", "unfinished")):
        if result := Record(folder / name).result():
            reason = last_line(result.get("error") or "no reason recorded")
            click.echo(f"  {states[name]}: {name}: {reason}")
    if left := records_outside_study(folder):
        click.echo(
            f"{len(left)} records there belong to no trial of the study: its parameters must have "
            f"changed: {', '.join(left[:3])}{' ...' if len(left) > 3 else ''}"
        )
    if set(states.values()) - set(DONE):
        sys.exit(1)


@_study_command
@click.option("--commands", is_flag=True, help="Print a papermill command line for each trial.")
def trials(file: Path, overrides: tuple[str, ...], only: str, commands: bool) -> None:
    """List a study's trials; with --commands, in a form that any cluster can run.

    --commands also writes the study into its folder, as run does, for status and publish.
    """
    from dsstudy.launching.notebook import shell_line
    from dsstudy.records.study_folder import write_study

    study, chosen = _chosen(file, overrides, only)
    if commands:
        write_study(study)
    click.echo("\n".join(shell_line(trial) if commands else trial.name for trial in chosen))


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
def status(folder: Path) -> None:
    """Say which trials of a study are done, running, failed or left."""
    from dsstudy.records.study_folder import study_states

    states = study_states(folder)
    click.echo("\n".join(f"{state:<10} {name}" for name, state in states.items()))
    _report(folder, states)


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
def publish(folder: Path) -> None:
    """Write a study's finished trials to book/results/, for a commit."""
    from dsstudy.records.published_copy import publish_study

    click.echo(f"published in {publish_study(folder)}")


@_study_command
@click.option("--steps", default=200, show_default=True, help="Training steps per measurement.")
@click.option("--rounds", default=3, show_default=True, help="Measurements per trial.")
def time(file: Path, overrides: tuple[str, ...], only: str, steps: int, rounds: int) -> None:
    """Measure a study's times only: a few steps per trial, trials interleaved and repeated."""
    from dsstudy.studies.timing import time_study

    study, trials = _chosen(file, overrides, only)
    with _failures_in_one_line():
        click.echo(f"times in {time_study(study, trials, steps, rounds)}")


@_study_command
@click.option("--steps", default=32, show_default=True, type=click.IntRange(1), help="Per round.")
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1), help="Per trial.")
def profile(file: Path, overrides: tuple[str, ...], only: str, steps: int, rounds: int) -> None:
    """Measure where a step's time goes: forward, backward, communication, optimizer, data."""
    from dsstudy.studies.profiling import profile_study

    study, trials = _chosen(file, overrides, only)
    with _failures_in_one_line():
        click.echo(f"profiles in {profile_study(study, trials, steps, rounds)}")


@main.command()
@click.option("--model", required=True, help="lenet ..., timm/NAME, torchvision/NAME, MODULE:NAME")
@click.option("--dataset", help="imagefolder, synthetic (the default), cifar10 or cifar100.")
@click.option("--data-dir", help="Its full path, or its path below $DSSTUDY_DATA (data/).")
@click.option("--image-size", help="Side of the square input in pixels.")
@click.option("--batch-size", help="Images per step, over all devices.  [default: 16]")
@click.option("--precision", help="fp32 (the default), tf32, fp16 or bf16.")
@click.option("--processes", help="At most so many ranks.  [default: all GPUs, or 2 on a CPU]")
@click.option("--set", "others", multiple=True, metavar="NAME=VALUE", help="Any other parameter.")
@click.option("--steps", default=60, show_default=True, type=click.IntRange(1), help="Per round.")
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1), help="Per engine.")
@click.option(
    "--bandwidth", default=5.6, show_default=True, type=click.FloatRange(0, min_open=True),
    help="GB/s between two devices, for the prediction; 5.6 is fitted to the paper's two cards, "
    "and PCIe 4.0 x16 has 32 at its peak.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def compare(others: tuple[str, ...], steps: int, rounds: int, bandwidth: float, as_json: bool,
            **parameters: str | None) -> None:  # fmt: skip
    """Say whether DDP or DeepSpeed would train a model faster here, and why.

    Each engine that this machine can run trains a few hundred steps with the same settings.
    """
    from dsstudy.analysis.comparison import load_comparison
    from dsstudy.pages.compare import comparison_json, report_text
    from dsstudy.studies.compare_engines import measure_engines

    given = {name: value for name, value in parameters.items() if value is not None}
    with contextlib.redirect_stdout(sys.stderr):  # only the result goes to standard output
        study = measure_engines(_parse_pairs(others, "--set") | given, steps, rounds)
    found, speed = load_comparison(study.folder), bandwidth * 1e9
    if as_json:
        click.echo(json.dumps(comparison_json(found, speed), indent=1, allow_nan=False))
    else:
        click.echo(f"{report_text(found, speed)}\n\nMeasured numbers: {study.folder}")


@main.command()
@click.argument("study", type=click.Path(path_type=Path))
@click.argument("output", type=click.Path(path_type=Path))
def book(study: Path, output: Path) -> None:
    """Build the book over the records of STUDY into OUTPUT.

    STUDY is a study's folder, or a folder of them: book/results.
    """
    from dsstudy.book import build_book

    click.echo("Executing the notebooks and building the pages (some minutes) ...")
    page = build_book(study, output)
    click.echo(f"The book is ready: open {page.as_uri()} in a browser.")


@contextlib.contextmanager
def _failures_in_one_line() -> Iterator[None]:
    """Turn a failed training into a sentence; its details, for programs, are in the error."""
    from dsstudy.launching.launcher import TrialError

    try:
        yield
    except TrialError as error:
        which = getattr(error, "__notes__", [])  # the trial, of several
        raise click.ClickException(": ".join([*which, last_line(error)])) from None


def _chosen(file: Path, overrides: tuple[str, ...], only: str) -> tuple[Any, list[Trial]]:
    """Return the study of a file, and those of its trials that ``--only`` selects."""
    from dsstudy.spec.study import load_study, select

    study = load_study(file, _parse_pairs(overrides, "--set"))
    conditions = _parse_pairs(only.split(",") if only else (), "--only")
    return study, select(study.trials, conditions)


def _parse_pairs(given: Sequence[str], option: str) -> dict[str, str]:
    pairs = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise InputError(f"{option} {text} is not of the form name=value: write, for example, "
                             f"{option} engine={NORMAL}")  # fmt: skip
        pairs[name.strip()] = value.strip()
    return pairs


def _doctor_facts(machine: Any) -> dict[str, str]:
    from dsstudy.launching.machine import ops_folder

    gpus = ", ".join(f"{gpu.name} ({gpu.memory_gib:.0f} GiB)" for gpu in machine.gpus)
    disk = shutil.disk_usage(Path.cwd()).free / 2**30
    compiled = sorted(file.stem for file in ops_folder().glob("*/*.so"))
    bf16 = "in hardware" if machine.cpu_bf16 else "emulated, far slower than fp32"
    return {
        "processor": f"{machine.processor}, {machine.cores} cores, bf16 {bf16}",
        "memory": f"{machine.memory_gib} GiB",
        "GPUs": gpus or "none",
        "free disk": f"{disk:.0f} GiB",
        "DeepSpeed's ops": ", ".join(compiled) or "not compiled: run dsstudy doctor --compile-ops",
        "versions": ", ".join(f"{name} {number}" for name, number in machine.versions.items()),
    }


def _doctor_questions() -> dict[str, dict[str, Any]]:
    """Return the trials that users ask about most, by description."""
    two = {engine: {"engine": engine, "processes": 2} for engine in LAUNCHED}
    return {
        f"engine {NORMAL}, fp32": {},
        f"engine {DEEPSPEED}, one process, fp32": {"engine": DEEPSPEED},
        **{f"engine {engine}, two processes, fp32": ranks for engine, ranks in two.items()},
        f"engine {NORMAL}, fp16": {"precision": "fp16"},
        "two processes, fp16 (as in the paper)": two[DEEPSPEED] | {"precision": "fp16"},
        f"engine {NORMAL}, bf16": {"precision": "bf16"},
        **{f"data set {name} in data/": {"dataset": name} for name in ("cifar10", "cifar100")},
    }
