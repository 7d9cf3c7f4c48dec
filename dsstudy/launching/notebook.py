"""Execute a trial's notebook by papermill, or write the command line that does so."""

import shlex

from dsstudy.errors import InputError, last_line
from dsstudy.launching.machine import memory_kills
from dsstudy.paths import project_root
from dsstudy.records.folder_lock import hold_folder
from dsstudy.records.record import Record
from dsstudy.spec.trial import TEXTS, Trial

KERNEL_START_SECONDS = 600
"""Seconds for a kernel to load its libraries; papermill notices at once when a kernel dies."""


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


def run_notebook(trial: Trial) -> str:
    """Execute the trial's notebook, and make sure that the record states how it ended.

    Returns what the user should know beyond the record; usually empty.
    """
    import papermill

    from dsstudy.launching.warm_kernels import WarmKernelManager

    record, killed = Record(trial.folder), memory_kills()
    record.folder.mkdir(parents=True, exist_ok=True)
    try:
        papermill.execute_notebook(
            project_root() / "notebooks" / "trial.ipynb",
            record.folder / "trial.ipynb",
            parameters=trial.model_dump(),
            progress_bar=False,
            request_save_on_cell_execute=False,
            kernel_manager_class=WarmKernelManager,
            start_timeout=KERNEL_START_SECONDS,
            shutdown_kernel="immediate",  # the record is written: do not wait for torch to exit
        )
    except Exception as error:
        return _note_failure(error, trial, record, out_of_memory=memory_kills() > killed)
    return ""


def _note_failure(error: Exception, trial: Trial, record: Record, out_of_memory: bool) -> str:
    """Record a notebook's failure unless the record states it; return what the user should know."""
    reason = str(error).strip() or type(error).__name__
    if record.finished:
        return f"trained to its end, but its notebook failed: {last_line(reason)} (see trial.ipynb)"
    if record.result() is not None:
        return ""  # the trial failed, and the record says why
    # papermill has an error of its own for what a cell raises; this one comes from its client.
    outside = isinstance(error, RuntimeError | OSError)  # not the trial's own fault
    if isinstance(error, RuntimeError) and "died" in last_line(reason):
        killed = "killed by the system, which had run out of memory" if out_of_memory else "killed"
        reason = f"the notebook's kernel was {killed}; run the study again to resume it"
    try:
        with hold_folder(record.folder):
            record.start(trial.model_copy(update={"overwrite": False}))  # keeps what is recorded
            record.fail(reason, interrupted=outside)
    except (InputError, OSError):
        return last_line(reason)  # another process's record, or a disk without space
    return ""
