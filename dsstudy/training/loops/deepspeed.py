"""Engine ``deepspeed``: the same training under DeepSpeed, one process (rank) per GPU."""

import os
from pathlib import Path
from typing import Any

import deepspeed
import torch
import torch.distributed as dist
import torch.nn.functional as F
from deepspeed.accelerator import get_accelerator
from deepspeed.ops.adam import FusedAdam
from torch import nn

from dsstudy.spec.trial import Trial
from dsstudy.training.loops import LONGEST_WAIT
from dsstudy.training.optimizers import cyclic_factory
from dsstudy.training.session import Session


def train(trial: Trial, model: nn.Module, session: Session) -> None:
    """Train a model with DeepSpeed's engine, which owns optimizer, scheduler and precision."""
    deepspeed.init_distributed(timeout=LONGEST_WAIT)
    release_shared_memory_at_exit(session.rank)
    make_contiguous(model)
    engine, *_ = deepspeed.initialize(
        model=model,
        model_parameters=[p for p in model.parameters() if p.requires_grad],
        lr_scheduler=cyclic_factory(trial) if trial.scheduler == "cyclic" else None,
        config=deepspeed_config(trial),
    )
    continue_at_smallest_loss_scale(engine)
    session.resume(DeepSpeedState(engine))

    for epoch in session.epochs():
        engine.train()
        for images, labels in session.batches(epoch):
            loss = F.cross_entropy(engine(images), labels)
            session.step(loss, learning_rate=engine.get_lr()[0])

            scale_fp16_loss(engine, loss)
            engine.backward(loss)
            session.measure_held_memory()
            engine.step()

        session.skipped_steps = engine.skipped_steps
        session.end_epoch(epoch, engine, together=trial.zero_stage == 3)


def make_contiguous(model: nn.Module) -> None:
    """Store weights row by row; DeepSpeed cannot broadcast other layouts, such as channels_last.

    Source: ``DeepSpeedEngine._broadcast_model`` and ``deepspeed.comm`` in version 0.19.8.
    """
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data = tensor.data.contiguous()


class DeepSpeedState:
    """The state of DeepSpeed's engine, saved and loaded by its own functions at any ZeRO stage.

    Source: https://deepspeed.readthedocs.io/en/latest/model-checkpointing.html
    """

    TAG = "deepspeed"

    def __init__(self, engine: deepspeed.DeepSpeedEngine):
        self.engine = engine

    def save(self, folder: Path) -> None:
        """Write weights, optimizer, scheduler and loss scaler; each rank writes its part."""
        self.engine.save_checkpoint(str(folder), tag=self.TAG, save_latest=False)

    def load(self, folder: Path) -> None:
        """Load them. DeepSpeed unpickles: `dsstudy.training.checkpoint` says whom to trust."""
        loaded, _ = self.engine.load_checkpoint(str(folder), tag=self.TAG)
        if loaded is None:  # DeepSpeed only warns
            raise RuntimeError(f"DeepSpeed found no checkpoint in {folder}")
        repeat_powers_of_beta(self.engine.optimizer)


def repeat_powers_of_beta(optimizer: Any) -> None:
    """Restore the part of the state of DeepSpeed's Adam for CPUs that it does not save.

    Its C++ op multiplies up the powers of beta for the bias correction, step by step. After loading
    it would compute them by ``pow``, which rounds differently, and the loss would differ in its
    seventh digit. So the op repeats the same number of steps over a single zero.

    Source: ``Adam_Optimizer::IncrementStep`` in DeepSpeed's ``csrc/includes/cpu_adam.h``.
    """
    adam = getattr(optimizer, "optimizer", optimizer)  # ZeRO wraps it
    if get_accelerator().device_name() != "cpu" or not isinstance(adam, FusedAdam):
        return
    group = adam.param_groups[0]
    zeros = [[torch.zeros(1)] for _ in ("gradient", "weight", "mean", "variance")]
    for step in range(1, 1 + max(state["step"] for state in adam.state.values())):
        adam.multi_tensor_adam(
            1, adam._dummy_overflow_buf, zeros, group["lr"], *group["betas"], group["eps"], step,
            adam.adam_w_mode, 1, 0.0,
        )  # fmt: skip


def deepspeed_config(trial: Trial) -> dict[str, Any]:
    """Return the DeepSpeed configuration of a trial.

    References
    ----------
    Keys: https://www.deepspeed.ai/docs/config-json/. Loss scaling and warm-up: the official
    CIFAR-10 example, ``training/cifar`` in DeepSpeedExamples, which the paper follows.
    """
    kind: str = "SGD"
    own: dict[str, Any] = {"momentum": trial.momentum}
    if trial.optimizer == "adam":
        # By default "Adam" decouples the weight decay, as AdamW does.
        decoupled = {"adam_w_mode": trial.decoupled_weight_decay}
        kind, own = "Adam", {"betas": [trial.beta1, trial.beta2], "eps": 1e-8} | decoupled
    common = {"lr": trial.learning_rate, "weight_decay": trial.weight_decay}
    settings: dict[str, Any] = {
        "train_batch_size": trial.batch_size,
        "optimizer": {"type": kind, "params": own | common},
        # 0 means none. By default DeepSpeed clips at 1.0 (since June 2026, its pull request 8068).
        "gradient_clipping": 0.0 if trial.gradient_clipping == "none" else trial.gradient_clipping,
        "zero_optimization": zero_config(trial),
        "zero_allow_untested_optimizer": True,  # needed for SGD at any ZeRO stage
        "fp16": {
            "enabled": trial.precision == "fp16",
            "loss_scale": 0,  # dynamic
            "initial_scale_power": 15,
            "loss_scale_window": 500,
            "hysteresis": 2,
            "min_loss_scale": 1,
        },
        "bf16": {"enabled": trial.precision == "bf16"},
        "steps_per_print": 2**31,
    }
    if trial.scheduler == "warmup":
        rate, steps = trial.learning_rate, trial.warmup_steps
        course = {"warmup_min_lr": 0.0, "warmup_max_lr": rate, "warmup_num_steps": steps}
        settings["scheduler"] = {"type": "WarmupLR", "params": course}
    return settings


def zero_config(trial: Trial) -> dict[str, int]:
    """Return the part of the configuration about ZeRO.

    A bucket of 500,000,000 elements gives DeepSpeed's defaults. The limits on how many weights
    stage 3 gathers at a time scale with the bucket.
    """
    stage, size = trial.zero_stage, trial.bucket_size
    settings = {"stage": stage}
    if stage > 0:
        settings |= {"reduce_bucket_size": size, "allgather_bucket_size": size}
    if stage == 3:
        settings["stage3_prefetch_bucket_size"] = size // 10
        settings["stage3_max_live_parameters"] = settings["stage3_max_reuse_distance"] = 2 * size
    return settings


def release_shared_memory_at_exit(rank: int) -> None:
    """Unlink this rank's shared buffer for adding up gradients, so that it vanishes with the ranks.

    On a CPU, DeepSpeed's ranks share 66 MB each under a name in ``/dev/shm`` and leave them there
    when they are killed. Memory without a name is freed when its last user ends.
    """
    dist.barrier()  # now all ranks have opened it
    port = os.environ["MASTER_PORT"]
    for buffer in Path("/dev/shm").glob(f"deepspeed_allreduce_buffer_*_{port}_{rank}"):
        buffer.unlink(missing_ok=True)


def scale_fp16_loss(engine: deepspeed.DeepSpeedEngine, loss: torch.Tensor) -> None:
    """Scale the loss in fp16 without ZeRO, where DeepSpeed 0.19 unscales but does not scale.

    Otherwise updates are 32,768 times too small: SGD learns nothing, Adam is limited by its eps,
    and no gradient is clipped. The gradient at the start of the backward pass is the scale of the
    loss, so it is set here. The result stays the same when DeepSpeed scales by itself.

    Source: DeepSpeed's pull request 8393, open as of version 0.19.8.
    """
    if engine.fp16_enabled() and not engine.zero_optimization():
        scale = engine.optimizer.loss_scale_config.cur_scale
        loss.register_hook(lambda gradient: torch.full_like(gradient, scale))


def continue_at_smallest_loss_scale(engine: deepspeed.DeepSpeedEngine) -> None:
    """Keep ZeRO's fp16 training from raising when the loss scale cannot shrink further.

    Without ZeRO, DeepSpeed continues and skips steps. So a training that diverges is recorded as
    diverged at every stage.
    """
    scaler = getattr(engine.optimizer, "loss_scaler", None)
    if scaler is not None and hasattr(scaler, "raise_error_at_min_scale"):
        scaler.raise_error_at_min_scale = False
