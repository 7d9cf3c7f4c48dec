"""TensorBoard's log repeats the record, also after an interruption."""

import shutil
from pathlib import Path

import pytest
from interrupted import SMALL, forget_the_end
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dsstudy.launching.run import run_trial
from dsstudy.records.record import EVENTS, Record
from dsstudy.spec.trial import Trial


def logged(folder: Path) -> dict[str, dict[int, float]]:
    """Return each step's value, by tag, from the only event file; no step may occur twice."""
    (file,) = folder.glob(EVENTS)
    log = EventAccumulator(str(file), size_guidance={"scalars": 0}, purge_orphaned_data=False)
    log.Reload()
    found = {}
    for tag in log.Tags()["scalars"]:
        events = log.Scalars(tag)
        found[tag] = {event.step: event.value for event in events}
        assert len(found[tag]) == len(events), f"{tag} holds a step twice"
    return found


def assert_log_says_what_the_record_says(record: Record) -> None:
    log = logged(record.folder)
    for name, values in record.steps().items():
        assert log[f"step/{name}"] == pytest.approx(dict(enumerate(values, start=1)))
    for name in ("train_loss", "test_loss", "test_accuracy", "learning_rate", "train_seconds"):
        recorded = {epoch["epoch"]: epoch[name] for epoch in record.epochs()}
        assert log[f"epoch/{name}"] == pytest.approx(recorded)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Record:
    folder = tmp_path_factory.mktemp("whole") / "trial"
    return run_trial(Trial(**SMALL, tensorboard=True, output_dir=str(folder)))


def test_every_step_and_epoch_is_logged(whole):
    assert_log_says_what_the_record_says(whole)


def test_rank_0_logs_the_mean_over_the_ranks(short):
    trial = short(engine="deepspeed", processes=2, epochs=2, scheduler="warmup", tensorboard=True)
    assert_log_says_what_the_record_says(run_trial(trial))


@pytest.mark.parametrize(("epochs", "checkpoints"), [(2, 1), (1, 2)])
def test_a_resumed_trial_logs_no_step_twice(whole, tmp_path, epochs, checkpoints):
    record = Record(shutil.copytree(whole.folder, tmp_path / "trial"))
    forget_the_end(record, epochs, checkpoints)  # the steps and the log are ahead of the epochs
    run_trial(Trial(**SMALL, tensorboard=True, output_dir=str(record.folder)))
    assert_log_says_what_the_record_says(record)


def test_it_makes_no_other_trial_and_is_off_by_default(whole, tmp_path):
    folder = tmp_path / "trial"
    shutil.copytree(whole.folder, folder)
    trial = Trial(**SMALL, output_dir=str(folder))
    assert trial.name == whole.trial().name
    assert run_trial(trial).finished
    assert list(folder.glob(EVENTS))  # shown, not trained again
    run_trial(trial.model_copy(update={"overwrite": True}))
    assert not list(folder.glob(EVENTS))
