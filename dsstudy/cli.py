"""The command line: ``dsstudy``."""

import shutil
import sys
from pathlib import Path
from typing import Any

import click

from dsstudy.trial import InputError, Trial


class _Commands(click.Group):
    """Commands whose user's mistakes end in one sentence, not a traceback."""

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
@click.option("--compile-ops", is_flag=True, help="Compile DeepSpeed's C++ ops first, if needed.")
def doctor(compile_ops: bool) -> None:
    """Say what this machine can run, and what to do about what it cannot."""
    from dsstudy import machine as machines

    if compile_ops:
        click.echo("Compiling DeepSpeed's C++ ops (once; about two minutes) ...")
        machines.compile_ops()
    machine = machines.Machine.here()
    for name, value in _facts(machine).items():
        click.echo(f"{name:<18} {value}")
    ready = True
    for name, parameters in _questions().items():
        found = machines.problems(Trial(**parameters), machine)
        ready = ready and not (found and name.endswith("fp32"))
        mark = click.style("no ", fg="yellow") if found else click.style("yes", fg="green")
        click.echo(f"{mark}  {name}" + "".join(f"\n       {sentence}" for sentence in found))
    sys.exit(0 if ready else 1)


def _facts(machine: Any) -> dict[str, str]:
    from dsstudy.machine import ops_folder

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


def _questions() -> dict[str, dict[str, Any]]:
    """Return the trials that a user most wants to know about, by what they stand for."""
    two = {"engine": "deepspeed", "processes": 2}
    return {
        "engine normal, fp32": {},
        "engine deepspeed, one process, fp32": {"engine": "deepspeed"},
        "engine deepspeed, two processes, fp32": two,
        "engine normal, fp16": {"precision": "fp16"},
        "two processes, fp16 (as in the paper)": two | {"precision": "fp16"},
        "engine normal, bf16": {"precision": "bf16"},
        "data set cifar10 in data/": {"dataset": "cifar10"},
        "data set cifar100 in data/": {"dataset": "cifar100"},
    }
