"""A queue of trials; each trains in its own process, which ends with the one that started it."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterable

from dsstudy.errors import InputError, last_line, reason_line
from dsstudy.launching.crashes import Crash, crash_signal
from dsstudy.launching.warm_python import warm_command
from dsstudy.spec.trial import Trial

STOP_SECONDS = 10.0
"""Seconds that a stopped training has to end its ranks and release its folder."""


class Training:
    """A trial that trains in another process, from its last checkpoint if it has one."""

    def __init__(self, trial: Trial):
        self.trial, self.started = trial, time.monotonic()
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the process)
        self.process = subprocess.Popen(
            warm_command(["-m", "dsstudy.explorer.queue"]),
            stdin=subprocess.PIPE,
            stdout=self._output,
            stderr=subprocess.STDOUT,
        )
        assert self.process.stdin is not None
        self._input = self.process.stdin
        self._input.write(trial.model_dump_json().encode() + b"\n")
        self._input.flush()

    @property
    def running(self) -> bool:
        """Whether the process is alive."""
        return self.process.poll() is None

    @property
    def stopping(self) -> bool:
        """Whether it was asked to end."""
        return self._input.closed

    def stop(self) -> None:
        """Ask the training to end; it and its ranks are gone within `STOP_SECONDS` seconds."""
        self._input.close()

    def error(self) -> str:
        """Return the reason of a failed training: a crash, or the last line that it printed."""
        code = self.process.poll()
        if code in (None, 0, -signal.SIGKILL, 128 + signal.SIGTERM):
            return ""
        if name := crash_signal(code):
            return str(Crash("the training's process", name))
        self._output.seek(0)
        return last_line(self._output.read().decode(errors="replace"))


class Queue:
    """Trials that train one after the other, so that none disturbs another's times."""

    def __init__(self) -> None:
        self.waiting: list[Trial] = []
        self.training: Training | None = None  # the running trial

    @property
    def busy(self) -> bool:
        """Whether anything trains or waits."""
        return bool(self.training or self.waiting)

    def __contains__(self, trial: Trial) -> bool:
        """Whether a trial trains or waits; a trial that is being stopped may be added again."""
        training = self.training and not self.training.stopping and self.training.trial
        return trial in self.waiting or trial == training

    def add(self, trials: Iterable[Trial]) -> None:
        """Add the trials that are not in the queue yet."""
        self.waiting += [trial for trial in trials if trial not in self]

    def stop(self) -> None:
        """Remove the waiting trials, and ask the running one to end."""
        self.waiting.clear()
        if self.training:
            self.training.stop()

    def step(self) -> Training | None:
        """Start the next trial if none trains; return one that ended since the last call."""
        ended = None
        if self.training and not self.training.running:
            ended, self.training = self.training, None
        if not self.training and self.waiting:
            self.training = Training(self.waiting.pop(0))
        return ended


def train_from_input() -> None:
    """Train the trial on the first line of the standard input, as long as the input is open."""
    # Raises an exception, so that the ranks are ended and the folder is released.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    trial = Trial.model_validate_json(sys.stdin.readline())
    threading.Thread(target=_end_with_input, daemon=True).start()
    from dsstudy.launching.launcher import TrialError
    from dsstudy.launching.run import run_trial

    try:
        run_trial(trial)
    except (InputError, TrialError) as error:
        sys.exit(str(error))
    except Exception as error:
        traceback.print_exc()
        sys.exit(reason_line(error))


def _end_with_input() -> None:
    """End this process when its input ends: on request, or with the process at the other end."""
    while os.read(sys.stdin.fileno(), 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    train_from_input()
