"""Every moment of a step belongs to one phase, shown on traces with known times."""

import gzip
import json

import numpy as np
import pytest

from dsstudy.records.schema import PHASES
from dsstudy.studies.trace import read_trace, timeline

MAIN, WORKER, STREAM, NCCL = 1, 2, 7, 20


def event(name: str, begin: float, end: float, tid: int = MAIN, cat: str = "cpu_op", **args):
    """Return an event as PyTorch's profiler writes it; times in microseconds."""
    return {"ph": "X", "cat": cat, "name": name, "pid": 1, "tid": tid, "ts": begin,
            "dur": end - begin, "args": args}  # fmt: skip


def kernel(name: str, correlation: int, launch: float, begin: float, end: float, stream=STREAM):
    """Return a kernel and its launch by the training thread."""
    return [
        event("cudaLaunchKernel", launch, launch + 1, cat="cuda_runtime", correlation=correlation),
        event(name, begin, end, stream, "kernel", correlation=correlation, device=0),
    ]


def phases(events: list[dict]) -> list[dict[str, float]]:
    """Return each step's phases that took any time, in microseconds."""
    seconds = timeline(events).seconds()
    return [
        {phase: us for phase, us in zip(PHASES, step, strict=True) if us}
        for step in (1e6 * seconds).round(6).tolist()
    ]


STEP = [
    event("step", 0, 100),
    event("data", 0, 10),
    event("forward", 10, 40),
    event("aten::conv2d", 12, 38),
    event("backward", 45, 80),
    event("Optimizer.step#SGD.step", 85, 95),
]


def test_phases_add_up_to_the_step_and_the_rest_is_what_is_left():
    # The next step's begin is this one's end: nothing is lost between two ranges.
    second = [event("step", 104, 150), event("forward", 110, 150)]
    assert phases(STEP + second) == [
        {"data": 10, "forward": 30, "backward": 35, "optimizer": 10, "rest": 19},
        {"forward": 40, "rest": 6},
    ]


def test_communication_counts_only_where_the_training_waits_for_it():
    exchange = [
        event("aten::mm", 45, 60),
        event("torch::distributed::reducer::mul_out", 60, 62),  # packing
        event("c10d::allreduce_", 62, 63),
        event("gloo:all_reduce", 63, 78, WORKER, "user_annotation"),
        event("aten::mm", 65, 70),  # meanwhile, so that 5 of the 15 are hidden
    ]
    (step,) = phases(STEP + exchange)
    assert step["communication"] == 2 + 1 + 2 + 8
    assert step["backward"] == 35 - step["communication"]
    assert sum(step.values()) == 100


def test_a_collective_whose_end_is_recorded_late_does_not_reach_into_the_next_phase():
    late = [event("c10d::allreduce_", 70, 71), event("gloo:all_reduce", 71, 99, WORKER)]
    (step,) = phases(STEP + late)
    assert (step["communication"], step["optimizer"]) == (10, 10)


def test_a_named_exchange_counts_with_its_packing():
    reduced = [event("communication", 81, 84), event("aten::cat", 81, 83)]
    (step,) = phases(STEP + reduced)
    assert (step["communication"], step["rest"]) == (3, 12)


def test_what_other_threads_compute_is_not_the_steps():
    (step,) = phases([*STEP, event("forward", 46, 79, WORKER)])
    assert (step["forward"], step["backward"]) == (30, 35)


def test_on_a_gpu_kernels_belong_to_the_phase_that_launched_them():
    device = [
        *kernel("copy", 1, launch=5, begin=20, end=30),
        *kernel("conv", 2, launch=20, begin=30, end=90),
        *kernel("conv_backward", 3, launch=50, begin=90, end=150),
        *kernel("ncclDevKernel_AllReduce_Sum_f32_RING_LL", 4, 60, 140, 170, NCCL),
        *kernel("sgd", 5, launch=90, begin=180, end=190),
        event("a kernel whose launch was not seen", 0, 500, STREAM, "kernel", correlation=99),
        event("step", 20, 190, STREAM, "gpu_user_annotation"),  # repeats the host's range
        event("backward", 20, 30, STREAM, "gpu_user_annotation"),
    ]
    # 20 µs of the collective are exposed; the device idles from 170 to 180.
    expected = {
        "data": 10,
        "forward": 60,
        "backward": 60,
        "communication": 20,
        "optimizer": 10,
        "rest": 10,
    }
    assert phases(STEP + device) == [expected]


def test_on_a_gpu_a_step_begins_with_the_first_kernel_launched_in_it():
    device = [
        *kernel("conv", 1, launch=20, begin=120, end=200),
        *kernel("conv", 2, launch=120, begin=210, end=260),
    ]
    second = [event("step", 100, 150), event("forward", 110, 150)]
    found = timeline(STEP + second + device)
    assert found.bounds.tolist() == [120, 210, 260]
    assert phases(STEP + second + device) == [{"forward": 80, "rest": 10}, {"forward": 50}]


def test_pieces_follow_one_another_without_a_gap():
    pieces = timeline(STEP).pieces(0)
    assert [phase for phase, _, _ in pieces] == [
        "data", "forward", "rest", "backward", "rest", "optimizer", "rest",
    ]  # fmt: skip
    edges = np.array([(begin, end) for _, begin, end in pieces])
    assert (edges[1:, 0] == edges[:-1, 1]).all()
    assert (edges[0, 0], edges[-1, 1]) == (0, 100)


def test_a_trace_without_steps_is_refused(tmp_path):
    file = tmp_path / "trace.json.gz"
    events = [event("aten::mm", 0, 1), {"ph": "M", "name": "process_name"}]
    file.write_bytes(gzip.compress(json.dumps({"traceEvents": events}).encode()))
    with pytest.raises(ValueError, match="holds no step"):
        timeline(read_trace(file)["traceEvents"])
