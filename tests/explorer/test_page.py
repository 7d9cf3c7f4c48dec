"""The explorer: its answers, its training processes, and its page in JupyterLab."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from playwright.sync_api import Page, expect
from waiting import wait_until

from dsstudy.explorer.choices import Choices
from dsstudy.explorer.overlay import POINTS, Overlay, RunCurves, printed_accuracy
from dsstudy.explorer.queue import STOP_SECONDS, Queue, Training
from dsstudy.launching.machine import Machine
from dsstudy.launching.placement import problems
from dsstudy.launching.run import run_trial
from dsstudy.paper import printed
from dsstudy.records.folder_lock import folder_holder
from dsstudy.records.record import Record
from dsstudy.records.study_folder import trial_state
from dsstudy.spec.engines import ENGINES
from dsstudy.spec.trial import Trial

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "explore.ipynb"


@pytest.fixture(scope="module")
def machine():
    return Machine.here()


def test_what_is_chosen_at_first_can_be_run(machine):
    trials = Choices(machine).trials()
    assert {trial.engine for trial in trials} == {"normal", "deepspeed"}
    assert not [problem for trial in trials for problem in problems(trial, machine)]


def test_every_engine_is_asked_about(machine):
    options = Choices(machine).options["engine"].values()
    assert {parameters["engine"] for parameters in options} == set(ENGINES)


def test_what_a_machine_cannot_run_is_not_offered_and_says_why(machine):
    poor = replace(machine, compiler=False, cpu_fp16=False, gpus=(), cores=1)
    choices = Choices(poor)
    assert choices.chosen["engine"] == ["normal, 1 process"]
    assert "no g++ here" in choices.reasons("engine")["deepspeed, 1 process"]
    assert choices.reasons("precision")["fp16"].startswith("precision=fp16 is not possible on this")
    assert "download it with 'make cifar10'" in choices.reasons("data")["cifar10"]
    assert "data_dir" in choices.reasons("data")["imagefolder"]
    for question, labels in choices.chosen.items():
        assert not any(choices.reasons(question)[label] for label in labels)


def test_models_and_image_sizes_are_judged_together(machine):
    choices = Choices(machine)
    assert "image_size=32 is not possible" in choices.reasons("model")["alexnet"]
    choices.chosen["image size"] = ["64"]
    assert not choices.reasons("model")["alexnet"]
    choices.chosen["model"] = ["alexnet"]
    assert choices.reasons("image size")["32"]


def test_image_folders_are_offered_by_name(machine, image_folder, monkeypatch):
    monkeypatch.setenv("DSSTUDY_DATA", str(image_folder.parent))
    choices = Choices(machine)
    choices.chosen["data"] = [image_folder.name]
    trial = choices.trials()[0]
    assert (trial.dataset, trial.data_folder) == ("imagefolder", image_folder)
    assert not choices.reasons("data")[image_folder.name]


def test_every_number_of_the_paper_has_its_combination():
    found = {}
    for architecture, engine, setting in printed.CELLS:
        optimizer, _, scheduled = setting.lower().partition("+")
        scheduler = printed.SCHEDULERS[engine] if scheduled else "none"
        trial = Trial(model=architecture, engine=engine, optimizer=optimizer, scheduler=scheduler)
        found[architecture, engine, setting] = printed_accuracy(trial)
    table = printed.printed_values("best_accuracy")
    assert list(found.values()) == table["value"].tolist()
    assert printed_accuracy(Trial(optimizer="adam")) is None
    assert (
        printed_accuracy(Trial(scheduler="warmup")) is None
    )  # the paper's normal training had CyclicLR


def test_the_curve_of_a_finished_run_is_its_record(short):
    trial = short(epochs=3, train_images=1000)  # 62 steps an epoch, which 20 does not divide
    record = run_trial(trial)
    x, y = RunCurves(trial).loss()
    assert len(x) == 3 * POINTS
    loss = record.steps()["loss"]
    bounds = np.rint(x * 62).astype(int)
    expected = [part.mean() for part in np.split(loss, bounds[:-1])]
    np.testing.assert_allclose(y, expected, rtol=1e-6)
    epochs, accuracy = RunCurves(trial).accuracy()
    assert epochs.tolist() == [1, 2, 3]
    assert accuracy.tolist() == [epoch["test_accuracy"] for epoch in record.epochs()]


def test_steps_written_before_their_epochs_line_do_not_bend_the_curve(short):
    trial = short(epochs=2)
    record = run_trial(trial)
    before = RunCurves(trial).loss()[1]
    record.add_steps(40, np.full(20, 99.0), np.zeros(20))
    np.testing.assert_array_equal(RunCurves(trial).loss()[1], before)


def test_the_running_epoch_shows_what_was_seen_of_it(short):
    trial = short(epochs=2)
    record = run_trial(trial)
    curves = RunCurves(trial.model_copy(update={"epochs": 3}))
    common = {"epoch": 3, "epochs": 3, "steps": 20, "accuracy": None}
    for step, loss in ((1, 2.0), (2, 4.0), (2, 6.0)):
        record.set_progress(common | {"step": step, "loss": loss})
        curves.read_progress()
    x, y = curves.loss()
    np.testing.assert_allclose(x[-2:], [2.05, 2.1])
    np.testing.assert_allclose(y[-2:], [2, 5])


def test_the_figure_holds_each_run_once_and_the_papers_numbers(short):
    trials = [short("a"), short("b", seed=1)]
    curves = {run_trial(trial).trial().name: RunCurves(trial) for trial in trials}
    overlay = Overlay()
    for _ in range(2):
        overlay.show(curves, trials)
    lines = [trace for trace in overlay.figure.data if trace.x is not None and len(trace.x)]
    assert len(lines) == 4
    assert lines[0].line.color == lines[2].line.color  # the engine's
    assert lines[0].line.dash != lines[2].line.dash
    first, second = curves
    kept = overlay.dashes(second)
    overlay.show({second: curves[second]}, trials)
    assert overlay.dashes(second) == kept
    overlay.show(curves, trials)
    assert (overlay.dashes(first), overlay.dashes(second)) == ("", kept)
    (line,) = overlay.figure.layout.shapes
    assert line.y0 == printed_accuracy(trials[0])
    overlay.show({}, [])
    assert not overlay.figure.layout.shapes


# Trainings beside the kernel


def processes_of(folder: Path) -> list[psutil.Process]:
    """Return the ranks and launchers that work in a folder."""
    return [p for p in psutil.process_iter(["cmdline"]) if str(folder) in (p.info["cmdline"] or ())]


def has_begun_epoch(trial: Trial, epoch: int):
    return lambda: (Record(trial.folder).progress() or {"epoch": 0})["epoch"] >= epoch


LONG = {"epochs": 200, "train_images": 640}


@pytest.mark.parametrize("engine", [{}, {"engine": "deepspeed", "processes": 2}])
def test_a_stopped_training_leaves_no_process_and_goes_on(short, engine):
    trial = short(**LONG, **engine)
    queue = Queue()
    queue.add([trial, short("other")])
    assert queue.step() is None
    wait_until(has_begun_epoch(trial, 2))
    stopped, recorded = queue.training, Record(trial.folder).epochs()
    queue.stop()
    stopped.process.wait(STOP_SECONDS + 5)
    assert queue.step() is stopped
    assert not queue.busy  # what waited is forgotten
    assert not stopped.error()
    assert not processes_of(trial.folder)
    assert folder_holder(trial.folder) is None
    assert trial_state(Record(trial.folder)) == "unfinished"
    again = Training(trial)
    wait_until(has_begun_epoch(trial, len(recorded) + 2))
    again.stop()
    again.process.wait(STOP_SECONDS + 5)
    assert Record(trial.folder).epochs()[: len(recorded)] == recorded


def test_a_training_ends_with_the_kernel(short):
    trial = short(**LONG, engine="deepspeed", processes=2)
    code = (
        "import sys, time; from dsstudy import Trial; from dsstudy.explorer.queue import Training;"
        "print(Training(Trial.model_validate_json(sys.argv[1])).process.pid, flush=True);"
        "time.sleep(600)"
    )
    command = [sys.executable, "-c", code, trial.model_dump_json()]
    kernel = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    training = psutil.Process(int(kernel.stdout.readline()))
    wait_until(has_begun_epoch(trial, 1))
    kernel.send_signal(signal.SIGKILL)
    kernel.wait()
    training.wait(STOP_SECONDS + 5)
    wait_until(lambda: not processes_of(trial.folder))
    assert len(Record(trial.folder).epochs()) < trial.epochs


def test_a_refused_training_says_why(short):
    training = Training(short(dataset="cifar10", data_dir="nowhere"))
    training.process.wait()
    assert training.error().startswith("dataset=cifar10 is absent from")


# The page


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def address(tmp_path_factory, runs):
    """Serve the notebook by JupyterLab, with nobody's settings, and return its address."""
    home = tmp_path_factory.mktemp("lab")
    (home / "notebooks").mkdir()
    shutil.copy(NOTEBOOK, home / "notebooks")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    places = {
        "JUPYTER_CONFIG_DIR": home / "config",
        "JUPYTER_DATA_DIR": home / "data",
        "JUPYTERLAB_SETTINGS_DIR": home / "settings",
        "JUPYTERLAB_WORKSPACES_DIR": home / "workspaces",
        "DSSTUDY_RUNS": runs,
    }
    server = subprocess.Popen(
        [
            *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"),
            *(f"--port={port}", "--ServerApp.port_retries=0", "--IdentityProvider.token="),
            f"--ServerApp.root_dir={home / 'notebooks'}",
        ],
        env=os.environ | {name: str(place) for name, place in places.items()},
        stdout=(home / "log").open("wb"),
        stderr=subprocess.STDOUT,
    )
    address = f"http://127.0.0.1:{port}"
    wait_until(lambda: server.poll() is not None or _answers(address))
    yield address
    server.terminate()  # and with it its kernels
    server.wait()


def _answers(address: str) -> bool:
    try:
        return urllib.request.urlopen(f"{address}/api").status == 200
    except OSError:
        return False


def open_and_run_all(page: Page, address: str) -> None:
    """Do what the notebook's first line asks for."""
    page.set_default_timeout(300_000)
    expect.set_options(timeout=300_000)
    page.goto(f"{address}/lab/tree/explore.ipynb?reset")
    page.get_by_text("| Idle").wait_for()
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_text("Run All Cells", exact=True).click()


def points(page: Page) -> int:
    """Return how many points of loss the first drawn run has."""
    paths = page.locator(".js-plotly-plot .xy .js-line").evaluate_all(
        "paths => paths.map(path => path.getAttribute('d'))"
    )
    return max((len(re.findall("[ML,]", path)) for path in paths if path), default=0)


def test_choose_run_watch_the_curve_grow_stop(page: Page, address, runs):
    page.set_viewport_size({"width": 1400, "height": 900})
    open_and_run_all(page, address)

    expect(page.get_by_role("radio", name="lenet")).to_be_checked()
    expect(page.get_by_role("radio", name="alexnet")).to_be_disabled()
    page.get_by_role("radio", name="64", exact=True).check()
    expect(page.get_by_role("radio", name="alexnet")).to_be_enabled()
    page.get_by_role("radio", name="32", exact=True).check()
    page.get_by_role("checkbox", name="deepspeed, 2 processes").uncheck()
    page.get_by_role("radio", name="25", exact=True).check()
    expect(page.locator(".dsstudy-command pre")).to_contain_text("-p epochs 25")
    expect(page.locator(".js-plotly-plot")).to_contain_text("LeNet, normal, SGD: 65.62 %")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy", exact=True).click()
    expect(page.get_by_role("button", name="Copied", exact=True)).to_be_visible()
    assert "-p epochs 25" in page.evaluate("navigator.clipboard.readText()")

    page.get_by_role("button", name="Run", exact=True).click()
    status = page.get_by_role("status").first
    expect(status).to_contain_text("epoch 2/25")
    seen = points(page)
    assert seen > 0
    expect(status).to_contain_text("epoch 4/25")
    assert points(page) > seen

    page.get_by_role("button", name="Stop", exact=True).click()
    expect(status).to_contain_text("stopped after")
    (folder,) = (runs / "trials").iterdir()
    assert folder_holder(folder) is None
    assert trial_state(Record(folder)) == "unfinished"
    expect(page.get_by_role("checkbox", name="normal: lenet")).to_be_checked()

    page.get_by_role("button", name="Run", exact=True).click()
    expect(status).to_contain_text(re.compile(r"epoch [5-9]/25"))
    page.get_by_role("button", name="Stop", exact=True).click()
    expect(status).to_contain_text("stopped after")
    assert not page.away  # it works without a network


@pytest.mark.parametrize("width", [1400, 600])
def test_nothing_of_the_page_is_cut_off(page: Page, address, width):
    page.set_viewport_size({"width": width, "height": 900})
    open_and_run_all(page, address)
    page.locator(".js-plotly-plot .main-svg").first.wait_for()
    output = page.locator(".jp-OutputArea-output").filter(has=page.locator(".dsstudy-choice")).first
    output.wait_for()
    page.wait_for_timeout(500)
    right = output.evaluate("area => area.getBoundingClientRect().right")
    parts = ".dsstudy-answer, .js-plotly-plot .main-svg, .dsstudy-command pre, .jupyter-button"
    edges = output.locator(parts).evaluate_all(
        "parts => parts.map(part => part.getBoundingClientRect().right)"
    )
    assert len(edges) > 30
    assert max(edges) <= right + 1
