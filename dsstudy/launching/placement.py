"""Where a trial runs: resolved once, and handed on from the check to the record."""

from dataclasses import dataclass, field, replace

from dsstudy.errors import InputError
from dsstudy.launching.hostfile import check_hosts, read_hosts
from dsstudy.launching.machine import Machine, rank_environment
from dsstudy.launching.threads import (
    Threads,
    choose_threads,
    thread_problems,
    trials_side_by_side,
)
from dsstudy.spec.engines import ENGINES, one_of
from dsstudy.spec.trial import Trial


@dataclass(frozen=True)
class Placement:
    """Where a trial runs, and how its ranks share the place.

    Attributes
    ----------
    machine : Machine
        This machine.
    device : str
        ``cpu`` or ``cuda``.
    hosts : dict
        The slots of each machine in the hostfile; empty for this machine alone.
    ranks_per_host : int
        How many ranks run on each machine.
    threads : Threads
        How many CPU threads each rank has, and why.
    environment : dict
        The environment variables with which a launcher starts the ranks.
    side_by_side : int
        How many trials a study runs on this machine at once, this one included.
    """

    machine: Machine
    device: str
    hosts: dict[str, int]
    ranks_per_host: int
    threads: Threads
    environment: dict[str, str] = field(repr=False)
    side_by_side: int = 1

    def with_threads(self, threads: Threads) -> "Placement":
        """Return the same place with other threads for each rank."""
        environment = rank_environment(self.device, threads.number)
        return replace(self, threads=threads, environment=environment)


def place_trial(trial: Trial, machine: Machine) -> Placement:
    """Resolve where a trial runs.

    Raises
    ------
    InputError
        The hostfile cannot be read, does not fit the trial, or needs a tool that is missing.
    """
    hosts = read_hosts(trial)
    check_hosts(trial, hosts)
    device = machine.device(trial)
    ranks = trial.processes // max(1, len(hosts))
    # Without a share of the cores for each, ranks on one CPU compete for all of them.
    threads = choose_threads(trial, machine, ranks)
    environment = rank_environment(device, threads.number)
    together = trials_side_by_side()
    return Placement(machine, device, hosts, ranks, threads, environment, together)


def problems(trial: Trial, machine: Machine) -> list[str]:
    """Return what keeps a machine from running a trial; empty if the trial can run.

    Each sentence names a parameter, its value, what is allowed here, and what to do.
    """
    try:
        return placement_problems(trial, place_trial(trial, machine))
    except InputError as error:
        return [str(error)]


def placement_problems(trial: Trial, placement: Placement) -> list[str]:
    """Return what keeps a trial from running where it is placed, as `problems` does."""
    from dsstudy.images.data import check_data
    from dsstudy.training.model_check import check_model

    found = [
        *_engine_problems(trial, placement.machine),
        *(_device_problems(trial, placement) or _precision_problems(trial, placement)),
        *thread_problems(trial, placement.machine, placement.ranks_per_host),
    ]
    try:
        classes = check_data(trial)
    except InputError as error:
        return [*found, str(error)]
    try:
        check_model(trial, classes)
    except InputError as error:
        found.append(str(error))
    return found


def _engine_problems(trial: Trial, machine: Machine) -> list[str]:
    if machine.compiler or not ENGINES[trial.engine].compiles:
        return []
    others = one_of(name for name, engine in ENGINES.items() if not engine.compiles)
    return [
        f"engine={trial.engine} needs a C++ compiler, and there is no g++ here: install it "
        f"(Debian: apt install g++), or set engine to {others}"
    ]


def _device_problems(trial: Trial, placement: Placement) -> list[str]:
    machine, ranks = placement.machine, placement.ranks_per_host
    cuda = placement.device == "cuda"
    if cuda and not machine.gpus:
        return ["device=cuda is not possible without a GPU: set device to cpu or auto"]
    places, name = (len(machine.gpus), "GPUs") if cuda else (machine.cores, "CPU cores")
    if ranks <= places:
        return []
    here = "" if ranks == trial.processes else f", {ranks} of them here,"
    return [
        f"processes={trial.processes}{here} is more than this machine's {places} {name}: set "
        f"processes to at most {places * (trial.processes // ranks)}"
    ]


def _precision_problems(trial: Trial, placement: Placement) -> list[str]:
    machine, cuda = placement.machine, placement.device == "cuda"
    possible = {
        "fp32": True,
        "tf32": cuda and all(gpu.bf16 for gpu in machine.gpus),  # both came with Ampere
        "fp16": bool(machine.gpus) if cuda else machine.cpu_fp16,
        "bf16": all(gpu.bf16 for gpu in machine.gpus) if cuda else True,
    }
    if possible[trial.precision]:
        return []
    allowed = one_of(name for name, works in possible.items() if works)
    return [
        f"precision={trial.precision} is not possible on this {'GPU' if cuda else 'CPU'}: set "
        f"precision to {allowed}"
    ]
