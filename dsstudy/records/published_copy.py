"""The published copy of a study: ``trials.jsonl`` and ``epochs.jsonl``."""

import functools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dsstudy.errors import InputError, naming_file, one_line
from dsstudy.paths import published_folder
from dsstudy.records.files import whole_file, write_text
from dsstudy.records.reading import parse_all, parse_object, rows_and_lines
from dsstudy.records.record import FINISHED, Record
from dsstudy.records.schema import EPOCH_LINE, NAMED_LINE
from dsstudy.records.study_folder import read_study_json, required_study_json
from dsstudy.spec.trial import Trial

_encode = json.JSONEncoder(allow_nan=False).encode


def write_published(folder: Path, target: Path) -> None:
    """Write the finished trials of a study's folder over its published copy.

    Rows are copied from file to file; only the names of all trials are held in memory.

    Parameters
    ----------
    folder
        The study's folder of records.
    target
        The folder of the published copy. Trials there stay if they have no result in `folder`, or
        if they are finished there and failed in `folder`.

    Raises
    ------
    InputError
        A trial was restarted meanwhile, a folder has the name of another trial, or a file is
        damaged. The published copy is unchanged.
    """
    places = _finished(folder)
    rows, curves = target / "trials.jsonl", target / "epochs.jsonl"
    before = _line_places(
        rows, lambda row: row["name"] not in places or row.get("status") in FINISHED
    )
    curves_before = functools.cache(lambda: _line_places(curves, lambda row: row["name"] in before))
    target.mkdir(parents=True, exist_ok=True)
    # Not durable: git or the records hold the same content.
    with whole_file(rows, False) as new_rows, whole_file(curves, False) as new_curves:
        for name in sorted({*places, *before}):
            row, ended = _trial_line(name, places[name]) if name in places else (b"", False)
            if ended or name not in before:
                new_rows.write(row)
                new_curves.write(_epoch_lines(name, places[name]))
            else:
                new_rows.write(_lines_at(rows, before[name])[0])
                lines = _lines_at(curves, curves_before().get(name, []))
                with naming_file(curves):
                    lines.sort(key=lambda line: parse_object(line, EPOCH_LINE)["epoch"])
                new_curves.writelines(lines)


def _finished(folder: Path) -> dict[str, str]:
    """Return the trials that have a result, and the folder of each."""
    found: dict[str, str] = {}
    planned = set(read_study_json(folder).get("trials", ()))
    for entry in sorted(os.listdir(folder)):  # noqa: PTH208  a Path for each would be slow
        place = f"{folder}/{entry}"
        if all(os.access(f"{place}/{name}.json", os.F_OK) for name in ("trial", "result")):
            # The study named these folders after its trials, so the trials need not be read.
            name = entry if entry in planned else _recorded_trial(Record(place)).name
            found.setdefault(name, place)
    return found


def _trial_line(name: str, place: str) -> tuple[bytes, bool]:
    """Return a record's line in ``trials.jsonl``, and whether its trial is finished."""
    record = Record(place)
    trial, result = _recorded_trial(record), record.result()
    if trial.name != name:
        raise InputError(
            f"{one_line(place)}/trial.json belongs to another trial than its folder: restore it "
            f"from a copy, or name the folder {trial.name}"
        )
    if result is None:
        raise _restarted(record)
    # Leave out this machine's paths.
    here = {"output_dir": "none", "data_dir": Path(trial.data_dir).name, "hostfile": "none"}
    with naming_file(f"{place}/result.json"):  # the result may contain a number that is not finite
        line = _encode({"name": name, **trial.model_dump(), **here, **result})
    return line.encode() + b"\n", result["status"] in FINISHED


def _recorded_trial(record: Record) -> Trial:
    trial = record.trial()
    if trial is None:
        raise _restarted(record)
    return trial


def _restarted(record: Record) -> InputError:
    return InputError(
        f"{one_line(record.folder)} was restarted while it was being published: publish again"
    )


def _epoch_lines(name: str, place: str) -> bytes:
    """Return the lines of a record's epochs, in order, each starting with the name."""
    start, file = _line_start(name), f"{place}/epochs.jsonl"
    try:
        with open(file, "rb", buffering=0) as stream:  # noqa: PTH123  a Path would be slow
            lines = stream.read().splitlines()
    except FileNotFoundError:
        lines = []
    if not parse_all(lines, EPOCH_LINE):  # parse line by line, to say which line is wrong
        lines = [line for _, line in rows_and_lines(file)]
    return b"".join([start + line[1:] + b"\n" for line in lines])


def _line_start(name: str) -> bytes:
    return _encode({"name": name})[:-1].encode() + b", "


def _line_places(file: Path, stays: Callable[[dict[str, Any]], bool]) -> dict[str, list[range]]:
    """Return the byte ranges of a published file that hold the trials to keep."""
    places: dict[str, list[range]] = {}
    if not file.exists():
        return places
    name, start, end, staying = "", b"\n", 0, False
    with naming_file(file), file.open("rb") as stream:
        for line in stream:
            if not line.startswith(start):  # most lines have the same name as the one before
                row = parse_object(line, NAMED_LINE)
                name, staying = row["name"], stays(row)
                start = _line_start(name)
            place = range(end, end + len(line))
            end = place.stop
            if staying:
                some = places.setdefault(name, [])
                if some and some[-1].stop == place.start:
                    place = range(some.pop().start, place.stop)
                some.append(place)
    return places


def _lines_at(file: Path, places: list[range]) -> list[bytes]:
    """Return the lines in some byte ranges of a file."""
    found = []
    with file.open("rb") as stream:
        for place in places:
            stream.seek(place.start)
            found += stream.read(len(place)).splitlines()
    return [line + b"\n" for line in found]


def publish_study(folder: str | Path) -> Path:
    """Write the finished trials of a study's folder into its small, committed copy.

    Trials that were published earlier, perhaps from another machine, stay.

    Returns
    -------
    Path
        The folder of ``trials.jsonl``, ``epochs.jsonl`` and ``study.json``.
    """
    folder = Path(folder)
    content = required_study_json(folder)
    target = published_folder(content["study"])
    measured = {
        file: {
            row["name"]: line.decode()
            for place in (target, folder)
            for row, line in rows_and_lines(place / file)
        }
        for file in ("times.jsonl", "profiles.jsonl")
    }
    write_published(folder, target)
    write_text(target / "study.json", json.dumps(content, indent=1))
    for file, lines in measured.items():
        if lines:
            write_text(target / file, "".join(f"{line}\n" for line in lines.values()))
    return target
