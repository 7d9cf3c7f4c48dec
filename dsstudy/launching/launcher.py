"""Start, watch and end the ranks of a trial as one."""

import contextlib
import json
import os
import re
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

from dsstudy.errors import LONGEST_REASON, InputError, last_line
from dsstudy.launching.crashes import Crash, first_crash, reported_exit_codes
from dsstudy.launching.launcher_command import check_reachable, launcher_command
from dsstudy.launching.machine import memory_kills
from dsstudy.launching.placement import Placement
from dsstudy.launching.warm_python import warm_command
from dsstudy.records.record import Record
from dsstudy.spec.engines import ENGINES
from dsstudy.spec.trial import Trial

START_SECONDS = 600.0
"""Seconds that ranks have at least until their first step: they load libraries and compile ops."""

PORT_TRIES = 3
"""How many ports to try: another process may take a free one before the ranks do."""

RANKS_END_SECONDS = 60.0
"""Seconds to wait for the ranks of a killed attempt to end; they notice within a second."""

STACK_LINES = 60
"""How many lines of the log an error has for the stack of each rank that hangs."""

OUT_OF_MEMORY = (
    "killed by the system, which had run out of memory: set a smaller batch_size or image_size, or "
    "free memory"
)
"""The reason for a kill during which the system killed processes because memory ran out."""


_ERROR_LINE = re.compile(r"(?:^|\s)([\w.]*(?:Error|Exception): .+|error: .+)$", re.MULTILINE)
"""The last line of a traceback, or of a command that refuses its options."""


class TrialError(RuntimeError):
    """A trial failed; the last line of the message is the reason, above it are the details.

    Attributes
    ----------
    crashed_in_epoch : int or None
        The epoch in which a signal ended it because of the code that it ran.
    """

    crashed_in_epoch: int | None = None

    def _render_traceback_(self) -> list[str]:
        return str(self).splitlines()


class InterruptedTrialError(TrialError):
    """A trial was ended from outside; running it again resumes it."""


class CrashedTrialError(InterruptedTrialError):
    """A signal ended one of the trial's processes because of the code that it ran.

    Attributes
    ----------
    crash : Crash
        Which signal, and whom it ended.
    """

    def __init__(self, message: str, crash: Crash):
        super().__init__(message)
        self.crash = crash


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
            if not placement.hosts:
                own["DSSTUDY_GPUS"] = placement.environment.get("CUDA_VISIBLE_DEVICES", "")
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
        ranks = ["dsstudy.training.rank", str(record.folder)]
        command = launcher_command(trial, placement, ranks)
        if not placement.hosts:  # there, ssh starts the ranks
            command = warm_command(command, placement.environment)
        with self.log.open("wb") as log:
            self.launcher = subprocess.Popen(
                command,
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
        wait_for_old_ranks(self.record)  # a forked rank ends a moment after its stand-in

    def failure(self, hung: str) -> TrialError:
        """Return the error that says why the ranks ended before the training did."""
        log = self.log.read_text(errors="replace")
        if hung:
            return TrialError(self._text(_tail(log, STACK_LINES * self.trial.processes), hung))
        errors = [json.loads(file.read_text()) for file in self.errors.glob("rank*.json")]
        causes = [error for error in errors if not error["lost_connection"]]
        first = min(causes, key=lambda error: error["time"], default=None)
        crash = first_crash(self.errors, log)
        if crash and (first is None or crash.time < first["time"]):
            text = self._text(f"{_tail(log)}\n{crash.stack}", str(crash))
            return CrashedTrialError(text, crash)
        if first:
            return self._rank_error(first)
        if own := self._launchers_own_failure(log):
            return TrialError(self._text(_tail(log), own))
        return InterruptedTrialError(self._text(_tail(log), self._end_from_outside(errors)))

    def _text(self, details: str, reason: str) -> str:
        return f"{details}\nEverything that the ranks printed: {self.log}\n{reason}"

    def _rank_error(self, error: dict[str, Any]) -> TrialError:
        if error["input"]:
            return InterruptedTrialError(error["input"])
        who = f"rank {error['rank']} of {self.trial.processes}"
        return TrialError(self._text(error["traceback"], f"{who} failed with {error['error']}"))

    def _end_from_outside(self, errors: list[dict[str, Any]]) -> str:
        silent = sorted(set(range(self.trial.processes)) - {error["rank"] for error in errors})
        who = f"rank {silent[0]}" if len(silent) == 1 and errors else "the launcher or a rank"
        why = "killed" if memory_kills() == self.memory_kills else OUT_OF_MEMORY
        return (
            f"{who} was ended from outside, without an error of its own: {why} (launcher's exit "
            f"code {self.launcher.returncode}); run the trial again to resume it"
        )

    def _launchers_own_failure(self, log: str) -> str:
        """Say why the launcher gave up, or that a rank ended itself; nothing if neither did."""
        codes, code = reported_exit_codes(log), self.launcher.returncode
        if own := [number for number in codes if 1 < number < 128]:
            return f"a rank ended itself with exit code {own[0]}, without an error"
        started = any(self.errors.glob("crash-rank*.txt"))
        if started or code <= 0 or any(number < 0 for number in codes):
            return ""
        said = _ERROR_LINE.search(log)
        reason = last_line(said[1] if said else log) or f"exit code {code}, without a word"
        return (
            f"{ENGINES[self.trial.engine].launcher} failed before any rank had started: "
            f"{reason[:LONGEST_REASON]}"
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
        for file in self.errors.glob(f"*.{socket.gethostname()}.pid"):
            with contextlib.suppress(psutil.NoSuchProcess):  # the rank may have ended
                process = psutil.Process(int(file.read_text()))
                if process.status() == psutil.STATUS_STOPPED:
                    stopped.append(file.name.split(".")[0])
                process.send_signal(signal.SIGUSR1)
        time.sleep(0.5)
        where = "before the first step"
        if progress:
            where = f"at epoch {progress['epoch']}, step {progress['step']}"
        who = f"rank {' and '.join(sorted(stopped))} was stopped from outside; " if stopped else ""
        return (
            f"no rank made progress for {self.trial.watchdog_seconds} s, {where}: ended by the "
            f"watchdog ({who}each rank's stack is in the error's details). If a step may take that "
            "long here, set watchdog_seconds to more, or to none"
        )


def _tail(log: str, lines: int = 20) -> str:
    return "\n".join(log.splitlines()[-lines:])
