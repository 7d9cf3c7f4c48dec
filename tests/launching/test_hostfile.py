"""One trial over two machines that share nothing but the disk."""

import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from interrupted import SMALL, assert_same
from machines import ADDRESSES, two_machines, why_not
from waiting import PATIENCE, wait_until

import dsstudy
from dsstudy.errors import InputError
from dsstudy.launching.hostfile import check_hosts, read_hosts
from dsstudy.records.record import Record
from dsstudy.spec.engines import LAUNCHED
from dsstudy.spec.trial import Trial

TRAIN = "import dsstudy, json, sys; dsstudy.run_trial(dsstudy.Trial(**json.loads(sys.argv[1])))"

needs_machines = pytest.mark.skipif(bool(why_not()), reason=why_not())


def hostfile(folder: Path, text: str) -> str:
    file = folder / "hostfile"
    file.write_text(text)
    return str(file)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("one slots=1\n", r"processes=2 does not match the slots of hostfile=.* \(one 1\)"),
        ("one slots=1\ntwo slots=2\n", r"\(one 1, two 2\): give every machine the same number"),
        ("# nobody\n", r"hostfile \(none\): give"),
        ("one slots=1\ntwo slots\n", r"hostfile:2: two slots names no machine: write"),
        ("one;reboot slots=2\n", r"hostfile:1: one;reboot slots=2 names no machine"),
    ],
)
def test_a_hostfile_that_does_not_fit_is_refused(tmp_path, text, sentence):
    trial = Trial(engine="ddp", processes=2, hostfile=hostfile(tmp_path, text))
    with pytest.raises(InputError, match=sentence):
        check_hosts(trial, read_hosts(trial))


def test_a_hostfile_is_read_as_deepspeed_reads_it(tmp_path):
    from deepspeed.launcher.runner import fetch_hostfile

    file = hostfile(tmp_path, "# the rack\nworker-1 slots=2\n\nworker-2.rack slots=2  # new\n")
    trial = Trial(engine="deepspeed", processes=4, hostfile=file)
    assert read_hosts(trial) == dict(fetch_hostfile(file))


def test_one_process_has_no_hosts_and_an_absent_file_is_named():
    with pytest.raises(InputError, match="hostfile=x is not possible with engine=normal"):
        Trial(hostfile="x")
    with pytest.raises(InputError, match="/no/such cannot be read"):
        read_hosts(Trial(engine="ddp", hostfile="/no/such"))


@pytest.fixture(scope="module")
def machines(tmp_path_factory):
    with two_machines(tmp_path_factory.mktemp("machines")) as made:
        yield made


def over_both(folder: Path, engine: str, **parameters) -> dict:
    """Return the parameters of a trial with one rank on each of two machines."""
    hosts = hostfile(folder, "".join(f"{name} slots=1\n" for name in ADDRESSES))
    own = {"hostfile": hosts, "output_dir": str(folder / "over both"), "engine": engine}
    return SMALL | {"processes": 2} | own | parameters


def command(machines: dict, parameters: dict) -> list[str]:
    """Return the command that runs a trial, started on the first machine."""
    return [*machines["dsstudy-one"], sys.executable, "-c", TRAIN, json.dumps(parameters)]


def train(machines: dict, parameters: dict) -> subprocess.CompletedProcess:
    return subprocess.run(command(machines, parameters), capture_output=True, text=True)


def ranks_of(parameters: dict) -> list[psutil.Process]:
    """Return a trial's ranks, on whichever machine."""
    folder = parameters["output_dir"]
    found = psutil.process_iter(["environ", "cmdline"])
    return [
        process
        for process in found
        if folder in (process.info["cmdline"] or []) and "RANK" in (process.info["environ"] or {})
    ]


@pytest.mark.slow
@needs_machines
@pytest.mark.parametrize("engine", LAUNCHED)
def test_two_machines_train_what_one_does(machines, tmp_path, engine):
    parameters = over_both(tmp_path, engine)
    done = train(machines, parameters)
    assert done.returncode == 0, done.stderr
    alone = parameters | {"hostfile": "none", "output_dir": str(tmp_path / "alone")}
    both = Record(parameters["output_dir"])
    assert both.result()["environment"]["hosts"] == 2
    assert_same(both, dsstudy.run_trial(Trial(**alone)))


@pytest.mark.slow
@needs_machines
@pytest.mark.parametrize("engine", LAUNCHED)
def test_a_trial_resumes_after_a_rank_is_killed_on_the_other_machine(machines, tmp_path, engine):
    parameters = over_both(tmp_path, engine, epochs=6)
    record = Record(parameters["output_dir"])
    running = subprocess.Popen(command(machines, parameters), stderr=subprocess.PIPE, text=True)
    wait_until(lambda: len(record.epochs()) >= 1)
    (other,) = [rank for rank in ranks_of(parameters) if rank.environ()["RANK"] == "1"]
    other.kill()
    _, stderr = running.communicate(timeout=PATIENCE)
    assert running.returncode != 0 and "ended from outside" in stderr, stderr
    assert record.result()["interrupted"]
    wait_until(lambda: not ranks_of(parameters), 10)
    recorded = record.epochs()
    assert train(machines, parameters).returncode == 0
    assert record.epochs()[: len(recorded)] == recorded
    alone = parameters | {"hostfile": "none", "output_dir": str(tmp_path / "alone")}
    assert_same(record, dsstudy.run_trial(Trial(**alone)))


@pytest.mark.slow
@needs_machines
@pytest.mark.parametrize("engine", LAUNCHED)
def test_ranks_on_other_machines_end_with_the_process_that_wanted_them(machines, tmp_path, engine):
    parameters = over_both(tmp_path, engine, epochs=200)
    record = Record(parameters["output_dir"])
    running = subprocess.Popen(command(machines, parameters), stderr=subprocess.DEVNULL)
    wait_until(lambda: len(record.epochs()) >= 1)
    (trainer,) = psutil.Process(running.pid).children()  # of nsenter
    trainer.kill()
    wait_until(lambda: not ranks_of(parameters), 10)


@pytest.mark.slow
@needs_machines
def test_a_machine_that_does_not_answer_is_named_before_anything_starts(machines, tmp_path):
    parameters = over_both(tmp_path, "ddp")
    hostfile(tmp_path, "dsstudy-one slots=1\ndsstudy-three slots=1\n")
    done = train(machines, parameters)
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert "dsstudy-three cannot be reached by ssh without a password" in last
    assert not Record(parameters["output_dir"]).epochs()
