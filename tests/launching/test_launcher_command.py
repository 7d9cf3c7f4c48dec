"""The command lines of the launchers."""

import pytest

from dsstudy.launching.launcher_command import launcher_command
from dsstudy.launching.machine import Machine
from dsstudy.launching.placement import Placement
from dsstudy.launching.threads import Threads
from dsstudy.spec.engines import LAUNCHED
from dsstudy.spec.trial import Trial

MACHINE = Machine("a processor", cores=16, memory_gib=64, cpu_fp16=False, cpu_bf16=False)


@pytest.mark.parametrize(
    ("visible", "device", "option"),
    [
        ("2,5,7", "cuda", "--include=localhost:2,5"),
        ("", "cuda", "--num_accelerators=2"),
        ("0,1", "cpu", "--num_accelerators=2"),
    ],
)
def test_deepspeed_is_told_which_gpus_are_the_trials(visible, device, option):
    placement = Placement(
        MACHINE, device, {}, 2, Threads(1, 2, ""), {"CUDA_VISIBLE_DEVICES": visible}
    )
    trial = Trial(engine="deepspeed", processes=2)
    assert option in launcher_command(trial, placement, ["module"])


def test_without_a_hostfile_deepspeed_reads_none_of_its_own():
    # Its default is /job/hostfile, which Kubernetes' operators write.
    trial = Trial(engine="deepspeed", processes=2)
    command = launcher_command(
        trial, Placement(MACHINE, "cpu", {}, 2, Threads(1, 2, ""), {}), ["module"]
    )
    assert "--hostfile=/dev/null" in command


def test_torchrun_does_not_restart_ranks():
    # PET_MAX_RESTARTS, which Kubernetes' operators set, would have it do so.
    trial = Trial(engine="ddp", processes=2)
    command = launcher_command(
        trial, Placement(MACHINE, "cpu", {}, 2, Threads(1, 2, ""), {}), ["module"]
    )
    assert "--max_restarts=0" in command


@pytest.mark.parametrize("engine", LAUNCHED)
def test_ranks_on_other_machines_have_the_environment_that_they_need(tmp_path, engine):
    file = tmp_path / "environment"
    environment = {"DSSTUDY_ERRORS": "a folder", "HOME": "elsewhere", "DS_ENV_FILE": str(file)}
    placement = Placement(MACHINE, "cpu", {"one": 1, "two": 1}, 1, 1, environment)
    trial = Trial(engine=engine, processes=2, hostfile="/shared/hostfile")
    command = " ".join(launcher_command(trial, placement, ["module"]))
    assert "--master_addr=one" in command
    assert command.endswith("--module module")
    passed = file.read_text() if file.exists() else command
    assert "DSSTUDY_ERRORS=a folder" in passed
    assert "elsewhere" not in passed
