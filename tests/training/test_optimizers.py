import pytest
import torch
from deepspeed.runtime.lr_schedules import WarmupLR

from dsstudy.spec.trial import Trial
from dsstudy.training.optimizers import build_optimizer, build_scheduler


def course(trial: Trial, steps: int) -> tuple[list[float], list[float]]:
    """Return the learning rate and the momentum (or beta1) of each step."""
    optimizer = build_optimizer(trial, [torch.nn.Parameter(torch.zeros(1))])
    scheduler = build_scheduler(trial, optimizer)
    rates, momenta = [], []
    for _ in range(steps):
        group = optimizer.param_groups[0]
        rates.append(group["lr"])
        momenta.append(group["momentum"] if "momentum" in group else group["betas"][0])
        optimizer.step()
        scheduler.step()
    return rates, momenta


@pytest.mark.parametrize("warmup_steps", [1, 10, 1000])
def test_warmup_equals_deepspeeds_step_by_step(warmup_steps):
    trial = Trial(scheduler="warmup", warmup_steps=warmup_steps)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=trial.learning_rate)
    deepspeeds = WarmupLR(optimizer, 0.0, trial.learning_rate, warmup_steps)
    expected = []
    for _ in range(1200):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        deepspeeds.step()
    assert course(trial, 1200)[0] == pytest.approx(expected, rel=1e-12)


def test_cyclic_is_a_triangle_with_momentum_against_it():
    trial = Trial(scheduler="cyclic", cycle_steps=4)
    rates, momenta = course(trial, 9)
    up = [0, 0.25, 0.5, 0.75, 1]
    assert rates == pytest.approx([1e-3 * x for x in up + up[-2::-1]])
    assert momenta == pytest.approx([0.9 - 0.1 * x for x in up + up[-2::-1]])


def test_cyclic_leaves_adams_beta_alone_by_default():
    assert set(course(Trial(optimizer="adam", scheduler="cyclic"), 9)[1]) == {0.9}
    cycled = Trial(optimizer="adam", scheduler="cyclic", cycle_steps=4, cycle_momentum=True)
    assert min(course(cycled, 9)[1]) == pytest.approx(0.8)


def test_without_scheduler_the_rate_stays():
    assert set(course(Trial(learning_rate=0.02), 5)[0]) == {0.02}
