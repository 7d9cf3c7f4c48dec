"""One rank of a trial: the part that is the same with and without a launcher."""

import contextlib
import faulthandler
import json
import os
import re
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
import torch.distributed as dist
from filelock import FileLock

from dsstudy.errors import InputError, reason_line
from dsstudy.images.data import load_data
from dsstudy.records.files import write_text
from dsstudy.records.folder_lock import folder_holder
from dsstudy.records.record import Record
from dsstudy.spec.trial import Trial
from dsstudy.training.loops import training_loop
from dsstudy.training.memory import saying_what_to_do
from dsstudy.training.models import build_model
from dsstudy.training.session import Session

PROFILED = "DSSTUDY_PROFILED"
"""The environment variable that makes ranks profile; `dsstudy.studies.profiling` sets it."""

_GLOO_LOST = re.compile(r"\[\S*/gloo/\S+:\d+\]|Gloo connectFullMesh failed")
"""gloo's errors name its source file. Unless a call was wrong, they mean a lost peer."""

_BACKEND_LOST = re.compile(
    r"ncclRemoteError|ncclSystemError|NCCL communicator was aborted|[Ww]atchdog|[Tt]imed? ?out"
    r"|[Cc]onnection|[Bb]roken pipe|[Ss]ocket|remote process"
)
"""NCCL's words for a lost peer or network; its other errors are the rank's own."""

LOST_RANK_SECONDS = 3.0
"""How long a rank that lost another one waits: launchers, which look once per second, must see the
other one's exit code first."""


def train_rank(
    trial: Trial,
    record: Record,
    device: torch.device,
    threads: int,
    rank: int = 0,
    fingerprint: str = "",
    watch: Callable[[dict[str, Any]], None] = lambda progress: None,
    start_from: Path | None = None,
) -> None:
    """Load the images, build the model, and hand both to the engine's loop.

    Parameters
    ----------
    trial, record, device, rank, watch, start_from
        As in `dsstudy.training.session.Session`.
    threads
        How many CPU threads this rank computes with.
    fingerprint
        As in `dsstudy.images.data.load_data`.

    Raises
    ------
    InputError
        The images cannot be read, or the record cannot be written: the disk is full, for example.
    torch.OutOfMemoryError
        The GPU's memory is too small; the message says what helps.
    """
    with saying_what_to_do(), _computing_with(threads):
        data = load_data(trial, device, fingerprint)
        model = build_model(trial, len(data.classes))
        # Dropout: rank 0 draws what a single process would draw, every other rank its own.
        torch.manual_seed(int(np.random.SeedSequence([trial.seed, rank]).generate_state(1)[0]))
        session = _kind_of_session()(trial, data, record, device, rank, watch, start_from)
        with record.writable():
            training_loop(trial.engine)(trial, model, session)


@contextlib.contextmanager
def _computing_with(threads: int) -> Iterator[None]:
    """Have torch compute with a number of threads; the caller's number returns afterwards.

    torch reads ``OMP_NUM_THREADS`` when it is loaded, which may have been long before the trial.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _kind_of_session() -> type[Session]:
    if os.environ.get(PROFILED):
        from dsstudy.training.profiled_session import ProfiledSession

        return ProfiledSession
    return Session


def rank_lock(record: Record, rank: int) -> FileLock:
    """Return the lock that a launched rank holds while it lives."""
    return FileLock(record.folder / f".rank{rank}.lock")


def main() -> None:
    """Train as a rank that a launcher has started: ``python -m dsstudy.training.rank FOLDER``.

    An error is written to ``rank<rank>.json`` in the folder ``$DSSTUDY_ERRORS``, for the process
    that launched the trial.
    """
    _see_own_gpus()
    record, rank = Record(sys.argv[1]), int(os.environ["RANK"])
    faulthandler.register(signal.SIGUSR1)  # then a rank prints its stack
    _end_with(record)
    lock = rank_lock(record, rank)
    lock.acquire()  # another attempt's rank may still hold it
    if not _is_wanted(record):  # before anything is written
        os.killpg(0, signal.SIGKILL)
    errors = Path(os.environ["DSSTUDY_ERRORS"])
    # What launched it may be a stand-in of `warm_python`, with another process number.
    (errors / f"{rank}.{socket.gethostname()}.pid").write_text(str(os.getpid()))
    # A crash leaves its signal and stack there; the empty file says that the rank has started.
    crash = (errors / f"crash-rank{rank}.txt").open("w")
    faulthandler.enable(crash, all_threads=False)
    # DeepSpeed asks py-cpuinfo for the CPU's kind, which takes seconds; without it, it asks lscpu.
    sys.modules["cpuinfo"] = None  # type: ignore[assignment]
    trial = record.trial()
    assert trial is not None
    device = torch.device(os.environ["DSSTUDY_DEVICE"])
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    name = os.environ["DSSTUDY_CHECKPOINT"]
    start_from = record.checkpoints / name if name else None
    try:
        fingerprint, threads = os.environ["DSSTUDY_FINGERPRINT"], int(os.environ["OMP_NUM_THREADS"])
        train_rank(trial, record, device, threads, rank, fingerprint, start_from=start_from)
        dist.destroy_process_group()
    except (Exception, SystemExit) as error:  # a model may call sys.exit
        traceback.print_exc()
        _leave_error(errors / f"rank{rank}.json", rank, error)
        if is_lost_connection(error):
            time.sleep(LOST_RANK_SECONDS)
        os._exit(1)  # at once: its peers wait for this rank


def _see_own_gpus() -> None:
    """Let this rank see the GPUs of the process that launched the trial, before torch looks.

    Where ``CUDA_VISIBLE_DEVICES`` holds identifiers, DeepSpeed's launcher replaces them by the
    numbers of the machine's first GPUs, which may be another trial's.
    """
    if own := os.environ.get("DSSTUDY_GPUS"):
        os.environ["CUDA_VISIBLE_DEVICES"] = own


def _leave_error(file: Path, rank: int, error: BaseException) -> None:
    description = {
        "rank": rank,
        "time": time.time(),
        "error": reason_line(error),
        "traceback": "".join(traceback.format_exception(error)),
        "lost_connection": is_lost_connection(error),  # because another rank ended first
        "input": str(error) if isinstance(error, InputError) else "",  # it needs no traceback
    }
    with contextlib.suppress(OSError):  # if the disk is full, the log has the traceback
        write_text(file, json.dumps(description))


def is_lost_connection(error: BaseException) -> bool:
    """Whether an error only says that another rank, or the connection to it, is lost.

    The types and words are those of torch's store, NCCL and gloo: a model's own error may also
    mention connections.
    """
    if isinstance(error, dist.DistNetworkError | dist.DistStoreError):
        return True
    if isinstance(error, dist.DistError):
        return _BACKEND_LOST.search(str(error)) is not None
    # gloo raises a plain RuntimeError.
    return type(error) is RuntimeError and _GLOO_LOST.search(str(error)) is not None


def _end_with(record: Record) -> None:
    """End this rank and its launcher when the process that asked for the trial has ended.

    DeepSpeed's launcher is in the ranks' process group. torchrun is not; it ends with its ranks.
    """

    def watch() -> None:
        while _is_wanted(record):
            time.sleep(0.5)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def _is_wanted(record: Record) -> bool:
    """Whether the process that asked for the trial lives, or holds its folder from another host."""
    parent, host = int(os.environ["DSSTUDY_PARENT"]), os.environ["DSSTUDY_PARENT_HOST"]
    if host == socket.gethostname():
        return _lives(parent, float(os.environ["DSSTUDY_PARENT_STARTED"]))
    who = folder_holder(record.folder)
    return who is not None and (who["pid"], who["host"]) == (parent, host)


def _lives(pid: int, started: float) -> bool:
    """Whether a process lives: neither a later one with its number nor a zombie counts."""
    try:
        process = psutil.Process(pid)
        return process.create_time() == started and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


if __name__ == "__main__":
    main()
