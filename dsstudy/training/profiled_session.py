"""A session that profiles a training and marks the phases of each step.

Only profiled trainings load this module: see `dsstudy.training.rank.PROFILED`.
"""

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from dsstudy.training.session import Session

STEP_RANGE = "step"
"""The range of a whole step. Ranges with the name of a phase mark that phase."""


class ProfiledSession(Session):
    """A session in which every second epoch is profiled.

    The first epoch is a warm-up. Then plain and profiled epochs alternate, so that the record shows
    what profiling costs. The record's folder gets a trace of each profiled epoch, `trace_name`, and
    no checkpoints, as nobody uses the trained model.
    """

    def batches(self, epoch: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield an epoch's batches; in a profiled epoch, mark the steps and their phases."""
        if not is_profiled(epoch):
            yield from super().batches(epoch)
            return
        activities = [ProfilerActivity.CPU]
        if self.device.type == "cuda":
            activities.append(ProfilerActivity.CUDA)
        with profile(activities=activities) as profiler, _named_ranges():
            yield from self._marked(super().batches(epoch))
            profiler.add_metadata_json("threads", str(torch.get_num_threads()))
        file = self.record.folder / trace_name(epoch // 2, self.rank)
        profiler.export_chrome_trace(str(file))

    def _marked(
        self, batches: Iterator[tuple[torch.Tensor, torch.Tensor]]
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for _ in range(self.steps_per_epoch):
            with record_function(STEP_RANGE):
                with record_function("data"):
                    batch = next(batches)
                self._forward = contextlib.ExitStack()  # `step` closes it
                self._forward.enter_context(record_function("forward"))
                yield batch
        next(batches, None)  # stops the clock

    def step(self, loss: torch.Tensor, learning_rate: float) -> None:
        """Record one step's loss, which ends the forward pass."""
        if is_profiled(self._epoch):
            self._forward.close()
        super().step(loss, learning_rate)

    def _take_checkpoint(self) -> None:
        pass


def is_profiled(epoch: int) -> bool:
    """Say whether an epoch, counted from 1, is profiled."""
    return epoch > 1 and epoch % 2 == 1


def trace_name(turn: int, rank: int) -> str:
    """Return the name of a rank's trace of a profiled epoch; turns count from 1."""
    return f"trace-round{turn}-rank{rank}.json.gz"


@contextlib.contextmanager
def _named_ranges() -> Iterator[None]:
    """Mark the phases that a trace does not name by default, as it does the optimizer's."""
    places: list[tuple[Any, str, str]] = [(torch.autograd, "backward", "backward")]
    if deepspeed := sys.modules.get("deepspeed"):
        places.append((deepspeed.DeepSpeedEngine, "allreduce_gradients", "communication"))
    with contextlib.ExitStack() as stack:
        for owner, name, phase in places:
            stack.enter_context(patch.object(owner, name, _in_range(phase, getattr(owner, name))))
        yield


def _in_range(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def ranged(*args: Any, **kwargs: Any) -> Any:
        with record_function(name):
            return function(*args, **kwargs)

    return ranged
