"""What a rank says of its own end, and which GPUs it sees."""

import os

import pytest
import torch.distributed as dist

from dsstudy.errors import InputError
from dsstudy.training.rank import _see_own_gpus, is_lost_connection

GLOO = "[/__w/pytorch/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:561] "


@pytest.mark.parametrize(
    "error",
    [
        # As torch 2.14's gloo raised them when another rank was killed.
        RuntimeError(f"{GLOO}Connection closed by peer [127.0.0.1]:57532. This is typically"),
        RuntimeError(f"{GLOO}Read error [127.0.0.1]:1459: Connection reset by peer."),
        RuntimeError("[../third_party/gloo/gloo/transport/tcp/unbound_buffer.cc:81] Timed out"),
        dist.DistNetworkError("failed to recv, got 0 bytes"),
        dist.DistStoreError("Socket Timeout"),
        dist.DistBackendError("NCCL error: ncclRemoteError: A call failed possibly due to a "),
    ],
)
def test_a_lost_peer_is_known_by_torchs_errors(error):
    assert is_lost_connection(error)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("skip connection of 4 channels does not fit 5"),
        ValueError("Connection closed by peer"),
        RuntimeError("Connection reset by peer"),  # a model may read from a database
        ConnectionResetError("Connection reset by peer"),
        ConnectionRefusedError("Connection refused"),
        TimeoutError("timed out"),
        InputError("connection=0 is not allowed"),
        # Ranks that ask gloo for different things.
        RuntimeError("[enforce fail at /a/gloo/gloo/transport/tcp/pair.cc:446] 40 vs 20"),
        dist.DistBackendError("NCCL error: ncclInvalidUsage: Duplicate GPU detected"),
        RuntimeError("DataLoader worker (pid 7) exited unexpectedly"),
    ],
)
def test_any_other_error_is_a_ranks_own(error):
    assert not is_lost_connection(error)


@pytest.mark.parametrize(("own", "seen"), [("GPU-ab,GPU-cd", "GPU-ab,GPU-cd"), ("", "0,1")])
def test_a_rank_sees_the_gpus_of_the_process_that_launched_it(monkeypatch, own, seen):
    # DeepSpeed's launcher replaces identifiers by the numbers of the machine's first GPUs, where
    # another trial may run.
    monkeypatch.setenv("DSSTUDY_GPUS", own)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    _see_own_gpus()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == seen
