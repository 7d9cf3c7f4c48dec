"""Running a study on a Ray cluster: each trial on a node with the GPUs or CPU slots it needs."""

import logging
import socket
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dsstudy.errors import InputError
from dsstudy.launching.notebook import run_notebook
from dsstudy.launching.progress import StudyBar
from dsstudy.paths import runs_folder
from dsstudy.records.files import whole_file
from dsstudy.records.folder_lock import folder_holder
from dsstudy.records.record import Record
from dsstudy.spec.study import Study
from dsstudy.spec.trial import Trial

MOST_LOSSES = 5
"""How often a trial is restarted after its node, or its process there, has died."""

LOST_TRIAL_SECONDS = 60.0
"""How long to wait until a trial's processes on a lost node have ended."""


class RayCluster:
    """Runs a study's trials on a Ray cluster instead of this machine.

    Each node needs the project in the Python that runs ``ray start``, and the images in its own
    ``$DSSTUDY_DATA``. On a node that shares the study's folder, a trial trains in that folder, and
    resumes from its checkpoint if its node dies. Otherwise it trains in the node's
    ``$DSSTUDY_RUNS``, and its record is copied back at the end.

    Parameters
    ----------
    address
        The cluster's head, ``host:port``; ``auto`` for one that runs on this machine.

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
        """Raise an `InputError` for a trial that needs more than any node has."""
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
        """Return how many CPU slots and GPUs of one node a trial needs: one of each per rank."""
        needed = {"CPU": trial.processes}
        return needed | ({"GPU": trial.processes} if self._device(trial) == "cuda" else {})

    def _device(self, trial: Trial) -> str:
        """Return the kind of device on which a trial trains, the same on every node."""
        if trial.device != "auto":
            return trial.device
        return "cuda" if any(node.get("GPU") for node in self._nodes) else "cpu"

    def run(self, study: Study, trials: Sequence[Trial], bar: StudyBar) -> None:
        """Run as many trials at a time as the nodes have room for; copy their records back."""
        with _shared_folder_token(study.folder) as token:
            running = {self._start(trial, token): trial for trial in trials}
            try:
                while running:
                    bar.set_postfix_str(f"{len(running)} waiting or running")
                    (done,), _ = self._ray.wait(list(running))
                    trial = running.pop(done)
                    bar.finish_trial(trial, self._fetch(done, trial))
            finally:
                for task in running:
                    self._ray.cancel(task, force=True)
                self._ray.shutdown()

    def _start(self, trial: Trial, token: Path) -> Any:
        needs = self.needs(trial)
        # Each trial gets a process of its own, which shares neither threads nor GPUs.
        task = self._ray.remote(max_calls=1, max_retries=MOST_LOSSES)(train_on_node)
        parameters = trial.model_dump() | {"device": self._device(trial)}
        placed = task.options(name=trial.name, num_cpus=needs["CPU"], num_gpus=needs.get("GPU", 0))
        return placed.remote(parameters, str(token))

    def _fetch(self, task: Any, trial: Trial) -> str:
        """Write the files that a trial sends back; return a note about it for the user."""
        try:
            note, files = self._ray.get(task)
        except self._ray.exceptions.RayError as error:
            return f"lost {MOST_LOSSES} times with its node: {str(error).strip().splitlines()[0]}"
        for name in sorted(files, key="result.json".__eq__):  # last, as it ends the trial
            file = trial.folder / Path(name).name
            file.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(file) as stream:
                stream.write(files[name])
        return note


def _check_listening(address: str) -> None:
    """Check that something listens at ``host:port``; Ray would take minutes to notice."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=10).close()


def train_on_node(parameters: dict[str, Any], token: str) -> tuple[str, dict[str, bytes]]:
    """Run a trial's notebook on the current node.

    Parameters
    ----------
    parameters
        The trial's; its `output_dir` is in the study's folder.
    token
        A file in the study's folder; a node that sees it shares that folder.

    Returns
    -------
    note : str
        What the user should know about the trial besides its record.
    files : dict
        The record's files by name, without checkpoints; empty if the folder is shared.
    """
    trial, shared = Trial(**parameters), Path(token).exists()
    if not shared:
        own = runs_folder() / Path(token).parent.name / trial.name
        trial = trial.model_copy(update={"output_dir": str(own)})
    deadline = time.monotonic() + LOST_TRIAL_SECONDS
    while folder_holder(trial.folder) and time.monotonic() < deadline:
        time.sleep(0.5)
    note = run_notebook(trial)
    return note, {} if shared else _record_files(Record(trial.folder))


def _record_files(record: Record) -> dict[str, bytes]:
    """Return a record's files, except hidden ones: locks and unfinished files."""
    files = [file for file in record.folder.glob("[!.]*") if file.is_file()]
    return {file.name: file.read_bytes() for file in files}


@contextmanager
def _shared_folder_token(folder: Path) -> Iterator[Path]:
    """Create a file in a folder for a while; a node that sees the file shares the folder."""
    token = folder / f".shared-{uuid.uuid4()}.tmp"
    token.touch()
    try:
        yield token
    finally:
        token.unlink(missing_ok=True)
