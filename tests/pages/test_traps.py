"""The page on DeepSpeed's traps says what the installed DeepSpeed does."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from waiting import PATIENCE, wait_until

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "book" / "traps.md").read_text()
LINES = re.findall(r"^```json\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def settings(given: dict):
    """Return what DeepSpeed reads out of a configuration."""
    from deepspeed.runtime.config import DeepSpeedConfig

    return DeepSpeedConfig({"train_batch_size": 32} | given)


def test_the_defaults_are_as_the_page_says():
    from deepspeed.runtime import config

    known = settings({})
    assert known.gradient_clipping == 1.0
    assert known.zero_config.reduce_bucket_size == 500_000_000
    assert known.zero_config.allgather_bucket_size == 500_000_000
    assert config.ADAM_W_MODE_DEFAULT is True
    assert settings({"train_micro_batch_size_per_gpu": 8}).gradient_accumulation_steps == 4
    assert settings({"gradient_cliping": 0.0}).gradient_clipping == 1.0
    for block in ("zero_optimization", "fp16", "bf16"):
        with pytest.raises(ValueError, match="Extra inputs are not permitted"):
            settings({block: {"misspelt": 1}})


@pytest.mark.parametrize("lines", LINES, ids=lambda text: re.findall(r"\w+", text)[0])
def test_deepspeed_takes_each_line_to_copy(lines):
    given = json.loads(f"{{{lines}}}")
    known = settings(given)
    if "gradient_clipping" in given:
        assert known.gradient_clipping == 0.0
    if "zero_optimization" in given:
        assert known.zero_config.stage == given["zero_optimization"]["stage"]


def test_the_page_lists_the_keys_that_are_refused():
    from deepspeed.runtime import config

    rows = re.findall(r"^\| (top level|`zero_optimization`) \| (.*) \| 0\.19", PAGE, re.MULTILINE)
    listed = {
        place: {key for one, keys in rows if one == place for key in re.findall(r"`(\w+)`", keys)}
        for place, _ in rows
    }
    assert listed == {
        "top level": set(config._REMOVED_TOP_LEVEL_CONFIG_KEYS),
        "`zero_optimization`": set(config._REMOVED_ZERO_CONFIG_KEYS),
    }
    for key in listed["top level"]:
        with pytest.raises(config.DeepSpeedConfigError, match="removed"):
            settings({key: {}})


def test_the_warm_up_is_at_two_thirds_after_a_tenth_of_its_steps():
    import torch
    from deepspeed.runtime.lr_schedules import WarmupLR

    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    warmup = WarmupLR(optimizer, warmup_max_lr=1.0, warmup_num_steps=1000)
    rates = [0.0]  # of the first step
    for _ in range(100):
        warmup.step()
        rates += warmup.get_last_lr()
    assert rates[:2] == [0, 0] != rates[1:3]
    assert rates[-1] == pytest.approx(2 / 3)


EXIT_CODES = re.findall(r"^\| .*SIG(KILL|SEGV)\b.* \| (\d+)\b.* \| ", PAGE, re.MULTILINE)


@pytest.mark.parametrize(
    ("who", "sign", "code"),
    [(who, *row) for who, row in zip(("rank", "rank", "middle"), EXIT_CODES, strict=True)],
)
def test_the_launchers_exit_code_is_as_the_page_says(tmp_path, who, sign, code):
    script, noted = tmp_path / "train.py", tmp_path / "rank"
    script.write_text(
        "import os, pathlib, time\n"
        f"pathlib.Path({str(noted)!r}).write_text(str(os.getpid()))\n"
        "time.sleep(600)\n"
    )
    launcher = Path(sys.executable).parent / "deepspeed"
    alone = [f"--hostfile={os.devnull}", "--num_accelerators=1", "--no_local_rank"]
    with (tmp_path / "log").open("w") as log:
        launched = subprocess.Popen([launcher, *alone, script], stdout=log, stderr=log)
    wait_until(lambda: noted.exists() and noted.read_text())
    rank = psutil.Process(int(noted.read_text()))
    try:
        number = getattr(signal, f"SIG{sign}")
        (rank if who == "rank" else rank.parent()).send_signal(number)
        assert launched.wait(PATIENCE) == int(code)
        assert rank.is_running() == (who == "middle")
        if who == "rank":
            assert f"exits with return code = -{number:d}" in (tmp_path / "log").read_text()
    finally:
        if rank.is_running():
            rank.kill()
