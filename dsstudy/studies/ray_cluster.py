"""A study's trials over a Ray cluster: each on a node that has the GPUs, or CPU slots, it needs."""

import logging
import socket
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from dsstudy.errors import InputError
from dsstudy.launching.notebook import run_notebook
from dsstudy.paths import runs_folder
from dsstudy.records.files import write_bytes
from dsstudy.records.folder_lock import folder_holder
from dsstudy.records.record import Record
from dsstudy.spec.study import Study
from dsstudy.spec.trial import Trial

MOST_LOSSES = 5
"""How many times a trial is begun again elsewhere when its node, or its process there, is lost."""

LOST_TRIAL_SECONDS = 60.0
"""Seconds to wait for what is left of a trial on a lost node: it ends when it sees the loss."""


class RayCluster:
    """A Ray cluster that a study's trials are run on, in place of this machine.

    Its nodes have the project installed in the Python that ``ray start`` was called from; images
    are looked for below each node's own ``$DSSTUDY_DATA``. Where a node sees the study's folder,
    a trial trains right there, and goes on from its checkpoint if a node is lost. Otherwise it
    trains in the node's own ``$DSSTUDY_RUNS``, and its record comes back when it is done.

    Parameters
    ----------
    address
        Of the cluster's head, ``host:port``; ``auto`` for one that runs on this machine.

    Raises
    ------
    InputError
        Ray is not installed, or no cluster answers at the address.
    """

    def __init__(self, address: str):
        try:
            import ray
        except ImportError:
            raise InputError(
                "--ray needs Ray, which is not installed: install it with 'make ray'"
            ) from None
        self._ray = ray
        try:
            _check_listening(address)
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
        except (OSError, RuntimeError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise InputError(
                f"--ray {address}: no cluster answers there ({reason}): start one with 'ray start "
                "--head', and give the address that it prints"
            ) from None
        self._nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]

    def check(self, trials: Sequence[Trial]) -> None:
        """Refuse trials that would wait for ever, as no node has what they need.

        Raises
        ------
        InputError
            It names the first of them.
        """
        for trial in trials:
            for kind, number in self.needs(trial).items():
                most = max((int(node.get(kind, 0)) for node in self._nodes), default=0)
                if number > most:
                    name = {"GPU": "GPUs", "CPU": "CPU slots"}[kind]
                    raise InputError(
                        f"trial {trial.name}: processes={trial.processes} is more than the {most} "
                        f"{name} of any node of the cluster: set processes to at most {most}, or "
                        "add a node; nothing was started"
                    )

    def needs(self, trial: Trial) -> dict[str, int]:
        """Return how many CPU slots and GPUs of one node a trial needs: one of each a process."""
        needed = {"CPU": trial.processes}
        return needed | ({"GPU": trial.processes} if self._device(trial) == "cuda" else {})

    def _device(self, trial: Trial) -> str:
        """Return where a trial is to train: the same on every node, for all have one study."""
        if trial.device != "auto":
            return trial.device
        return "cuda" if any(node.get("GPU") for node in self._nodes) else "cpu"

    def run(self, study: Study, trials: Sequence[Trial], bar: tqdm) -> None:
        """Run trials, as many at a time as there is room for, and bring their records back."""
        with _shared_folder_token(study.folder) as token:
            running = {self._start(trial, token): trial for trial in trials}
            try:
                while running:
                    bar.set_postfix_str(f"{len(running)} waiting or running")
                    (done,), _ = self._ray.wait(list(running))
                    trial = running.pop(done)
                    if word := self._fetch(done, trial):
                        bar.write(f"{trial.name}: {word}")
                    bar.update()
            finally:
                for task in running:
                    self._ray.cancel(task, force=True)
                self._ray.shutdown()

    def _start(self, trial: Trial, token: Path) -> Any:
        needs = self.needs(trial)
        # A process of its own for each trial, which has no other's threads or GPUs.
        task = self._ray.remote(max_calls=1, max_retries=MOST_LOSSES)(train_on_node)
        parameters = trial.model_dump() | {"device": self._device(trial)}
        placed = task.options(name=trial.name, num_cpus=needs["CPU"], num_gpus=needs.get("GPU", 0))
        return placed.remote(parameters, str(token))

    def _fetch(self, task: Any, trial: Trial) -> str:
        """Write the files that a trial sends back; return what the user should know of it."""
        try:
            word, files = self._ray.get(task)
        except self._ray.exceptions.RayError as error:
            return f"lost {MOST_LOSSES} times with its node: {str(error).strip().splitlines()[0]}"
        for name in sorted(files, key=lambda name: name == "result.json"):  # which ends the trial
            file = trial.folder / Path(name).name
            file.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(file, files[name])
        return word


def _check_listening(address: str) -> None:
    """See whether anything listens at ``host:port``, which takes Ray itself minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=10).close()


def train_on_node(parameters: dict[str, Any], token: str) -> tuple[str, dict[str, bytes]]:
    """Run a trial's notebook on the node that this is called on.

    Parameters
    ----------
    parameters
        The trial's; its `output_dir` is in the study's folder.
    token
        A file that lies in that folder, if it is the folder of the machine that runs the study.

    Returns
    -------
    word : str
        What the user should know of the trial beyond its record.
    files : dict
        The record's files by name, without checkpoints; none where the folder is shared.
    """
    trial, shared = Trial(**parameters), Path(token).exists()
    if not shared:
        own = runs_folder() / Path(token).parent.name / trial.name
        trial = trial.model_copy(update={"output_dir": str(own)})
    deadline = time.monotonic() + LOST_TRIAL_SECONDS
    while folder_holder(trial.folder) and time.monotonic() < deadline:
        time.sleep(0.5)
    word = run_notebook(trial)
    return word, {} if shared else _record_files(Record(trial.folder))


def _record_files(record: Record) -> dict[str, bytes]:
    """Return a record's files; what begins with a dot is of use where it lies alone."""
    files = [file for file in record.folder.glob("[!.]*") if file.is_file()]
    return {file.name: file.read_bytes() for file in files}


@contextmanager
def _shared_folder_token(folder: Path) -> Iterator[Path]:
    """Lay a file into a folder by which a node can tell that it sees the same one."""
    token = folder / f".shared-{uuid.uuid4()}.tmp"
    token.touch()
    try:
        yield token
    finally:
        token.unlink(missing_ok=True)
