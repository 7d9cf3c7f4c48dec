"""Running one trial: in this process, or through a launcher that starts its ranks."""

import contextlib
import io
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import torch
from tqdm import tqdm

from dsstudy.data import ImageData, load_data
from dsstudy.engines import LAUNCHED
from dsstudy.machine import Machine, environment, problems, rank_environment
from dsstudy.rank import train_rank
from dsstudy.record import Record
from dsstudy.trial import InputError, Trial

SHARED_CORES = 0.15
"""CPU use of others, in cores, from which on a trial's times count as ``shared``."""


class TrialError(RuntimeError):
    """A trial ended by an error; the message holds the failing rank's own traceback."""

    def _render_traceback_(self) -> list[str]:
        return str(self).splitlines()


def run_trial(trial: Trial) -> Record:
    """Train a trial and return its record; one that is finished already is returned as it is.

    Parameters
    ----------
    trial
        What to train. Its `folder` receives the record; `overwrite` trains a finished one again.

    Returns
    -------
    Record
        Finished, ``completed`` or ``diverged``.

    Raises
    ------
    InputError
        This machine cannot run the trial, or its folder holds another one: nothing was written.
    TrialError
        Training ended by an error, which the record states too.
    """
    record = Record(trial.folder)
    record.check_free_for(trial)
    if record.finished and not trial.overwrite:
        print(f"{record.folder} holds this trial, finished: shown, not trained again "
              "(overwrite = True would)")  # fmt: skip
        return record
    machine = Machine.here()
    if found := problems(trial, machine):
        raise InputError(found[0])
    clock = _Clock()
    data = load_data(trial)
    record.start(trial)
    error = None
    bar = TrialBar(trial)
    try:
        if trial.engine in LAUNCHED:
            error = _launch(trial, record, machine, data.fingerprint, bar, clock)
        else:
            train_rank(trial, record, torch.device(machine.device(trial)), watch=bar.show)
    except Exception as raised:
        error = f"{traceback.format_exc()}\n{type(raised).__name__}: {raised}"
    finally:
        clock.stop()
        bar.close()
        (record.folder / "progress.json").unlink(missing_ok=True)
    record.finish(_result(record, trial, machine, data, clock, error))
    if error:
        raise TrialError(error)
    return record


class TrialBar(tqdm):
    """A progress bar over a trial's steps: epoch, step, loss, accuracy, time left.

    In a notebook it is one output that is updated in place, so that its last state is what an
    executed notebook keeps.
    """

    def __init__(self, trial: Trial):
        self.handle = _notebook_display()
        super().__init__(
            desc=f"starting {trial.processes} ranks" if trial.processes > 1 else "starting",
            total=None,
            bar_format="{desc} {bar:24} {percentage:3.0f} % [{elapsed}, {remaining} left]",
            mininterval=0,
            ascii=False,
            file=io.StringIO() if self.handle else sys.stderr,
        )

    def show(self, progress: dict[str, Any]) -> None:
        """Show a training's progress, as `Session` tells it."""
        self.total = progress["epochs"] * progress["steps"]
        self.n = (progress["epoch"] - 1) * progress["steps"] + progress["step"]
        loss, accuracy = progress["loss"], progress["accuracy"]
        self.set_description_str(
            f"epoch {progress['epoch']}/{progress['epochs']}"
            f"  step {progress['step']:,}/{progress['steps']:,}"
            f"  loss {'not finite' if loss is None else f'{loss:.3f}'}"
            f"  test accuracy {'–' if accuracy is None else f'{accuracy:.2f} %'}"
        )

    def display(self, *args: Any, **kwargs: Any) -> None:
        """Draw the bar where it belongs: in the notebook's output, or on the terminal."""
        if self.handle:
            self.handle.update({"text/plain": str(self)}, raw=True)
        else:
            super().display(*args, **kwargs)


def _notebook_display() -> Any:
    if "ipykernel" not in sys.modules:
        return None
    from IPython.display import display

    return display({"text/plain": "starting"}, raw=True, display_id=True)


def _launch(
    trial: Trial,
    record: Record,
    machine: Machine,
    fingerprint: str,
    bar: TrialBar,
    clock: "_Clock",
) -> str | None:
    """Start the ranks through DeepSpeed's launcher and watch them to their end.

    Returns
    -------
    str or None
        What went wrong, with the failing rank's traceback; None if nothing did.
    """
    command = [
        str(Path(sys.executable).parent / "deepspeed"),
        f"--num_accelerators={trial.processes}",
        f"--master_port={_free_port()}",
        "--no_local_rank",
        "--module",
        "dsstudy.rank",
        str(record.folder),
    ]
    own = {"DSSTUDY_PARENT": str(os.getpid()), "DSSTUDY_FINGERPRINT": fingerprint}
    with (record.folder / "launch.log").open("wb") as log:
        launcher = subprocess.Popen(
            command,
            env=rank_environment(trial, machine) | own,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a group of their own, to be ended as one
        )
    done = False
    try:
        while launcher.poll() is None and not done:
            time.sleep(0.1)
            if progress := record.progress():
                bar.show(progress)
            # Rank 0 writes the last epoch last: the launcher's own way out takes three seconds.
            done = len(record.epochs()) == trial.epochs
    finally:
        clock.stop()  # while the ranks' CPU time can still be read
        _end_group(launcher, signal.SIGKILL if done else signal.SIGTERM)
    if len(record.epochs()) == trial.epochs:
        return None
    return _what_went_wrong(record, trial, launcher.returncode)


def _end_group(launcher: subprocess.Popen, sign: signal.Signals) -> None:
    """End the launcher and all its ranks, by force after 3 s, so that none is left behind."""
    for attempt in (sign, signal.SIGKILL):
        try:
            os.killpg(launcher.pid, attempt)
        except ProcessLookupError:
            break
        deadline = time.monotonic() + 3
        while launcher.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
    launcher.wait()


def _what_went_wrong(record: Record, trial: Trial, code: int) -> str:
    log = record.folder / "launch.log"
    errors = [json.loads(file.read_text()) for file in record.folder.glob("error-rank*.json")]
    causes = [error for error in errors if not error["lost_connection"]]
    if causes:
        first = min(causes, key=lambda error: error["time"])
        return (
            f"{first['traceback']}\nrank {first['rank']} of {trial.processes} failed with "
            f"{first['error']} (everything the ranks printed: {log})"
        )
    silent = sorted(set(range(trial.processes)) - {error["rank"] for error in errors})
    who = f"rank {silent[0]}" if len(silent) == 1 and errors else "the launcher or a rank"
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
    return (
        f"{tail}\n{who} was ended from outside, without an error of its own: killed, or stopped "
        f"by the system for want of memory (launcher's exit code {code}; log: {log})"
    )


def _result(
    record: Record,
    trial: Trial,
    machine: Machine,
    data: ImageData,
    clock: "_Clock",
    error: str | None,
) -> dict[str, Any]:
    epochs = record.epochs()
    accuracies = [epoch["test_accuracy"] for epoch in epochs]
    seconds = [epoch["train_seconds"] for epoch in epochs]
    finite = all(
        epoch[loss] is not None for epoch in epochs for loss in ("train_loss", "test_loss")
    )
    status = "failed" if error else "completed" if finite else "diverged"
    return {
        "status": status,
        "best_accuracy": max(accuracies, default=None),
        "final_accuracy": accuracies[-1] if accuracies else None,
        # The first epoch warms up caches and allocators: left out where there are more.
        "seconds_per_epoch": statistics.median(seconds[1:] or seconds) if seconds else None,
        "wall_seconds": clock.seconds,
        "startup_seconds": epochs[0]["started_at"] - clock.started_at if epochs else None,
        "timing": clock.timing,
        "error": error,
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": environment(machine)
        | {
            "device": machine.device(trial),
            "dataset": {
                "name": data.name,
                "fingerprint": data.fingerprint,
                "train_images": len(data.train),
                "test_images": len(data.test),
                "classes": len(data.classes),
            },
        },
    }


class _Clock:
    """A trial's time on the clock, and whether the machine did anything else meanwhile.

    Attributes
    ----------
    seconds : float
        From the beginning to the first `stop`.
    timing : str
        ``exclusive`` if other processes left the CPU to the trial meanwhile, else ``shared``.
    """

    def __init__(self) -> None:
        self.started_at = time.time()
        self._began = time.perf_counter()
        self._others = self._cpu_seconds_of_others()
        self.seconds, self.timing = 0.0, ""

    def stop(self) -> None:
        if not self.timing:
            self.seconds = time.perf_counter() - self._began
            used = self._cpu_seconds_of_others() - self._others
            self.timing = "exclusive" if used < SHARED_CORES * self.seconds else "shared"

    @staticmethod
    def _cpu_seconds_of_others() -> float:
        everyone, own = psutil.cpu_times(), sum(os.times()[:4])  # with children that have ended
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                own += sum(child.cpu_times()[:4])
        return everyone.user + everyone.system + everyone.nice - own


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
