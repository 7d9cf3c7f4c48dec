"""Faults outside a trial, each provoked for real, and what they leave behind.

One cannot be provoked without a GPU: its memory running out.
"""

import contextlib
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import nbformat
import psutil
import pytest
from interrupted import SMALL, assert_same
from ranks import processes_of, wait_for_training
from waiting import PATIENCE, wait_until

import dsstudy
from dsstudy import paths
from dsstudy.launching import launcher, launcher_command
from dsstudy.launching import notebook as notebook_module
from dsstudy.launching.launcher import TrialError
from dsstudy.launching.launcher_command import _free_port
from dsstudy.launching.notebook import _note_failure, _notebook_failure
from dsstudy.launching.run import run_trial
from dsstudy.launching.warm_kernels import WarmProvisioner
from dsstudy.records.folder_lock import folder_holder, hold_folder
from dsstudy.records.record import Record
from dsstudy.records.study_folder import study_states
from dsstudy.spec.engines import LAUNCHED
from dsstudy.spec.study import load_study
from dsstudy.spec.trial import Trial
from dsstudy.studies.batch import run_study
from dsstudy.training import session
from dsstudy.training.rank import rank_lock

BIN = Path(sys.executable).parent
TRAIN = "import dsstudy, json, sys; dsstudy.run_trial(dsstudy.Trial(**json.loads(sys.argv[1])))"
TWO = {"engine": "deepspeed", "processes": 2}


def in_a_namespace(script: str, **environment: str) -> subprocess.CompletedProcess:
    """Run a shell script that may mount file systems for itself alone."""
    return subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", script],
        env=os.environ | {"PYTHON": sys.executable, "TRAIN": TRAIN} | environment,
        capture_output=True,
        text=True,
    )


needs_mounts = pytest.mark.skipif(
    in_a_namespace("mount -t tmpfs none /mnt").returncode != 0,
    reason="file systems cannot be mounted here (unshare --map-root-user --mount)",
)


@needs_mounts
@pytest.mark.parametrize("engine", [{}, TWO], ids=["normal", "deepspeed"])
def test_a_full_disk_is_named_and_the_trial_resumes_once_there_is_space(engine, tmp_path):
    for name in ("disk", "whole"):
        (tmp_path / name).mkdir()
    whole = run_trial(Trial(**(SMALL | engine), output_dir=str(tmp_path / "whole" / "trial")))
    trial = Trial(**(SMALL | engine), output_dir=str(tmp_path / "disk" / "trial"))
    done = in_a_namespace(
        'mount -t tmpfs -o size=1200k none "$DISK"\n'  # two checkpoints, but not a third
        '"$PYTHON" -c "$TRAIN" "$TRIAL" 2> "$OUT/said" && echo "not full"\n'
        'cp "$DISK/trial/epochs.jsonl" "$OUT/recorded"\n'
        'cp "$DISK/trial/result.json" "$OUT/failed.json"\n'
        'mount -o remount,size=20m "$DISK"\n'
        '"$PYTHON" -c "$TRAIN" "$TRIAL" && cp -r "$DISK/trial" "$OUT/resumed"\n',
        DISK=str(tmp_path / "disk"),
        OUT=str(tmp_path),
        TRIAL=trial.model_dump_json(),
    )
    assert done.returncode == 0, done.stderr
    assert "not full" not in done.stdout
    assert "Resuming from checkpoint" in done.stdout
    last = (tmp_path / "said").read_text().strip().splitlines()[-1]
    assert "no space left" in last or "No space left" in last
    # A study resumes it, unlike a trial that failed by itself.
    assert json.loads((tmp_path / "failed.json").read_text())["interrupted"] is True
    recorded = (tmp_path / "recorded").read_text()
    assert (tmp_path / "resumed" / "epochs.jsonl").read_text().startswith(recorded)
    assert_same(Record(tmp_path / "resumed"), whole)


@needs_mounts
def test_a_read_only_folder_is_named(tmp_path):
    (tmp_path / "tiny.yaml").write_text("matrix: {train_images: [32]}\n")
    (tmp_path / "runs").mkdir()
    done = in_a_namespace(
        'mount -t tmpfs -o ro none "$DSSTUDY_RUNS"\n'
        'cd "$HERE"; dsstudy run tiny.yaml 2>&1\n'
        'papermill "$NOTEBOOK" out.ipynb -p output_dir "$DSSTUDY_RUNS/x" 2>&1 | grep . | tail -1\n',
        DSSTUDY_RUNS=str(tmp_path / "runs"),
        NOTEBOOK=str(Path(__file__).parents[2] / "notebooks" / "trial.ipynb"),
        PATH=f"{BIN}:{os.environ['PATH']}",
        HERE=str(tmp_path),
    )
    assert done.stdout.count("\n") == 2, done
    study, trial = done.stdout.splitlines()
    assert study.startswith(f"Error: {tmp_path}/runs/tiny cannot be written (Read-only file system")
    assert f"output_dir={tmp_path}/runs/x cannot be written (Read-only file system)" in trial


@pytest.mark.parametrize("engine", LAUNCHED)
def test_a_hanging_rank_is_ended_by_the_watchdog(short, engine):
    trial = short(engine=engine, processes=2, epochs=1000, watchdog_seconds=10)

    def stop_rank_1() -> None:
        wait_for_training(trial)[1].suspend()

    threading.Thread(target=stop_rank_1).start()
    with pytest.raises(TrialError, match=r"rank 1 was stopped from outside") as error:
        run_trial(trial)
    assert "no rank made progress for 10 s, at epoch" in str(error.value)
    assert not processes_of(trial)
    # Rank 0, which waited, has printed its stack.
    assert f"dsstudy/training/loops/{engine}.py" in (trial.folder / "launch.log").read_text()
    assert Record(trial.folder).result()["interrupted"] is False


def test_what_the_watchdog_sees_changes_with_every_batch_that_is_evaluated(short, monkeypatch):
    told = []
    monkeypatch.setattr(session, "PROGRESS_SECONDS", 0)
    monkeypatch.setattr(Record, "set_progress", lambda record, progress: told.append(progress))
    run_trial(short(test_images=2000))
    assert len(told) >= 20 + 4  # steps, and batches of 512 images
    assert all(one != next_one for one, next_one in itertools.pairwise(told))


def test_a_rank_whose_parent_is_gone_does_not_wait_for_another_attempts_rank(short):
    record = Record(short().folder)
    record.start(short(**TWO))
    parent = {"DSSTUDY_PARENT": "1", "DSSTUDY_PARENT_STARTED": "0.0"}
    own = {"RANK": "0", "DSSTUDY_PARENT_HOST": socket.gethostname()} | parent
    with rank_lock(record, 0):
        left = subprocess.Popen(
            [sys.executable, "-m", "dsstudy.training.rank", str(record.folder)],
            env=os.environ | own,
            start_new_session=True,
        )
        try:
            assert left.wait(PATIENCE) == -signal.SIGKILL
        finally:
            left.kill()


def test_no_engine_takes_a_folder_that_a_rank_may_still_write(short, monkeypatch):
    record = Record(short().folder)
    record.start(short(**TWO))
    monkeypatch.setattr(launcher, "RANKS_END_SECONDS", 0.1)
    with rank_lock(record, 1):
        with pytest.raises(dsstudy.InputError, match="a rank of an earlier attempt still runs in"):
            run_trial(short(overwrite=True))
        assert record.trial() == short(**TWO)
    assert run_trial(short(overwrite=True)).finished


@needs_mounts
def test_an_error_that_finds_no_space_leaves_no_partial_file(tmp_path):
    code = "import sys; from pathlib import Path; from dsstudy.training.rank import _leave_error\n"
    code += "_leave_error(Path(sys.argv[1]) / 'rank0.json', 0, ValueError('why'))"
    done = in_a_namespace(
        'mount -t tmpfs -o size=4k none "$DISK"; head -c 4096 /dev/zero > "$DISK/full"\n'
        '"$PYTHON" -c "$CODE" "$DISK"; echo "exit code $?"; ls "$DISK"',
        DISK=str(tmp_path),
        CODE=code,
    )
    assert done.stdout.split("\n") == ["exit code 0", "full", ""], done.stderr


def test_a_port_in_use_is_replaced_by_another(short, monkeypatch, capsys):
    free_port, asked = _free_port, []
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()

        def port() -> int:
            asked.append(1)
            return taken.getsockname()[1] if len(asked) == 1 else free_port()

        monkeypatch.setattr(launcher_command, "_free_port", port)
        assert run_trial(short(**TWO)).finished
    assert len(asked) == 2
    assert "trying another" in capsys.readouterr().out


LONG = "matrix: {epochs: [1000]}\ndefaults: {train_images: 320, test_images: 100}\n"


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A study of one long trial, in folders of its own."""
    monkeypatch.setenv("DSSTUDY_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(paths, "results_folder", lambda: tmp_path / "published")
    file = tmp_path / "tiny.yaml"
    file.write_text(LONG)
    return load_study(file)


@contextlib.contextmanager
def running(study) -> Iterator[subprocess.Popen]:
    """Run a study in the background until its trial trains."""
    command = [str(BIN / "dsstudy"), "run", str(study.file)]
    runner = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        wait_for_training(study.trials[0])
        yield runner
    finally:
        runner.kill()
        runner.communicate()


def test_the_second_run_of_a_study_says_who_holds_it(tiny):
    trial = tiny.trials[0]
    with running(tiny) as runner:
        command = [str(BIN / "dsstudy"), "run", str(tiny.file)]
        second = subprocess.run(command, capture_output=True, text=True)
        assert second.returncode == 1
        (sentence,) = second.stderr.strip().splitlines()
        assert (
            f"{tiny.folder} is in use by process {runner.pid} on {socket.gethostname()}" in sentence
        )
        # A trial refuses a second trainer too, and is not disturbed by it.
        with pytest.raises(dsstudy.InputError, match="is in use by process"):
            run_trial(trial)
        failure = _notebook_failure(ValueError("no"), out_of_memory=False)
        said = _note_failure(failure, trial, Record(trial.folder), None)
        assert said == "ValueError: no"
        assert study_states(tiny.folder) == {trial.name: "running"}
        assert runner.poll() is None


def test_a_killed_kernel_is_reported_and_the_study_resumes(tiny):
    record = Record(tiny.trials[0].folder)
    with running(tiny) as runner:
        kernel = psutil.Process(folder_holder(record.folder)["pid"])
        assert kernel.pid != runner.pid
        # It uses no ports, which another program could take before the kernel does.
        assert len({s.laddr for s in kernel.net_connections("unix") if "dsstudy-" in s.laddr}) == 5
        kernel.kill()
        said, _ = runner.communicate(timeout=PATIENCE)
    assert runner.returncode == 1
    assert "the notebook's kernel was killed; run the study again to resume it" in said
    assert study_states(tiny.folder) == {record.folder.name: "unfinished"}
    recorded = record.epochs()
    with running(tiny):
        wait_until(lambda: len(record.epochs()) > len(recorded))
    assert record.epochs()[: len(recorded)] == recorded


def test_a_kernel_killed_before_it_first_answers_leaves_its_trial_unfinished(tiny, monkeypatch):
    start = WarmProvisioner.launch_kernel

    async def start_and_kill(provisioner, *arguments, **options):
        connection = await start(provisioner, *arguments, **options)
        provisioner.process.kill()
        return connection

    monkeypatch.setattr(WarmProvisioner, "launch_kernel", start_and_kill)
    (trial,) = tiny.trials
    assert run_study(tiny, tiny.trials) == {trial.name: "unfinished"}
    result = Record(trial.folder).result()
    assert result["error"] == "the notebook's kernel was killed; run the study again to resume it"


def test_a_cell_that_raises_after_the_training_is_reported(tiny, tmp_path, monkeypatch, capsys):
    root = tmp_path / "project"
    (root / "notebooks").mkdir(parents=True)
    notebook = nbformat.read(Path(__file__).parents[2] / "notebooks" / "trial.ipynb", 4)
    notebook.cells.append(nbformat.v4.new_code_cell("raise KeyError('a plot')"))
    nbformat.write(notebook, root / "notebooks" / "trial.ipynb")
    monkeypatch.setattr(notebook_module, "project_root", lambda: root)
    tiny.file.write_text(LONG.replace("1000", "1"))
    study = load_study(tiny.file)
    (trial,) = study.trials
    assert run_study(study, study.trials) == {trial.name: "completed"}
    said = capsys.readouterr().out
    assert f"{trial.name}: trained to its end, but its notebook failed: KeyError: 'a plot'" in said


def memory_group() -> Path | None:
    """Return a control group that limits the memory of its processes, if this user may make one."""
    for root, limit in (
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
        ("/sys/fs/cgroup", "memory.max"),
    ):
        group = Path(root) / f"dsstudy-test-{os.getpid()}"
        with contextlib.suppress(OSError):
            group.mkdir()
            if (group / limit).exists():
                (group / limit).write_text(str(2400 * 2**20))
                return group
            group.rmdir()
    return None


def remove_group(group: Path) -> None:
    """Remove a control group once the last of its processes is gone."""

    def gone() -> bool:
        with contextlib.suppress(OSError):
            group.rmdir()
        return not group.exists()

    wait_until(gone)


def test_a_rank_killed_because_memory_ran_out_is_reported_as_such(short):
    group = memory_group()
    if group is None:
        pytest.skip("memory cannot be limited here: this user may make no control group")
    # AlexNet with Adam needs a gigabyte per rank, which is too much for two ranks in the group.
    trial = short(**TWO, model="alexnet", image_size=63, optimizer="adam", epochs=3)
    try:
        script = f'echo $$ > {group}/cgroup.procs; exec "$PYTHON" -c "$TRAIN" "$TRIAL"'
        environment = {"PYTHON": sys.executable, "TRAIN": TRAIN, "TRIAL": trial.model_dump_json()}
        done = subprocess.run(
            ["sh", "-c", script], env=os.environ | environment, capture_output=True, text=True
        )
    finally:
        remove_group(group)
    assert done.returncode == 1, done.stderr
    assert "killed by the system, which had run out of memory" in done.stderr.splitlines()[-1]
    assert json.loads((trial.folder / "result.json").read_text())["interrupted"] is True


@pytest.mark.skipif(not Path("/dev/shm").exists(), reason="DeepSpeed shares memory there on Linux")
def test_killed_ranks_leave_no_shared_memory_behind(short):
    trial = short(**TWO, epochs=1000)
    before = set(Path("/dev/shm").iterdir())
    code = [sys.executable, "-c", TRAIN, trial.model_dump_json()]
    parent = subprocess.Popen(code, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for process in [*wait_for_training(trial), psutil.Process(parent.pid)]:
        process.send_signal(signal.SIGKILL)
    parent.wait()
    assert not set(Path("/dev/shm").glob("deepspeed_*")) - before


@pytest.mark.parametrize("note", ["[]", "3", '{"pid": ', None])
def test_a_folder_is_held_whatever_its_note_says(tmp_path, note):
    with hold_folder(tmp_path):
        (tmp_path / ".holder.json").unlink()
        if note is not None:
            (tmp_path / ".holder.json").write_text(note)
        with pytest.raises(dsstudy.InputError, match="in use by process unknown"):
            hold_folder(tmp_path).__enter__()


def test_a_held_folder_is_released_however_its_holder_ends(tmp_path):
    code = (
        "import sys, time; from pathlib import Path\n"
        "from dsstudy.records.folder_lock import hold_folder\n"
        "with hold_folder(Path(sys.argv[1])): print(flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "folder")]
    other = subprocess.Popen(command, stdout=subprocess.PIPE)
    other.stdout.readline()
    assert folder_holder(tmp_path / "folder")["pid"] == other.pid
    with pytest.raises(dsstudy.InputError, match=f"in use by process {other.pid}"):
        hold_folder(tmp_path / "folder").__enter__()
    other.kill()
    other.wait()
    assert folder_holder(tmp_path / "folder") is None
    with hold_folder(tmp_path / "folder"):
        assert folder_holder(tmp_path / "folder")["pid"] == os.getpid()
    assert folder_holder(tmp_path / "folder") is None
    shutil.rmtree(tmp_path / "folder")
