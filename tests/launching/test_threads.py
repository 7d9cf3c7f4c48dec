"""How many CPU threads a trial computes with, on every path to its ranks."""

import pytest
import torch

from dsstudy.errors import InputError
from dsstudy.launching.machine import Machine
from dsstudy.launching.placement import place_trial, problems
from dsstudy.launching.run import run_trial
from dsstudy.launching.threads import choose_threads
from dsstudy.spec.trial import Trial
from dsstudy.training.checkpoint import newest_checkpoints, read_facts

MACHINE = Machine("a processor", cores=8, memory_gib=16, cpu_fp16=False, cpu_bf16=False)
PAIR = {"engine": "ddp", "processes": 2}


LARGE = {"model": "resnet18"}


@pytest.mark.parametrize(("limit", "cores"), [("", 8), ("4", 4), ("64", 8), ("1", 1)])
def test_auto_gives_every_engine_the_same_number_of_cores(monkeypatch, limit, cores):
    # Otherwise a comparison of engines would compare numbers of cores.
    monkeypatch.setenv("OMP_NUM_THREADS", limit)
    for parameters in (LARGE, LARGE | PAIR):
        trial = Trial(**parameters)
        threads = choose_threads(trial, MACHINE, trial.processes)
        assert (threads.number, threads.cores) == (max(1, cores // trial.processes), cores)
        assert f"{cores}{' of 8' * (cores < 8)} cores" in threads.reason
        assert ("OMP_NUM_THREADS" in threads.reason) == (cores < 8)


@pytest.mark.parametrize(
    ("parameters", "number"),
    [
        ({}, 1),  # LeNet: 3.2 million operations for each of 16 images, in five layers
        ({"batch_size": 64}, 2),
        ({"batch_size": 128, **PAIR}, 2),
        ({"batch_size": 4096}, 8),
        ({"model": "densenet121", "image_size": 32}, 1),  # 16 times SqueezeNet's, in many layers
        ({"model": "densenet121", "image_size": 224}, 8),
        ({"model": "squeezenet1_0", "image_size": 32}, 1),
        ({"model": "resnet18", "image_size": 32}, 5),
        ({"model": "nets:plain", "image_size": 32}, 1),  # not in the table: counted
        ({"model": "nets:no_such", "image_size": 32}, 8),  # the checks before training refuse it
        ({"batch_size": 16, "threads": 8}, 8),
    ],
)
def test_auto_wakes_no_thread_for_less_than_its_share_of_arithmetic(
    monkeypatch, parameters, number
):
    # Threads that have nothing to do wait for one another by spinning: beside another busy
    # process, which has one of the cores, a step would take many times as long.
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    trial = Trial(**parameters)
    threads = choose_threads(trial, MACHINE, trial.processes)
    assert (threads.number, threads.cores) == (number, 8)
    if number < 8:
        assert "floating-point operations of a layer" in threads.reason


def test_a_given_number_is_every_processs_own(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    placed = place_trial(Trial(threads=3, **PAIR), MACHINE)
    assert placed.threads.number == 3
    assert placed.environment["OMP_NUM_THREADS"] == "3"
    assert "parameter" in placed.threads.reason


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"threads": 9}, "threads=9 is more than this machine's 8 CPU cores: set threads to at"),
        ({"threads": 5, **PAIR}, "threads=5 in each of 2 processes is more than this machine's 8"),
    ],
)
def test_more_threads_than_cores_are_refused(parameters, sentence):
    (found,) = problems(Trial(**parameters), MACHINE)
    assert found.startswith(sentence)


@pytest.mark.parametrize("bad", [0, "many", 1.5, True])
def test_what_is_no_number_of_threads_is_refused(bad):
    with pytest.raises(InputError, match="set threads to auto or a whole number"):
        Trial(threads=bad)


@pytest.mark.parametrize("parameters", [{}, PAIR])
def test_the_ranks_compute_with_them_and_the_record_says_so(short, parameters):
    # torch reads OMP_NUM_THREADS at its import, which is before the trial here and in a forked
    # process: the number must be set in the rank itself.
    before = torch.get_num_threads()
    record = run_trial(short(threads=1, **parameters))
    facts = read_facts(newest_checkpoints(record.checkpoints)[0])
    noted = record.result()["environment"]["threads"]
    assert (facts["threads"], noted["number"]) == (1, 1)
    assert "parameter" in noted["reason"]
    assert torch.get_num_threads() == before
