"""Our training loop's epoch against a bare PyTorch loop over batches already in memory.

Usage: python benchmarks/floor.py [--rounds 7]

Same model, optimizer, batches and number of steps; the two take turns, so that a drift of the
machine's speed falls on both. The ratio is the cost of everything that the bare loop lacks: making
batches from uint8 images, keeping losses, reporting progress, schedulers.
"""

import argparse
import tempfile
import time

import torch
import torch.nn.functional as F
from common import ratio_table, save

from dsstudy.images.data import epoch_order, load_data, rank_batches
from dsstudy.records.record import Record
from dsstudy.spec.trial import Trial
from dsstudy.training.loops.normal import train
from dsstudy.training.models import build_model
from dsstudy.training.optimizers import build_optimizer
from dsstudy.training.session import Session


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    trials = {
        "lenet": Trial(epochs=1, train_images=8000, test_images=16),
        "resnet18": Trial(
            model="resnet18", image_size=32, epochs=1, train_images=480, test_images=16
        ),
    }
    results = {}
    for name, trial in trials.items():
        ours, bare = [], []
        for round_ in range(rounds + 1):
            pair = our_epoch(trial), bare_epoch(trial)
            if round_:  # the first warms up
                ours.append(pair[0])
                bare.append(pair[1])
        results[name] = {
            "steps": trial.train_images // trial.batch_size,
            "ours_seconds": ours,
            "bare_seconds": bare,
            "ratio": ratio_table(ours, bare),
        }
    save("floor", results)


def our_epoch(trial: Trial) -> float:
    with tempfile.TemporaryDirectory() as folder:
        record, device = Record(folder), torch.device("cpu")
        data = load_data(trial)
        session = Session(trial, data, record, device)
        train(trial, build_model(trial, 10), session)
        return record.epochs()[0]["train_seconds"]


def bare_epoch(trial: Trial) -> float:
    data = load_data(trial)
    order = epoch_order(len(data.train), trial.seed, 1)
    batches = [
        data.train.batch(share, trial.image_size) for share in rank_batches(order, trial.batch_size)
    ]
    model = build_model(trial, 10)
    optimizer = build_optimizer(trial, model.parameters())
    model.train()
    started = time.perf_counter()
    for images, labels in batches:
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
