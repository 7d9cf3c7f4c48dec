"""Launching: the ranks of a trial are started, watched, and ended as one."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock, Timeout

from dsstudy.errors import InputError
from dsstudy.launching.hostfile import check_reachable, hosts_command
from dsstudy.launching.machine import Machine, memory_kills, rank_environment
from dsstudy.records.record import Record
from dsstudy.spec.trial import Trial

START_SECONDS = 600.0
"""Seconds that ranks have at least to get to their first step: libraries load, ops may compile."""

PORT_TRIES = 3
"""How many ports are tried: another process may take a free one before the ranks do."""

RANKS_END_SECONDS = 60.0
"""Seconds to wait until the ranks of an attempt that was killed are gone; they see it in one."""


class TrialError(RuntimeError):
    """A trial ended by an error; the message holds the failing rank's own traceback."""

    def _render_traceback_(self) -> list[str]:
        return str(self).splitlines()


class InterruptedTrialError(TrialError):
    """A trial was ended from outside: it goes on when it is run again."""


def wait_for_earlier_ranks(record: Record) -> None:
    """Wait until no rank of an earlier attempt is left that could still write the record.

    That attempt may have been of another trial, of another engine, which is overwritten now.

    Raises
    ------
    InputError
        One does not end.
    """
    for lock in sorted(record.folder.glob(".rank*.lock")):
        try:
            with FileLock(lock).acquire(timeout=RANKS_END_SECONDS):
                pass
        except Timeout:
            raise InputError(
                f"a rank of an earlier attempt still runs in {record.folder}: end it (its "
                "command line holds that folder), then run the trial again"
            ) from None


def launch(
    trial: Trial,
    record: Record,
    machine: Machine,
    fingerprint: str,
    start_from: Path | None,
    show: Callable[[dict[str, Any]], None],
    stop_clock: Callable[[], None],
) -> None:
    """Train a trial through its engine's launcher.

    Parameters
    ----------
    trial, record, machine, fingerprint, start_from
        As in `dsstudy.training.rank.train_rank`.
    show
        Is given the ranks' progress.
    stop_clock
        Is called at the end of training, while the ranks' CPU time can still be read.

    Raises
    ------
    InputError
        A machine of the trial's hostfile cannot be reached.
    TrialError
        A rank failed, or hung; the message holds its own traceback.
    InterruptedTrialError
        The launcher or a rank was killed.
    """
    # Where ranks on other machines write into it too, the folder is beside the record.
    shared = None if trial.hostfile == "none" else record.folder
    if shared:
        check_reachable(trial)
    for attempt in range(PORT_TRIES):
        with tempfile.TemporaryDirectory(".tmp", ".errors-", shared) as errors:
            own = {
                "DSSTUDY_PARENT_HOST": socket.gethostname(),
                "DSSTUDY_PARENT": str(os.getpid()),
                "DSSTUDY_PARENT_STARTED": repr(psutil.Process().create_time()),
                "DSSTUDY_DEVICE": machine.device(trial),
                "DSSTUDY_FINGERPRINT": fingerprint,
                "DSSTUDY_CHECKPOINT": start_from.name if start_from else "",
                "DSSTUDY_ERRORS": errors,
                "DS_ENV_FILE": f"{errors}/environment",
            }
            ranks = _Ranks(trial, record, rank_environment(trial, machine) | own, Path(errors))
            try:
                hung = ranks.watch(show)
            finally:
                stop_clock()
                ranks.end()
            if ranks.done:
                return
            error = ranks.what_went_wrong(hung)
        if "EADDRINUSE" not in str(error) or attempt == PORT_TRIES - 1:
            raise error
        print("The port at which the ranks were to meet was taken meanwhile: trying another.")


def _launcher_command(trial: Trial, environment: dict[str, str], ranks: list[str]) -> list[str]:
    """Return the launcher's command; `ranks` is a module and its arguments.

    References
    ----------
    https://www.deepspeed.ai/getting-started/#launching-deepspeed-training,
    https://docs.pytorch.org/docs/stable/elastic/run.html
    """
    if trial.hostfile != "none":
        return hosts_command(trial, _free_port(), environment, ranks)
    commands = {
        "deepspeed": [
            "deepspeed",
            _local_slots(trial, environment),
            f"--master_port={_free_port()}",
            "--no_local_rank",
        ],
        "ddp": [
            "torchrun",
            "--standalone",  # it finds a free port by itself
            "--local_addr=127.0.0.1",
            "--nnodes=1",
            f"--nproc_per_node={trial.processes}",
            f"--log_dir={os.devnull}",  # otherwise it leaves a folder in /tmp
        ],
    }
    launcher, *options = commands[trial.engine]
    return [str(Path(sys.executable).parent / launcher), *options, "--module", *ranks]


def _local_slots(trial: Trial, environment: dict[str, str]) -> str:
    """Say how many ranks DeepSpeed is to start, and on which GPUs if not all are ours to use.

    Told a number alone, it takes the machine's first GPUs, whatever CUDA_VISIBLE_DEVICES says.
    """
    visible = environment.get("CUDA_VISIBLE_DEVICES", "").split(",")
    if environment["DSSTUDY_DEVICE"] == "cuda" and all(number.isdecimal() for number in visible):
        return f"--include=localhost:{','.join(visible[: trial.processes])}"
    return f"--num_accelerators={trial.processes}"


class _Ranks:
    """The launcher's process and all that it started, ended as one."""

    def __init__(self, trial: Trial, record: Record, environment: dict[str, str], errors: Path):
        self.trial, self.record, self.errors = trial, record, errors
        self.log = record.folder / "launch.log"
        self.memory_kills = memory_kills()
        self.done = False
        self.log.unlink(missing_ok=True)  # what is left of an earlier launcher may still write it
        with self.log.open("wb") as log:
            self.launcher = subprocess.Popen(
                _launcher_command(
                    trial, environment, ["dsstudy.training.rank", str(record.folder)]
                ),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def watch(self, show: Callable[[dict[str, Any]], None]) -> str:
        """Wait for the end of the training, or of the ranks.

        Returns
        -------
        str
            What the watchdog saw, if it ended the wait; otherwise nothing.
        """
        limit, seen, at = self.trial.watchdog_seconds, None, time.monotonic()
        while self.launcher.poll() is None and not self.done:
            time.sleep(0.1)
            progress = self.record.progress()
            if progress != seen:
                seen, at = progress, time.monotonic()
            if progress:
                show(progress)
            patience = limit if limit == "none" or progress else max(limit, START_SECONDS)
            if patience != "none" and time.monotonic() - at > patience:
                return self._where_they_stand(seen)
            # Rank 0 writes the last epoch last: the launcher's own way out takes three seconds.
            self.done = self._trained()
        self.done = self._trained()
        return ""

    def end(self) -> None:
        """End them all, by force after 3 s, so that none is left behind."""
        sign = signal.SIGKILL if self.done else signal.SIGTERM
        while living := self._processes():
            for process in living:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(sign)
            deadline = time.monotonic() + 3
            while self._processes() and time.monotonic() < deadline:
                time.sleep(0.05)
            sign = signal.SIGKILL
        self.launcher.wait()

    def what_went_wrong(self, hung: str) -> TrialError:
        """Say why the ranks ended before the training did."""
        if hung:
            return TrialError(hung)
        errors = [json.loads(file.read_text()) for file in self.errors.glob("rank*.json")]
        causes = [error for error in errors if not error["lost_connection"]]
        if causes:
            first = min(causes, key=lambda error: error["time"])
            if first["input"]:
                return InterruptedTrialError(first["error"].partition(": ")[2])
            return TrialError(
                f"{first['traceback']}\nrank {first['rank']} of {self.trial.processes} failed with "
                f"{first['error']} (everything the ranks printed: {self.log})"
            )
        silent = sorted(set(range(self.trial.processes)) - {error["rank"] for error in errors})
        who = f"rank {silent[0]}" if len(silent) == 1 and errors else "the launcher or a rank"
        tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])
        why = "killed" if memory_kills() == self.memory_kills else OUT_OF_MEMORY
        return InterruptedTrialError(
            f"{tail}\n{who} was ended from outside, without an error of its own: {why} (launcher's "
            f"exit code {self.launcher.returncode}; log: {self.log}); run the trial again to go on"
        )

    def _trained(self) -> bool:
        return len(self.record.epochs()) == self.trial.epochs

    def _processes(self) -> list[psutil.Process]:
        """Find the launcher and what it started, by an environment variable that they inherit.

        They are no group of processes: torchrun gives each rank a session of its own.
        """
        return [
            process
            for process in psutil.process_iter(["environ"])
            if (process.info["environ"] or {}).get("DSSTUDY_ERRORS") == str(self.errors)
        ]

    def _where_they_stand(self, progress: dict[str, Any] | None) -> str:
        """Have every rank print its stack into the log, and say how far they had come."""
        stopped = []
        for process in self._processes():
            rank = process.info["environ"].get("RANK")
            if rank is None:
                continue
            with contextlib.suppress(psutil.NoSuchProcess):  # it may end meanwhile
                if process.status() == psutil.STATUS_STOPPED:
                    stopped.append(rank)
                process.send_signal(signal.SIGUSR1)
        time.sleep(0.5)
        where = "before the first step"
        if progress:
            where = f"at epoch {progress['epoch']}, step {progress['step']}"
        who = f"rank {' and '.join(sorted(stopped))} was stopped from outside; " if stopped else ""
        return (
            f"no rank got any further for {self.trial.watchdog_seconds} s, {where}: ended by the "
            f"watchdog ({who}where each rank stood is at the end of {self.log}). If a step may "
            "take that long here, set watchdog_seconds to more, or to none"
        )


OUT_OF_MEMORY = (
    "killed by the system, which had run out of memory: set a smaller batch_size or image_size, or "
    "free memory"
)
"""The reason for a kill during which the system ended processes for want of memory."""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
