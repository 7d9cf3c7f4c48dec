"""The memory of a process: its peak, what a training holds in tensors, a GPU that lacks it."""

import contextlib
import gc
import resource
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch

from dsstudy.errors import message_of


@contextlib.contextmanager
def saying_what_to_do() -> Iterator[None]:
    """Add to the error of a GPU whose memory is full, inside the ``with`` statement, what helps."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        reason = message_of(error).split(". GPU ")[0]  # it goes on with many numbers
        raise torch.OutOfMemoryError(
            f"the GPU has too little memory for this trial ({reason}): set a smaller batch_size or "
            "image_size, spread the trial over more GPUs, or end other processes on this one"
        ) from error


def reset_peak_memory(device: torch.device) -> None:
    """Restart the measurement of this process's peak memory."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM, see proc(5)


def memory_measure(device: str) -> str:
    """Return, for the record, what `peak_memory` measures on ``cpu`` or ``cuda``."""
    if device == "cuda":
        return "allocated"
    return "resident, without pages of files" if sys.platform == "linux" else "resident"


def peak_memory(device: torch.device) -> int:
    """Return this process's peak memory in bytes: allocated on a GPU, resident on a CPU.

    On a CPU, pages of files are left out, such as the libraries' code and images in a cache: all
    processes share them, and a fork of the warm process has read fewer of them than a new process.
    Outside Linux the peak cannot be reset and contains them.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "linux":
        lines = Path("/proc/self/status").read_text().splitlines()
        sizes = dict(line.split(":", 1) for line in lines)  # see proc(5)
        peak, of_files = (int(sizes[name].split()[0]) for name in ("VmHWM", "RssFile"))
        return (peak - of_files) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def held_memory(device: torch.device, apart_from: Iterable[torch.Tensor] = ()) -> int:
    """Return the bytes of this process's floating-point tensors, shared memory counted once.

    It finds tensors that Python knows of, and their gradients. It misses memory that a library
    holds in C++ only, such as DistributedDataParallel's buckets of gradients.

    Parameters
    ----------
    device
        Only tensors on this type of device count.
    apart_from
        Neither these tensors count, nor others that share their memory.
    """
    known = {tensor.untyped_storage().data_ptr() for tensor in apart_from}
    sizes = {}
    for tensor in _tensors():
        if tensor.is_floating_point() and tensor.device.type == device.type:
            storage = tensor.untyped_storage()
            sizes[storage.data_ptr()] = storage.nbytes()
    return sum(size for place, size in sizes.items() if place not in known)


def _tensors() -> Iterator[torch.Tensor]:
    gc.collect()  # unreachable tensors are not held
    for thing in gc.get_objects():
        if issubclass(type(thing), torch.Tensor):  # isinstance would import lazy modules
            yield thing
            if thing.is_leaf and thing.grad is not None:
                yield thing.grad
