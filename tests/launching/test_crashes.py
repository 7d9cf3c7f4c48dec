"""By which signal a process ended, as launchers, Python and exit codes say it."""

import signal

import pytest

from dsstudy.launching.crashes import (
    Crash,
    crash_reason,
    crash_signal,
    first_crash,
    reported_exit_codes,
)
from dsstudy.records.record import Record

DEEPSPEED = "[ERROR] [launch.py:259:sigkill_handler] ['python', '-u'] exits with return code = -6"
TORCHRUN = "  rank      : 1 (local_rank: 1)\n  exitcode  : -11 (pid: 31421)  (SIGSEGV)\n"


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGBUS", "SIGABRT", "SIGFPE", "SIGILL"])
def test_a_crash_is_told_by_its_exit_code(name):
    number = signal.Signals[name].value
    assert crash_signal(-number) == crash_signal(128 + number) == name


@pytest.mark.parametrize("code", [None, 0, 1, 3, 255, -signal.SIGKILL, -signal.SIGTERM, 137, 143])
def test_other_ends_are_no_crashes(code):
    assert crash_signal(code) == ""


@pytest.mark.parametrize(("log", "name"), [(DEEPSPEED, "SIGABRT"), (TORCHRUN, "SIGSEGV")])
def test_launchers_state_exit_codes(tmp_path, log, name):
    assert reported_exit_codes(log) == [-signal.Signals[name].value]
    assert str(first_crash(tmp_path, log)).startswith(f"a rank was ended by {name} (")


def test_what_python_left_of_a_crash_names_the_rank(tmp_path):
    (tmp_path / "crash-rank0.txt").touch()  # rank 0 lost the other one
    text = "Fatal Python error: Bus error\n\nStack (most recent call first):\n  File x\n"
    (tmp_path / "crash-rank1.txt").write_text(f"{text}\nExtension modules: a, b (total: 2)\n")
    crash = first_crash(tmp_path, "exits with return code = 1")
    assert str(crash).startswith("rank 1 was ended by SIGBUS (")
    assert crash.stack == text.strip()


def test_a_rank_that_nccl_ended_because_another_was_lost_has_not_crashed(tmp_path):
    (tmp_path / "crash-rank0.txt").write_text("Fatal Python error: Aborted\n")
    log = "terminate called after throwing an instance of 'c10::DistBackendError'"
    assert first_crash(tmp_path, log) is None


@pytest.mark.parametrize(
    ("before", "again"),
    [
        (None, False),
        ({"status": "failed", "interrupted": True}, False),  # killed
        ({"status": "failed", "crashed_in_epoch": 2}, False),
        ({"status": "failed", "crashed_in_epoch": 1}, True),
    ],
)
def test_a_second_crash_at_the_same_place_is_a_failure(tmp_path, before, again):
    reason, failed = crash_reason(Crash("rank 1", "SIGFPE"), Record(tmp_path), before)
    assert failed is again
    assert reason.startswith("rank 1 was ended by SIGFPE (floating point exception) in epoch 1")
    assert ("at the same place before" in reason) is again
