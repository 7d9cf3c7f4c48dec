"""Execute a trial's notebook by papermill, or write the command line that does so."""

import shlex
from typing import TYPE_CHECKING, Any, NamedTuple

from dsstudy.errors import InputError, last_line, reason_line, reason_of
from dsstudy.launching.crashes import Crash, crash_epoch, crash_reason, crash_signal
from dsstudy.launching.machine import memory_kills
from dsstudy.paths import project_root
from dsstudy.records.folder_lock import hold_folder
from dsstudy.records.record import Record
from dsstudy.spec.trial import TEXTS, Trial

if TYPE_CHECKING:  # slow to import
    from dsstudy.launching.warm_kernels import WarmKernelManager

KERNEL_START_SECONDS = 600
"""Seconds for a kernel to load its libraries; papermill notices at once when a kernel dies."""

_WHOLE = ("InputError", "TrialError", "InterruptedTrialError", "CrashedTrialError")
"""The errors whose last line is the whole reason already."""


def trial_command(trial: Trial) -> list[str]:
    """Return the papermill command line that runs a trial anywhere."""
    command = ["papermill", "notebooks/trial.ipynb", f"{trial.folder}/trial.ipynb"]
    for name, value in trial.model_dump().items():
        # -r: with -p, papermill reads a folder named 2026 as a number.
        command += ["-r" if name in TEXTS else "-p", name, str(value)]
    return command


def shell_line(trial: Trial) -> str:
    """Return `trial_command` as a line for ``sh`` in the project's folder."""
    # papermill does not create the folder that it writes to.
    return f"{shlex.join(['mkdir', '-p', str(trial.folder)])} && {shlex.join(trial_command(trial))}"


def run_notebook(trial: Trial, manager: "type[WarmKernelManager] | None" = None) -> str:
    """Execute the trial's notebook, and make sure that the record states how it ended.

    Parameters
    ----------
    trial
        The trial.
    manager
        Manages the notebook's kernel; by default one with the environment of this process.

    Returns
    -------
    str
        What the user should know beyond the record; usually empty.
    """
    import papermill

    from dsstudy.launching.warm_kernels import kernel_manager

    manager = manager or kernel_manager({})
    record, killed = Record(trial.folder), memory_kills()
    before = _result_of_last_attempt(record)
    record.folder.mkdir(parents=True, exist_ok=True)
    try:
        papermill.execute_notebook(
            project_root() / "notebooks" / "trial.ipynb",
            record.folder / "trial.ipynb",
            parameters=trial.model_dump(),
            progress_bar=False,
            request_save_on_cell_execute=False,
            kernel_manager_class=manager,
            start_timeout=KERNEL_START_SECONDS,
            shutdown_kernel="immediate",  # the record is written: do not wait for torch to exit
        )
    except Exception as error:
        kernel = manager.newest
        code = kernel.poll() if kernel else None
        failure = _notebook_failure(error, memory_kills() > killed, code)
        return _note_failure(failure, trial, record, before)
    return ""


def _result_of_last_attempt(record: Record) -> dict[str, Any] | None:
    try:
        return record.result()
    except InputError:  # damaged: the notebook says so
        return None


class _Failure(NamedTuple):
    """Why a notebook failed: the last line is the reason."""

    text: str
    outside: bool  # not the trial's own fault
    crash: Crash | None = None


def _notebook_failure(
    error: Exception, out_of_memory: bool, exit_code: int | None = None
) -> _Failure:
    from papermill.exceptions import PapermillExecutionError

    if isinstance(error, PapermillExecutionError):  # what a cell has raised
        return _Failure(f"{error}\n{_cell_reason(error.ename, error.evalue)}", outside=False)
    # nbclient's DeadKernelError, or jupyter_client's error of a kernel that never answered.
    if isinstance(error, RuntimeError) and "Kernel died" in str(error):
        return _dead_kernel(out_of_memory, exit_code)
    return _Failure(reason_line(error), outside=isinstance(error, RuntimeError | OSError))


def _cell_reason(kind: str, message: str) -> str:
    if kind in _WHOLE:
        return f"{kind}: {last_line(message)}"
    return reason_of(kind, message)


def _dead_kernel(out_of_memory: bool, code: int | None) -> _Failure:
    who = "the notebook's kernel"
    if name := crash_signal(code):
        crash = Crash(who, name)
        return _Failure(str(crash), outside=True, crash=crash)
    if code is not None and code >= 0:
        return _Failure(f"{who} ended itself with exit code {code}, without an error", False)
    killed = "killed by the system, which had run out of memory" if out_of_memory else "killed"
    return _Failure(f"{who} was {killed}; run the study again to resume it", outside=True)


def _note_failure(
    failure: _Failure, trial: Trial, record: Record, before: dict[str, Any] | None
) -> str:
    """Record a notebook's failure unless the record states it; return what the user should know."""
    reason, outside, epoch = failure.text, failure.outside, None
    if record.finished:
        return f"trained to its end, but its notebook failed: {last_line(reason)} (see trial.ipynb)"
    if record.result() is not None:
        return ""  # the trial failed, and the record says why
    if failure.crash:
        reason, again = crash_reason(failure.crash, record, before)
        outside, epoch = not again, crash_epoch(record)
    try:
        with hold_folder(record.folder):
            record.start(trial.model_copy(update={"overwrite": False}))  # keeps what is recorded
            record.fail(reason, outside, epoch)
    except (InputError, OSError):
        return last_line(reason)  # another process's record, or a disk without space
    return ""
