"""A trial's notebook, executed by papermill, and the command that does it anywhere."""

import shlex

from dsstudy.errors import InputError
from dsstudy.launching.machine import memory_kills
from dsstudy.paths import project_root
from dsstudy.records.folder_lock import hold_folder
from dsstudy.records.record import Record
from dsstudy.spec.trial import TEXTS, Trial

KERNEL_START_SECONDS = 600
"""Seconds for a kernel to load its libraries; of one that has died, papermill knows at once."""


def trial_command(trial: Trial) -> list[str]:
    """Return the papermill command line that runs a trial anywhere."""
    command = ["papermill", "notebooks/trial.ipynb", f"{trial.folder}/trial.ipynb"]
    for name, value in trial.model_dump().items():
        # -r: papermill would take a folder that is called 2026 for a number.
        command += ["-r" if name in TEXTS else "-p", name, str(value)]
    return command


def shell_line(trial: Trial) -> str:
    """Return `trial_command` as a line for ``sh``, in the project's folder."""
    # papermill writes into no folder that is not there.
    return f"{shlex.join(['mkdir', '-p', str(trial.folder)])} && {shlex.join(trial_command(trial))}"


def run_notebook(trial: Trial) -> str:
    """Execute the trial's notebook, and see to it that the record states how it ended.

    Returns
    -------
    str
        What the user should know and the record does not say; mostly nothing.
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
            shutdown_kernel="immediate",  # the record is written: no waiting for torch's way out
        )
    except Exception as error:
        return _note_failure(error, trial, record, out_of_memory=memory_kills() > killed)
    return ""


def _note_failure(error: Exception, trial: Trial, record: Record, out_of_memory: bool) -> str:
    """See what a notebook's error means for the trial, and note it where nobody else did."""
    words = str(error).strip().splitlines() or [type(error).__name__]
    if record.finished:
        return f"trained to its end, but its notebook was not: {words[-1]} (see trial.ipynb there)"
    if record.result() is not None:
        return ""  # the trial failed, and says why itself
    # What a cell raises comes as an error of papermill's own; one of these, from its client.
    if isinstance(error, RuntimeError) and "died" in words[-1]:
        why = "the notebook's kernel was killed"
        if out_of_memory:
            why += " by the system, which had run out of memory"
        words = [f"{why}; run the study again to go on"]
    outside = isinstance(error, RuntimeError | OSError)  # not the trial's own doing
    try:
        with hold_folder(record.folder):
            # Whatever the trial says: what it has recorded by now stays.
            record.start(trial.model_copy(update={"overwrite": False}))
            record.fail("\n".join(words), interrupted=outside)
    except (InputError, OSError):
        return words[-1]  # somebody else's record, or a disk that takes no word more
    return ""
