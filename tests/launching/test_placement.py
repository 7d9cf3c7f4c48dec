"""Where a trial runs, and what keeps it from running there."""

from dataclasses import replace

import pytest

from dsstudy.launching import placement
from dsstudy.launching.machine import Gpu, Machine
from dsstudy.launching.placement import place_trial, problems
from dsstudy.spec.trial import Trial

LAPTOP = Machine("a processor", cores=4, memory_gib=16, cpu_fp16=False, cpu_bf16=False)
WORKSTATION = Machine(
    "a processor",
    cores=16,
    memory_gib=64,
    cpu_fp16=True,
    cpu_bf16=True,
    gpus=(Gpu("GeForce RTX 2080", 8, bf16=False),),
)


@pytest.mark.parametrize(
    ("machine", "parameters", "sentence"),
    [
        (LAPTOP, {"device": "cuda"}, "device=cuda is not possible without a GPU"),
        (LAPTOP, {"precision": "tf32"}, "not possible on this CPU: set precision to fp32 or bf16"),
        (WORKSTATION, {"precision": "tf32"}, "set precision to fp32 or fp16"),
        (LAPTOP, {"precision": "fp16"}, "set precision to fp32 or bf16"),
        (LAPTOP, {"engine": "deepspeed", "processes": 8}, "more than this machine's 4 CPU cores"),
        (replace(LAPTOP, compiler=False), {"engine": "deepspeed"}, "set engine to normal or ddp"),
        (LAPTOP, {"dataset": "cifar10"}, "download it with 'make cifar10'"),
        (LAPTOP, {"model": "alexnet", "image_size": 32}, "image_size=32 is not possible for"),
        (LAPTOP, {"model": "timm/no_such"}, "is not among the models of the installed timm"),
        (WORKSTATION, {"engine": "deepspeed", "processes": 2}, "more than this machine's 1 GPUs"),
        (WORKSTATION, {"precision": "bf16"}, "set precision to fp32 or fp16"),
    ],
)
def test_what_a_machine_cannot_run_is_said_before_training(machine, parameters, sentence):
    (found,) = problems(Trial(**parameters), machine)
    assert sentence in found


def test_what_a_machine_can_run_has_no_problems():
    assert not problems(Trial(engine="deepspeed", processes=4), LAPTOP)
    assert not problems(Trial(engine="ddp", processes=4), replace(LAPTOP, compiler=False))
    assert not problems(Trial(precision="fp16"), WORKSTATION)
    assert not problems(Trial(engine="deepspeed", processes=2, device="cpu"), WORKSTATION)


def test_hosts_share_the_ranks(tmp_path, monkeypatch):
    monkeypatch.setattr(placement, "check_hosts", lambda trial, hosts: None)  # pdsh may be missing
    (tmp_path / "hostfile").write_text("one slots=2\ntwo slots=2\n")
    parameters = {"model": "resnet18", "engine": "ddp", "processes": 4}
    trial = Trial(**parameters, hostfile=str(tmp_path / "hostfile"))
    placed = place_trial(trial, LAPTOP)
    assert (placed.device, placed.hosts) == ("cpu", {"one": 2, "two": 2})
    assert (placed.ranks_per_host, placed.threads.number) == (2, 2)
    assert placed.environment["DSSTUDY_DEVICE"] == "cpu"
    assert "environment" not in repr(placed)  # which may hold secrets
