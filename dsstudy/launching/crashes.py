"""Processes that a fault in their own code ended: by which signal, and whether ever before."""

import re
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsstudy.records.record import Record

_CRASHES = {
    number.value: number.name
    for number in (
        signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL,
        signal.SIGTRAP, signal.SIGSYS,
    )
}  # fmt: skip

_FAULTHANDLER = {
    "Segmentation fault": signal.SIGSEGV,
    "Bus error": signal.SIGBUS,
    "Aborted": signal.SIGABRT,
    "Floating point exception": signal.SIGFPE,
    "Floating-point exception": signal.SIGFPE,
    "Illegal instruction": signal.SIGILL,
}
"""Python's words for the signals that it reports."""

# What DeepSpeed's launcher, and torchrun, say of a rank that ended.
_REPORTED = re.compile(r"(?:exits with return code = |exitcode *: *)(-?\d+)")

_PEER_ABORT = "terminate called after throwing an instance of 'c10::Dist"
"""NCCL's watchdog ends a rank by SIGABRT where it has lost another one."""


@dataclass(frozen=True)
class Crash:
    """A signal that ended a process: whose, which, the Python frames if known, and when."""

    who: str
    signal: str
    stack: str = ""
    time: float = float("inf")

    def __str__(self) -> str:
        meaning = signal.strsignal(signal.Signals[self.signal]) or ""
        return f"{self.who} was ended by {self.signal} ({meaning.lower()})"


def crash_signal(exit_code: int | None) -> str:
    """Return the signal's name if a process ended by a fault of its own code; otherwise nothing.

    Parameters
    ----------
    exit_code
        As of `subprocess`: below 0 for a signal; a shell adds 128 to its number.
    """
    number = 0 if exit_code is None else -exit_code if exit_code < 0 else exit_code - 128
    return _CRASHES.get(number, "")


def reported_exit_codes(log: str) -> list[int]:
    """Return the exit codes of ranks that a launcher's log states."""
    return [int(code) for code in _REPORTED.findall(log)]


def first_crash(stacks: Path, log: str) -> Crash | None:
    """Return the first crash of a rank, from what Python left in a folder or the launcher's log.

    Parameters
    ----------
    stacks
        The folder in which each rank has a file ``crash-rank<rank>.txt`` for `faulthandler`.
    log
        What launcher and ranks printed.
    """
    if _PEER_ABORT in log:
        return None
    found = [crash for file in stacks.glob("crash-rank*.txt") if (crash := _read_crash(file))]
    if found:
        return min(found, key=lambda crash: crash.time)
    names = [name for code in reported_exit_codes(log) if (name := crash_signal(code))]
    return Crash("a rank", names[0]) if names else None


def _read_crash(file: Path) -> Crash | None:
    text = file.read_text(errors="replace")
    words = re.search(r"Fatal Python error: (.+)", text)
    if not words or words[1] not in _FAULTHANDLER:
        return None
    stack = text.partition("\nExtension modules:")[0].strip()
    rank = file.stem.removeprefix("crash-rank")
    return Crash(f"rank {rank}", _FAULTHANDLER[words[1]].name, stack, file.stat().st_mtime)


def crash_reason(crash: Crash, record: Record, before: dict[str, Any] | None) -> tuple[str, bool]:
    """Return why a trial ended, and whether that is to be taken for a failure of its own.

    A first crash may be the machine's: the trial resumes when it is run again. A second one in the
    same epoch is not.

    Parameters
    ----------
    crash
        What ended it.
    record
        The trial's record.
    before
        The result of its last attempt, if there was one.
    """
    epoch = crash_epoch(record)
    again = before is not None and before.get("crashed_in_epoch") == epoch
    advice = "run the trial again to resume it"
    if again:
        advice = (
            "it ended at the same place before, so it counts as failed: correct the model, then "
            "run the trial again"
        )
    return f"{crash} in epoch {epoch}, a fault in the code that it ran; {advice}", again


def crash_epoch(record: Record) -> int:
    """Return the epoch in which a training that does not run any more has ended."""
    return len(record.epochs()) + 1
