"""A check that all ranks hold the same weights, as data parallelism promises."""

import torch
import torch.distributed as dist
from torch import nn


class RanksDisagreeError(RuntimeError):
    """The ranks of a trial trained different models."""


def check_ranks_agree(model: nn.Module) -> None:
    """Compare the weights of all ranks, bit for bit; all ranks call this together.

    The ranks exchange one checksum per parameter: the sum of its elements' bits, read as integers.
    So the comparison reads the weights once and costs far less than a training step.

    Parameters
    ----------
    model
        What this rank trained, with whole parameters: not under ZeRO stage 3, where each rank has a
        share of them.

    Raises
    ------
    RanksDisagreeError
        The ranks differ; the sentence names the first such parameter.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return
    names, parameters = zip(*model.named_parameters(), strict=True)
    sums = torch.stack([_bits(one).sum(dtype=torch.int64) for one in parameters])
    lowest, highest = sums.clone(), sums.clone()
    dist.all_reduce(lowest, dist.ReduceOp.MIN)
    dist.all_reduce(highest, dist.ReduceOp.MAX)
    differing = [name for name, same in zip(names, lowest == highest, strict=True) if not same]
    if differing:
        raise RanksDisagreeError(
            f"the ranks hold different weights after the training, in {len(differing)} of "
            f"{len(names)} parameters, first {differing[0]}: each rank trained a model of its own, "
            "so no result counts; look for weights that are made or changed outside the optimizer"
        )


def _bits(parameter: torch.Tensor) -> torch.Tensor:
    """Return a parameter's elements as integers of the same width."""
    flat = parameter.detach().reshape(-1)
    if flat.is_complex():
        flat = torch.view_as_real(flat).reshape(-1)
    return flat.view({2: torch.int16, 4: torch.int32, 8: torch.int64}[flat.element_size()])
