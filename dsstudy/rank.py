"""One rank of a trial: the part that is the same in the notebook's process and under a launcher."""

import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
import torch.distributed as dist

from dsstudy.data import load_data
from dsstudy.engines import training_loop
from dsstudy.models import build_model
from dsstudy.record import Record
from dsstudy.session import Session
from dsstudy.trial import Trial


def train_rank(
    trial: Trial,
    record: Record,
    device: torch.device,
    rank: int = 0,
    fingerprint: str = "",
    watch: Callable[[dict[str, Any]], None] = lambda progress: None,
) -> None:
    """Load the images, build the model, and hand both to the engine's loop.

    Parameters
    ----------
    trial, record, device, rank, watch
        As in `dsstudy.session.Session`.
    fingerprint
        As in `dsstudy.data.load_data`.
    """
    data = load_data(trial, device, fingerprint)
    model = build_model(trial, len(data.classes))
    # Dropout: rank 0 draws what a single process would draw, every other rank its own.
    torch.manual_seed(int(np.random.SeedSequence([trial.seed, rank]).generate_state(1)[0]))
    session = Session(trial, data, record, device, rank, watch)
    training_loop(trial.engine)(trial, model, session)


def main() -> None:
    """Train as the rank that a launcher has started: ``python -m dsstudy.rank FOLDER``.

    An error is left in the trial's folder, ``error-rank<rank>.json``, for the process that
    launched the trial to read.
    """
    record, rank = Record(sys.argv[1]), int(os.environ["RANK"])
    _end_with(int(os.environ["DSSTUDY_PARENT"]))
    # Asked for the CPU's kind, py-cpuinfo measures for seconds in each rank; without it,
    # DeepSpeed asks lscpu.
    sys.modules["cpuinfo"] = None  # type: ignore[assignment]
    trial = record.trial()
    assert trial is not None
    device = torch.device(os.environ["DS_ACCELERATOR"])
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    try:
        train_rank(trial, record, device, rank, os.environ["DSSTUDY_FINGERPRINT"])
        dist.destroy_process_group()
    except Exception as error:
        traceback.print_exc()
        _leave_error(record.folder / f"error-rank{rank}.json", rank, error)
        os._exit(1)  # no waiting for peers that wait for this rank


def _leave_error(file: Path, rank: int, error: Exception) -> None:
    lost = isinstance(error, dist.DistError) or "onnection" in str(error)
    description = {
        "rank": rank,
        "time": time.time(),
        "error": "".join(traceback.format_exception_only(error)).strip(),
        "traceback": "".join(traceback.format_exception(error)),
        "lost_connection": lost,  # the mark of another rank's end, not a cause
    }
    file.write_text(json.dumps(description))


def _end_with(parent: int) -> None:
    """End this rank and its launcher as soon as the process that wanted the trial is gone."""

    def watch() -> None:
        while psutil.pid_exists(parent):
            time.sleep(0.5)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    main()
