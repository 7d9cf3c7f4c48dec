"""A trial in a process of its own, which ends with the process that started it."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable

from dsstudy.errors import InputError
from dsstudy.spec.trial import Trial

STOP_SECONDS = 10.0
"""Seconds that a stopped training has to end its ranks and let go of its folder."""


class Training:
    """A trial that trains beside this process; its record tells how far it has come.

    Parameters
    ----------
    trial
        What to train; one that was stopped earlier goes on from its last checkpoint.
    """

    def __init__(self, trial: Trial):
        self.trial, self.started = trial, time.monotonic()
        self._words = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the process)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "dsstudy.explorer.queue"],
            stdin=subprocess.PIPE,
            stdout=self._words,
            stderr=subprocess.STDOUT,
        )
        assert self.process.stdin is not None
        self.process.stdin.write(trial.model_dump_json().encode() + b"\n")
        self.process.stdin.flush()

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self.process.poll() is None

    @property
    def stopping(self) -> bool:
        """Whether it was asked to end."""
        assert self.process.stdin is not None
        return self.process.stdin.closed

    def stop(self) -> None:
        """Ask the training to end; it and its ranks are gone within `STOP_SECONDS` seconds."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def error(self) -> str:
        """Return the last line that a training that failed has printed, else nothing."""
        if self.process.poll() in (None, 0, -signal.SIGKILL, 128 + signal.SIGTERM):
            return ""
        self._words.seek(0)
        return self._words.read().decode(errors="replace").strip().rpartition("\n")[2]


class Queue:
    """Trials to be trained one after the other, so that none disturbs another's times.

    Attributes
    ----------
    waiting : list of Trial
        Those that are to come.
    training : Training or None
        The one that trains.
    """

    def __init__(self) -> None:
        self.waiting: list[Trial] = []
        self.training: Training | None = None

    @property
    def busy(self) -> bool:
        """Whether anything trains or waits."""
        return bool(self.training or self.waiting)

    def __contains__(self, trial: Trial) -> bool:
        """Whether a trial trains or waits; one that is being stopped may be added again."""
        training = self.training and not self.training.stopping and self.training.trial
        return trial in self.waiting or trial == training

    def add(self, trials: Iterable[Trial]) -> None:
        """Add those trials that are not in the queue."""
        self.waiting += [trial for trial in trials if trial not in self]

    def stop(self) -> None:
        """Forget those that wait, and ask the one that trains to end."""
        self.waiting.clear()
        if self.training:
            self.training.stop()

    def step(self) -> Training | None:
        """Start the next trial if none trains; to be called some times a second.

        Returns
        -------
        Training or None
            One that has ended since the last call.
        """
        ended = None
        if self.training and not self.training.running:
            ended, self.training = self.training, None
        if not self.training and self.waiting:
            self.training = Training(self.waiting.pop(0))
        return ended


def main() -> None:
    """Train the trial whose parameters are the first line of the input, while that is open."""
    # An exception, so that ranks are ended and the folder let go of on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    trial = Trial.model_validate_json(sys.stdin.readline())
    threading.Thread(target=_end_with_input, daemon=True).start()
    from dsstudy.launching.launcher import TrialError
    from dsstudy.launching.run import run_trial

    try:
        run_trial(trial)
    except (InputError, TrialError) as error:
        sys.exit(str(error))


def _end_with_input() -> None:
    """End this process when its input ends: on request, or with the process at the other end."""
    while os.read(sys.stdin.fileno(), 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
