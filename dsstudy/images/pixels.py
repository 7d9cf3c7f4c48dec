"""How images come to the training device: they stay there, or each batch is read ahead."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

from dsstudy.images.cached_images import CachedImages

RESIDENT_SHARE = 0.25
"""The share of a GPU's free memory that images may fill; the rest is for the training."""

BYTES_AT_ONCE = 2**26
"""How many bytes of images are copied to a GPU at a time, to stay there."""

Images = torch.Tensor | CachedImages
Item = TypeVar("Item")
Result = TypeVar("Result")


def fits_with_room(need: int, free: int) -> bool:
    """Whether so many bytes of images fit into a GPU's free bytes with room for the training."""
    return need <= RESIDENT_SHARE * free


def placed_images(sources: list[Images], device: torch.device) -> list[Images]:
    """Return a data set's images where training reads them.

    Those of the cache stay there for a CPU. A GPU keeps all images if they fit with room to spare;
    otherwise they stay where they are, and `read_batches` copies each batch.
    """
    if device.type != "cuda":
        return sources
    need = sum(source.nbytes for source in sources)
    if not fits_with_room(need, torch.cuda.mem_get_info(device)[0]):
        return sources
    try:
        return [_copied(source, device) for source in sources]
    except torch.OutOfMemoryError:  # another process has just taken the memory
        return sources


def read_batches(
    source: Images, groups: Iterable[torch.Tensor], device: torch.device
) -> Iterator[torch.Tensor]:
    """Yield the images of each group of indices, on the device that trains.

    Images that are not there yet are read, and copied to a GPU, one group ahead.

    Parameters
    ----------
    source
        uint8 images.
    groups
        int64 indices, each of shape (B,), on the source's device.
    device
        The device that trains.

    Yields
    ------
    torch.Tensor
        uint8, shape (B, 3, height, width).
    """
    if isinstance(source, torch.Tensor) and source.device == device:
        return (source[indices] for indices in groups)
    if device.type == "cuda":
        upload = _Upload(source, device)
        return map(upload.finished, one_ahead(upload.started, groups))
    return one_ahead(lambda indices: host_images(source, indices), groups)


def host_images(source: Images, indices: torch.Tensor, pinned: bool = False) -> torch.Tensor:
    """Return some images of a source in this machine's memory, as a copy.

    Pinned memory is what a GPU copies from while it computes.
    """
    shape = (len(indices), *source.shape[1:])
    pixels = _pinned(shape) if pinned else torch.empty(shape, dtype=torch.uint8)
    if isinstance(source, torch.Tensor):
        return torch.index_select(source, 0, indices, out=pixels)
    source.read_into(pixels.numpy(), indices.numpy())
    return pixels


def one_ahead(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yield a function's results; a thread computes the next one while the caller uses one."""
    with ThreadPoolExecutor(1) as thread:
        current = None
        for item in items:
            following = thread.submit(function, item)
            if current:
                yield current.result()
            current = following
        if current:
            yield current.result()


class _Upload:
    """Copies images to a GPU in a stream of their own, beside the training's stream."""

    def __init__(self, source: Images, device: torch.device):
        self.source, self.device = source, device
        self.stream = torch.cuda.Stream(device)

    def started(self, indices: torch.Tensor) -> tuple[torch.Tensor, torch.cuda.Event]:
        """Start copying images; return them with the event that they are complete."""
        with torch.cuda.device(self.device), torch.cuda.stream(self.stream):
            pixels = host_images(self.source, indices, pinned=True)
            # torch does not use the pinned memory again before the copy has ended.
            return pixels.to(self.device, non_blocking=True), self.stream.record_event()

    def finished(self, started: tuple[torch.Tensor, torch.cuda.Event]) -> torch.Tensor:
        """Let the training's stream wait for the copy; return the images."""
        pixels, complete = started
        training = torch.cuda.current_stream(self.device)
        training.wait_event(complete)
        pixels.record_stream(training)  # their memory is free again only after their use there
        return pixels


def _pinned(shape: tuple[int, ...]) -> torch.Tensor:
    try:
        return torch.empty(shape, dtype=torch.uint8, pin_memory=True)
    except RuntimeError:  # the system allows no more of it; then the copy is only slower
        return torch.empty(shape, dtype=torch.uint8)


def _copied(source: Images, device: torch.device) -> torch.Tensor:
    """Copy images to a GPU a part at a time: all at once might not fit into the memory here."""
    if isinstance(source, torch.Tensor):
        return source.to(device)
    images = torch.empty(source.shape, dtype=torch.uint8, device=device)
    rows = max(1, BYTES_AT_ONCE * len(source) // source.nbytes)
    for indices in torch.arange(len(source)).split(rows):
        images[indices[0] : indices[-1] + 1] = host_images(source, indices)
    return images
