"""Start, watch and end the ranks of a trial as one."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock, Timeout

from dsstudy.errors import InputError
from dsstudy.launching.launcher_command import check_reachable, launcher_command
from dsstudy.launching.machine import memory_kills
from dsstudy.launching.placement import Placement
from dsstudy.records.record import Record
from dsstudy.spec.trial import Trial

START_SECONDS = 600.0
"""Seconds that ranks have at least until their first step: they load libraries and compile ops."""

PORT_TRIES = 3
"""How many ports to try: another process may take a free one before the ranks do."""

RANKS_END_SECONDS = 60.0
"""Seconds to wait for the ranks of a killed attempt to end; they notice within a second."""

OUT_OF_MEMORY = (
    "killed by the system, which had run out of memory: set a smaller batch_size or image_size, or "
    "free memory"
)
"""The reason for a kill during which the system killed processes because memory ran out."""


class TrialError(RuntimeError):
    """A trial failed; the message holds the failing rank's own traceback."""

    def _render_traceback_(self) -> list[str]:
        return str(self).splitlines()


class InterruptedTrialError(TrialError):
    """A trial was ended from outside; running it again resumes it."""


def wait_for_old_ranks(record: Record) -> None:
    """Wait until no rank of an earlier attempt can still write the record.

    That attempt may have been of a trial with another engine, which is being overwritten.

    Raises
    ------
    InputError
        A rank does not end.
    """
    for lock in sorted(record.folder.glob(".rank*.lock")):
        try:
            with FileLock(lock).acquire(timeout=RANKS_END_SECONDS):
                pass
        except Timeout:
            raise InputError(
                f"a rank of an earlier attempt still runs in {record.folder}: end it (its "
                "command line names that folder), then run the trial again"
            ) from None


def launch(
    trial: Trial,
    record: Record,
    placement: Placement,
    fingerprint: str,
    start_from: Path | None,
    show: Callable[[dict[str, Any]], None],
    stop_clock: Callable[[], None],
) -> None:
    """Train a trial through its engine's launcher.

    Parameters
    ----------
    trial, record, fingerprint, start_from
        As in `dsstudy.training.rank.train_rank`.
    placement
        Where the trial runs.
    show
        Called with the ranks' progress.
    stop_clock
        Called at the end of training, while the ranks' CPU time can still be read.

    Raises
    ------
    InputError
        A machine of the trial's hostfile cannot be reached.
    TrialError
        A rank failed or hung.
    InterruptedTrialError
        The launcher or a rank was killed.
    """
    # Ranks on other machines write their errors there too: it must be on shared storage.
    shared = record.folder if placement.hosts else None
    if shared:
        check_reachable(trial, placement)
    for attempt in range(PORT_TRIES):
        with tempfile.TemporaryDirectory(".tmp", ".errors-", shared) as errors:
            own = {
                "DSSTUDY_PARENT_HOST": socket.gethostname(),
                "DSSTUDY_PARENT": str(os.getpid()),
                "DSSTUDY_PARENT_STARTED": repr(psutil.Process().create_time()),
                "DSSTUDY_FINGERPRINT": fingerprint,
                "DSSTUDY_CHECKPOINT": start_from.name if start_from else "",
                "DSSTUDY_ERRORS": errors,
                "DS_ENV_FILE": f"{errors}/environment",
            }
            there = replace(placement, environment=placement.environment | own)
            ranks = _Ranks(trial, record, there, Path(errors))
            try:
                hung = ranks.watch(show)
            finally:
                stop_clock()
                ranks.end()
            if ranks.done:
                return
            error = ranks.failure(hung)
        if "EADDRINUSE" not in str(error) or attempt == PORT_TRIES - 1:
            raise error
        print("Another process has taken the port where the ranks were to meet: trying another.")


class _Ranks:
    """The launcher's process and all processes that it started."""

    def __init__(self, trial: Trial, record: Record, placement: Placement, errors: Path):
        self.trial, self.record, self.errors = trial, record, errors
        self.log = record.folder / "launch.log"
        self.memory_kills = memory_kills()
        self.done = False
        self.log.unlink(missing_ok=True)  # an earlier launcher may still write to that file
        with self.log.open("wb") as log:
            self.launcher = subprocess.Popen(
                launcher_command(trial, placement, ["dsstudy.training.rank", str(record.folder)]),
                env=placement.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def watch(self, show: Callable[[dict[str, Any]], None]) -> str:
        """Wait until training or the ranks end; return why the watchdog ended the wait, if so."""
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
                return self._hang_text(seen)
            # Rank 0 writes the last epoch last; the launcher takes three more seconds to exit.
            self.done = self._trained()
        self.done = self._trained()
        return ""

    def end(self) -> None:
        """End all processes, by force after 3 s."""
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

    def failure(self, hung: str) -> TrialError:
        """Return the error that says why the ranks ended before the training did."""
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
            f"{tail}\n{who} was ended from outside, without an error of its own: {why} "
            f"(launcher's exit code {self.launcher.returncode}; log: {self.log}); run the trial "
            "again to resume it"
        )

    def _trained(self) -> bool:
        return len(self.record.epochs()) == self.trial.epochs

    def _processes(self) -> list[psutil.Process]:
        """Find the launcher and what it started by an environment variable that they inherit."""
        # Not by their process group: torchrun gives each rank a session of its own.
        return [
            process
            for process in psutil.process_iter(["environ"])
            if (process.info["environ"] or {}).get("DSSTUDY_ERRORS") == str(self.errors)
        ]

    def _hang_text(self, progress: dict[str, Any] | None) -> str:
        """Have every rank print its stack into the log, and say where training hangs."""
        stopped = []
        for process in self._processes():
            rank = process.info["environ"].get("RANK")
            if rank is None:
                continue
            with contextlib.suppress(psutil.NoSuchProcess):  # the rank may have ended
                if process.status() == psutil.STATUS_STOPPED:
                    stopped.append(rank)
                process.send_signal(signal.SIGUSR1)
        time.sleep(0.5)
        where = "before the first step"
        if progress:
            where = f"at epoch {progress['epoch']}, step {progress['step']}"
        who = f"rank {' and '.join(sorted(stopped))} was stopped from outside; " if stopped else ""
        return (
            f"no rank made progress for {self.trial.watchdog_seconds} s, {where}: ended by the "
            f"watchdog ({who}each rank's stack is at the end of {self.log}). If a step may take "
            "that long here, set watchdog_seconds to more, or to none"
        )
