"""A profiler's trace: every moment of a training step, attributed to one phase.

PyTorch's profiler exports traces in Chrome's format; `dsstudy.training.profiled_session` names the
ranges in them. On a CPU, the timeline shows the training thread: communication in other threads
counts only while that thread waits for it. On a GPU, it shows the device: a kernel belongs to the
phase in which the host launched it, a collective counts only while no other kernel runs, and time
without a kernel is rest.

References
----------
Chrome's format: https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU.
"""

import gzip
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dsstudy.records.schema import PHASES
from dsstudy.training.profiled_session import STEP_RANGE

_DATA, _FORWARD, _BACKWARD, _COMMUNICATION, _OPTIMIZER, _REST = range(len(PHASES))

# How names in PyTorch's traces begin. In the training thread: packing, starting and unpacking an
# exchange; the optimizer; arithmetic. In other threads: what is being sent. On a GPU: a collective.
_EXCHANGE = ("c10d::", "torch::distributed::reducer::", "torch.distributed.ddp.reducer::copy")
_OPTIMIZER_RANGES = "Optimizer."
_ARITHMETIC = "aten::"
_IN_FLIGHT = ("gloo:", "nccl:", "mpi:", "ucc:")
_COLLECTIVE_KERNEL = "nccl"
# Categories of events: on the device, calls that launch those, and ranges of the host repeated.
_ON_DEVICE = ("kernel", "gpu_memcpy", "gpu_memset")
_LAUNCHES = ("cuda_runtime", "cuda_driver")
_REPEATED = "gpu_user_annotation"
_CORRELATION = "correlation"  # the number shared by a kernel and the call that launched it

Event = dict[str, Any]


@dataclass(frozen=True)
class Timeline:
    """Some training steps, cut into pieces, each of one phase.

    Attributes
    ----------
    edges : numpy.ndarray
        Microseconds, shape (pieces + 1,): the start of each piece, and the end of the last.
    labels : numpy.ndarray
        int, shape (pieces,): each piece's index in `PHASES`.
    bounds : numpy.ndarray
        Microseconds, shape (steps + 1,): those edges at which a step starts, and the last edge.
    """

    edges: np.ndarray
    labels: np.ndarray
    bounds: np.ndarray

    def seconds(self) -> np.ndarray:
        """Return the seconds of every phase in every step: shape (steps, phases)."""
        table = np.zeros((len(self.bounds) - 1, len(PHASES)))
        steps = np.searchsorted(self.bounds, self.edges[:-1], "right") - 1
        np.add.at(table, (steps, self.labels), np.diff(self.edges) / 1e6)
        return table

    def pieces(self, step: int) -> list[tuple[str, float, float]]:
        """Return one step's phases in order: phase, start and end in µs."""
        inside = (self.bounds[step] <= self.edges[:-1]) & (self.edges[:-1] < self.bounds[step + 1])
        found: list[tuple[str, float, float]] = []
        for i in np.flatnonzero(inside):
            phase, begin, end = PHASES[self.labels[i]], self.edges[i], self.edges[i + 1]
            if found and found[-1][0] == phase:
                begin = found.pop()[1]
            found.append((phase, float(begin), float(end)))
        return found

    def at(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the step (from 0) and the phase (its index in `PHASES`) at some times."""
        piece = np.searchsorted(self.edges, times, "right") - 1
        steps = np.searchsorted(self.bounds, times, "right") - 1
        return steps, self.labels[np.clip(piece, 0, len(self.labels) - 1)]


def read_trace(file: str | Path) -> dict[str, Any]:
    """Return a trace: ``traceEvents``, and metadata that was added to it, such as ``threads``."""
    with gzip.open(file, "rb") as stream:
        return json.load(stream)


def timeline(events: Iterable[Event]) -> Timeline:
    """Attribute every moment of a trace's steps to one phase.

    Parameters
    ----------
    events
        A trace's ``traceEvents``, with a range `STEP_RANGE` around every step.

    Raises
    ------
    ValueError
        There is no step in the trace.
    """
    # Keep complete events, without the host's ranges that a GPU's trace repeats.
    events = [e for e in events if e.get("ph") == "X" and e.get("cat") != _REPEATED]
    host = _host_timeline(events)
    kernels = [event for event in events if event.get("cat") in _ON_DEVICE]
    return _device_timeline(events, kernels, host) if kernels else host


def _host_timeline(events: Sequence[Event]) -> Timeline:
    """Attribute the time of the training thread."""
    steps = sorted((e for e in events if e["name"] == STEP_RANGE), key=lambda e: e["ts"])
    if not steps:
        raise ValueError("the trace holds no step")
    here = [event for event in events if event["tid"] == steps[0]["tid"]]
    # A step lasts from the request for its batch to the request for the next one.
    bounds = np.array([step["ts"] for step in steps] + [steps[-1]["ts"] + steps[-1]["dur"]])

    ranges = [_spans(e for e in here if e["name"] == phase) for phase in PHASES]
    updates = _spans(e for e in here if e["name"].startswith(_OPTIMIZER_RANGES))
    exchange = _spans(e for e in here if e["name"].startswith(_EXCHANGE))
    sent = _spans(e for e in events if e["name"].startswith(_IN_FLIGHT))
    in_flight = _within(sent, np.concatenate([*ranges, updates]))
    arithmetic = _spans(e for e in here if e["name"].startswith(_ARITHMETIC))

    edges = _edges(bounds, *ranges, updates, exchange, in_flight, arithmetic)
    labels = np.full(len(edges) - 1, _REST)
    for phase in (_DATA, _FORWARD, _BACKWARD, _OPTIMIZER):
        labels[_covered(edges, ranges[phase])] = phase
    labels[_covered(edges, updates)] = _OPTIMIZER
    labels[_covered(edges, in_flight) & ~_covered(edges, arithmetic)] = _COMMUNICATION
    labels[_covered(edges, exchange) | _covered(edges, ranges[_COMMUNICATION])] = _COMMUNICATION
    return Timeline(edges, labels, bounds)


def _device_timeline(events: Sequence[Event], kernels: Sequence[Event], host: Timeline) -> Timeline:
    """Attribute the time of a GPU: a kernel has the phase in which the host launched it."""
    calls = [e for e in events if e.get("cat") in _LAUNCHES and _CORRELATION in e["args"]]
    launched = {call["args"][_CORRELATION]: call["ts"] for call in calls}
    known = [e for e in kernels if e["args"].get(_CORRELATION) in launched]
    steps, labels = host.at(np.array([launched[e["args"][_CORRELATION]] for e in known]))
    inside = (steps >= 0) & (steps < len(host.bounds) - 1)
    collective = np.array([e["name"].startswith(_COLLECTIVE_KERNEL) for e in known])
    spans = _spans(known)
    # The host runs ahead; on the device, a step starts with the first kernel launched in it.
    begins = [spans[steps == step, 0].min() for step in np.unique(steps[inside])]
    bounds = np.array([*begins, spans[inside, 1].max()])

    edges = _edges(bounds, spans)
    painted = np.full(len(edges) - 1, _REST)
    painted[_covered(edges, spans[collective])] = _COMMUNICATION
    for phase in (_REST, _COMMUNICATION, _DATA, _FORWARD, _BACKWARD, _OPTIMIZER):
        painted[_covered(edges, spans[~collective & (labels == phase)])] = phase
    return Timeline(edges, painted, bounds)


def _spans(events: Iterable[Event]) -> np.ndarray:
    """Return start and end of events in microseconds: shape (N, 2)."""
    return np.array([(e["ts"], e["ts"] + e["dur"]) for e in events], dtype=float).reshape(-1, 2)


def _within(spans: np.ndarray, ranges: np.ndarray) -> np.ndarray:
    """Cut spans off at the end of the range in which they start.

    The training thread waits for a collective before it leaves a phase. The thread that carries it
    out may record its end later, when it gets the CPU again.
    """
    spans = spans.copy()
    for begin, end in ranges:
        inside = (begin <= spans[:, 0]) & (spans[:, 0] < end)
        spans[inside, 1] = np.minimum(spans[inside, 1], end)
    return spans


def _edges(bounds: np.ndarray, *spans: np.ndarray) -> np.ndarray:
    """Return all times at which the phase may change, from the first bound to the last."""
    times = np.unique(np.concatenate([bounds, *(each.ravel() for each in spans)]))
    return times[(bounds[0] <= times) & (times <= bounds[-1])]


def _covered(edges: np.ndarray, spans: np.ndarray) -> np.ndarray:
    """Return for each piece between two edges whether any span covers it."""
    open_spans = np.zeros(len(edges) + 1, dtype=int)
    np.add.at(open_spans, np.searchsorted(edges, spans[:, 0]), 1)
    np.add.at(open_spans, np.searchsorted(edges, spans[:, 1]), -1)
    return np.cumsum(open_spans)[: len(edges) - 1] > 0
