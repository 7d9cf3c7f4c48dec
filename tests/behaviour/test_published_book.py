"""The published book: every number in its tables traces to a committed record.

The book is built over ``book/results``; until something is published there, over the records of
the demo study, by the same way. Tables 1 and 2 and the differences are computed anew here, from the
lines of the files alone; the other tables are compared with what the library makes of the records.
"""

import csv
import json
import math
import re
import shutil
import statistics
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from site_checks import check_page, serve

from dsstudy.analysis.cells import load_trials
from dsstudy.analysis.claims.claims import judge_study
from dsstudy.analysis.load import load_epochs
from dsstudy.book import CHAPTERS, OWN_PAGES, TOLD, build_book, study_folders
from dsstudy.pages.claims import claims_table
from dsstudy.pages.lenet_full import accuracies_table, gaps_table, last_epoch_table
from dsstudy.pages.study import unfinished_table
from dsstudy.paper import printed
from dsstudy.paths import project_root
from dsstudy.report.origin import SYNTHETIC, origin_box, origin_facts, records_path
from dsstudy.spec.trial import ARCHITECTURES

DEMO = Path(__file__).parents[1] / "records" / "demo"
RESULTS = project_root() / "book" / "results"
PAGES = ("study", "table1", "table2", "figure1", "claims")
FIGURES = {"figure1": 1, "lenet_full": 2, "bridge": 3, "capacity": 3}
T = {1: 12.7062, 2: 4.30265, 3: 3.18245, 4: 2.77645, 5: 2.57058, 8: 2.30600}  # printed tables


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    """Return the folder of published studies."""
    if any(RESULTS.glob("*/trials.jsonl")):
        return RESULTS
    folder = tmp_path_factory.mktemp("results")
    shutil.copytree(DEMO, folder / "demo")
    return folder


@pytest.fixture(scope="module")
def book(results, tmp_path_factory) -> Path:
    return build_book(results, tmp_path_factory.mktemp("book")).parent


@pytest.fixture(scope="module")
def address(book):
    with serve(book) as address:
        yield address


def shown(page: Path, table: str) -> list[list[str]]:
    """Return the texts of a table's rows, as the built page holds them."""
    found = BeautifulSoup(page.read_text(), "html.parser").select_one(f"table#T_{table}")
    assert found, f"{page.name} lacks the table {table}"
    rows = [[cell.get_text(" ", strip=True) for cell in row.select("th,td")]
            for row in found.select("tbody tr")]  # fmt: skip
    assert rows, f"{page.name}: the table {table} is empty"
    return rows


def body(page: Path, table: str) -> list[list[str]]:
    found = BeautifulSoup(page.read_text(), "html.parser").select_one(f"table#T_{table}")
    return [[cell.get_text(" ", strip=True) for cell in row.select("td")]
            for row in found.select("tbody tr")]  # fmt: skip


class Records:
    """A study's committed lines, read without the library."""

    def __init__(self, folder: Path):
        study = json.loads((folder / "study.json").read_text())
        rows = map(json.loads, (folder / "trials.jsonl").read_text().splitlines())
        self.labels = study.get("labels", {})
        self.rows = [row for row in rows if row["name"] in study["trials"]]
        self.profiles = []
        if (folder / "profiles.jsonl").exists():
            lines = (folder / "profiles.jsonl").read_text().splitlines()
            self.profiles = [json.loads(line) for line in lines]
        self.planned = {cell[1] for cell in study.get("cells", [])}
        self.rounds = {}
        if (folder / "times.jsonl").exists():
            for time in map(json.loads, (folder / "times.jsonl").read_text().splitlines()):
                if time["timing"] == "exclusive":
                    self.rounds[time["name"]] = [
                        step * time["steps_per_epoch"] for step in time["seconds_per_step"]
                    ]

    def architectures(self) -> list[str]:
        known = self.planned | {row["architecture"] for row in self.rows}
        return [name for name in ARCHITECTURES if name in known]

    def of(self, architecture: str, engine: str, setting: str) -> list[dict]:
        optimizer = {"SGD": "sgd", "SGD+S": "sgd", "Adam+S": "adam"}[setting]
        return [
            row
            for row in self.rows
            if (row["architecture"], row["engine"], row["optimizer"])
            == (architecture, engine, optimizer)
            and (row["scheduler"] != "none") == setting.endswith("+S")
            and row["status"] == "completed"
        ]

    def accuracies(self, *cell: str) -> dict:
        return {row["seed"]: row["best_accuracy"] for row in self.of(*cell)}

    def seconds(self, *cell: str) -> dict:
        """Return exclusive times, by seed, whether of rounds, and round."""
        times = {}
        rows = self.of(*cell)
        # A cell that was timed in rounds is told by these alone.
        for row in [row for row in rows if row["name"] in self.rounds] or rows:
            alone = [row["seconds_per_epoch"]] if row["timing"] == "exclusive" else []
            for index, seconds in enumerate(self.rounds.get(row["name"], alone)):
                times[row["seed"], row["name"] in self.rounds, index] = seconds
        return times


def numbers(text: str) -> list[float]:
    return [float(n) for n in re.findall(r"[-+]?\d+\.\d+", text.replace("−", "-"))]


def mean_and_deviation(values: list[float]) -> list[float]:
    both = [statistics.mean(values)] + ([statistics.stdev(values)] if len(values) > 1 else [])
    return [round(number, 2) for number in both]


def interval(values: list[float]) -> tuple[float, float]:
    half = T[len(values) - 1] * statistics.stdev(values) / math.sqrt(len(values))
    return statistics.mean(values) - half, statistics.mean(values) + half


def name_of(folder: Path) -> str:
    return json.loads((folder / "study.json").read_text())["study"]


def pages_of(folder: Path) -> list[str]:
    """Return a study's pages: all of the paper's tables, or a chapter of its own."""
    chapters = [page for page, study in CHAPTERS.items() if study == name_of(folder)]
    return ["study", *chapters] if chapters else [*PAGES, *OWN_PAGES.get(name_of(folder), [])]


def studies(results: Path, page: str = "study"):
    """Yield the studies that have a page: where they are in the book, their folder and records."""
    for target, folder in study_folders(results).items():
        if page in pages_of(folder):
            yield target, folder, Records(folder)


def test_table1_is_the_mean_of_the_records_lines(book, results):
    for target, _, records in studies(results, "table1"):
        rows = body(book / target / "table1.html", "table1")
        assert len(rows) == len(records.architectures())
        for architecture, row in zip(records.architectures(), rows, strict=True):
            sides = [(e, s) for e in printed.PAPER_ENGINES for s in printed.SETTINGS]
            for (engine, setting), text in zip(sides, row, strict=True):
                values = list(records.accuracies(architecture, engine, setting).values())
                if values:
                    expected = mean_and_deviation(values)
                    found = numbers(text)[: len(expected)]
                    assert found == pytest.approx(expected, abs=0.0051), (architecture, text)
                    assert ("±" in text) == (len(values) > 1)
                    assert len(values) == 1 or f"n = {len(values)}" in text
                else:
                    assert re.match("missing|failed|unfinished|diverged", text)


def test_differences_are_of_pairs_of_the_records_lines(book, results):
    for target, _, records in studies(results, "table1"):
        rows = iter(body(book / target / "table1.html", "differences"))
        for architecture in records.architectures():
            for setting in printed.SETTINGS:
                shown_gap, _, n, verdict = next(rows)
                deepspeed, normal = (
                    records.accuracies(architecture, engine, setting)
                    for engine in printed.PAPER_ENGINES
                )
                gaps = [deepspeed[seed] - normal[seed] for seed in deepspeed if seed in normal]
                assert int(n) == len(gaps)
                if len(gaps) < 2:
                    assert numbers(shown_gap) == pytest.approx(gaps, abs=0.0051)
                    assert "higher" not in verdict
                    continue
                low, high = interval(gaps)
                expected = [statistics.mean(gaps), low, high]
                assert numbers(shown_gap) == pytest.approx(expected, abs=0.006)
                told = "normal higher" if high < 0 else "DeepSpeed higher" if low > 0 else "cannot"
                assert verdict.startswith(told)


def test_table2_is_of_exclusive_times_of_the_records_lines(book, results):
    for target, _, records in studies(results, "table2"):
        rows = iter(body(book / target / "table2.html", "table2"))
        for architecture in records.architectures():
            for setting in printed.SETTINGS:
                *times, ratio, _ = next(rows)
                sides = [records.seconds(architecture, e, setting) for e in printed.PAPER_ENGINES]
                for text, side in zip(times, sides, strict=True):
                    if side:
                        expected = mean_and_deviation(list(side.values()))
                        assert numbers(text)[: len(expected)] == pytest.approx(expected, abs=0.0051)
                        assert not re.match(r"\d+\.\d+ shared", text)
                    else:
                        assert not numbers(text) or "shared" in text
                pairs = [sides[0][key] / sides[1][key] for key in sides[0] if key in sides[1]]
                if not pairs:
                    assert ratio == "–"
                    continue
                expected = [statistics.mean(pairs), *(interval(pairs) if len(pairs) > 1 else ())]
                assert numbers(ratio) == pytest.approx(expected, abs=0.006)


def test_what_adam_adds_is_of_exclusive_times_of_the_records_lines(book, results):
    for target, _, records in studies(results, "table2"):
        rows = body(book / target / "table2.html", "adam")
        for architecture, row in zip(records.architectures(), rows, strict=True):
            for engine, text in zip(printed.PAPER_ENGINES, row[::2], strict=True):
                sgd, adam = (
                    records.seconds(architecture, engine, setting)
                    for setting in printed.SETTINGS[1:]
                )
                ratios = [adam[key] / sgd[key] for key in adam if key in sgd]
                expected = [statistics.mean(ratios)] if ratios else []
                expected += interval(ratios) if len(ratios) > 1 else ()
                assert numbers(text) == pytest.approx(expected, abs=0.006)


def test_the_bridges_steps_are_of_the_records_lines(book, results):
    for target, _, records in studies(results, "bridge"):
        labels = records.labels
        best = {row["name"]: (row["seed"], row["best_accuracy"]) for row in records.rows}
        chains: dict[str, dict[str, dict]] = {}
        for name, chain, step in ((n, *one) for n, some in labels.items() for one in some.items()):
            values = chains.setdefault(chain, {}).setdefault(step, {})
            values.update([best[name]] if name in best else [])
        for chain, steps in chains.items():
            table = re.sub(r"\W", "_", f"{chain}_best_accuracy")
            before = first = next(iter(chains[chain.removesuffix(" candidates")].values()))
            rows = body(book / target / "bridge.html", table)
            for (measured, change, n), values in zip(rows, steps.values(), strict=True):
                assert int(n) == len(values)
                expected = mean_and_deviation(list(values.values())) if values else []
                assert numbers(measured) == pytest.approx(expected, abs=0.0051)
                against = first if chain.endswith(" candidates") else before
                gaps = [values[seed] - against[seed] for seed in values if seed in against]
                expected = [statistics.mean(gaps)] if gaps else []
                expected += interval(gaps) if len(gaps) > 1 else ()
                assert numbers(change) == pytest.approx(expected, abs=0.006)
                before = values


PHASES = ("data", "forward", "backward", "communication", "optimizer", "rest")


def milliseconds(profile: dict) -> list[float]:
    """Return the phases of the middle round, over the ranks: the middle one is taken by length."""
    lengths = profile["profiled_seconds"]
    middle = lengths.index(sorted(lengths)[(len(lengths) - 1) // 2])
    ranks = [rank["rounds"][middle] for rank in profile["ranks"]]
    return [1e3 * statistics.mean(rank[phase] for rank in ranks) for phase in PHASES]


def test_step_times_are_of_the_profiles_lines(book, results):
    for target, _, records in studies(results, "step_time"):
        by_ms = {tuple(round(ms, 2) for ms in milliseconds(one)): one for one in records.profiles}
        rows = body(book / target / "step_time.html", "phases")
        assert len(rows) == len(records.profiles)
        for threads, plain, profiled, overhead, *phases in rows:
            profile = by_ms[tuple(float(ms) for ms in phases)]
            assert threads == f"{profile['processes']} × {profile['threads']}"
            seconds = profile["plain_seconds"]
            expected = [statistics.median(seconds), min(seconds), max(seconds)]
            assert numbers(plain) == pytest.approx([1e3 * s for s in expected], abs=0.0051)
            assert ("shared" in plain) == (profile["timing"] != "exclusive")
            assert float(profiled) == pytest.approx(sum(milliseconds(profile)), abs=0.0051)
            ratios = [a / b for a, b in zip(profile["profiled_seconds"], seconds, strict=True)]
            percent = float(overhead.rstrip("%").replace("−", "-"))
            assert percent == pytest.approx(100 * (statistics.median(ratios) - 1), abs=0.51)


def test_changes_of_a_step_are_differences_of_the_profiles_lines(book, results):
    for target, _, records in studies(results, "step_time"):
        profiles = {(p["model"], p["batch_size"], p["engine"]): p for p in records.profiles}
        pairs = [
            (one, profiles[key[:2] + (base,)])
            for key, one in profiles.items()
            for base in {"ddp": ["normal"], "deepspeed": ["normal", "ddp"]}.get(key[2], [])
            if key[:2] + (base,) in profiles
        ]
        if not pairs:
            continue
        expected = set()
        for one, other in pairs:
            gaps = [a - b for a, b in zip(milliseconds(one), milliseconds(other), strict=True)]
            sign = 1 if sum(gaps) >= 0 else -1
            most = PHASES[max(range(len(PHASES)), key=lambda i: sign * gaps[i])]
            ratio = statistics.median(one["plain_seconds"]) / statistics.median(
                other["plain_seconds"]
            )
            expected.add((f"{ratio:.2f}", *(f"{gap:+.2f}" for gap in [sum(gaps), *gaps]), most))
        rows = body(book / target / "step_time.html", "changes")
        assert {tuple(text.replace("−", "-") for text in row) for row in rows} == expected


def test_the_tables_on_capacity_are_of_the_records_lines(book, results):
    for target, folder, records in studies(results, "capacity"):
        page = book / target / "capacity.html"
        check_memory(page, folder, records)
        check_ratios(page, records)


def parameters_of(records: Records) -> dict[str, int]:
    """Return the parameters of a study's models, growing, as counts.csv has them."""
    text = (project_root() / "dsstudy" / "spec" / "model_counts.csv").read_text()
    counts = {(row["model"], int(row["image_size"])): int(row["parameters"])
              for row in csv.DictReader(text.splitlines())}  # fmt: skip
    sizes = {row["model"]: counts[row["model"], row["image_size"]] for row in records.rows}
    return dict(sorted(sizes.items(), key=lambda item: item[1]))


def check_memory(page: Path, folder: Path, records: Records) -> None:
    epochs = {}
    for epoch in map(json.loads, (folder / "epochs.jsonl").read_text().splitlines()):
        epochs.setdefault(epoch["name"], epoch)
    sizes = parameters_of(records)
    trials = {(records.labels[row["name"]]["line"], row["model"]): row
              for row in records.rows if row["status"] == "completed"}  # fmt: skip

    def of(line: str, field: str) -> dict[str, float]:
        rows = {model: trials[line, model] for model in sizes if (line, model) in trials}
        return {m: epochs[row["name"]][field] / row["processes"] for m, row in rows.items()}

    for line, _, *cells_of_row in shown(page, "held"):
        held = {m: mb * 2**20 / sizes[m] for m, mb in of(line, "held_memory_mb").items()}
        assert cells_of_row == [f"{held[m]:.1f}" if m in held else "–" for m in sizes]
    for line, *cells_of_row, slope, rest in shown(page, "peaks"):
        peaks = of(line, "peak_memory_mb")
        assert cells_of_row == [f"{peaks[m]:,.0f}" if m in peaks else "missing" for m in sizes]
        if len(peaks) < 2:
            assert (slope, rest) == ("–", "–")
            continue
        fit = statistics.linear_regression([sizes[m] for m in peaks], list(peaks.values()))
        assert slope == f"{fit.slope * 2**20:.1f}"
        assert rest == f"{fit.intercept:,.0f}"


def check_ratios(page: Path, records: Records) -> None:
    rounds = {(records.labels[row["name"]]["line"], row["model"]): records.rounds[row["name"]]
              for row in records.rows if row["name"] in records.rounds}  # fmt: skip
    for line, *cells_of_row in shown(page, "ratios"):
        for model, text in zip(parameters_of(records), cells_of_row, strict=True):
            sides = [rounds.get((name, model), []) for name in (line, "normal")]
            ratios = [one / base for one, base in zip(*sides, strict=False)]
            expected = [statistics.mean(ratios), *interval(ratios)] if len(ratios) > 1 else ratios
            assert numbers(text) == pytest.approx(expected, abs=0.0051)


def test_every_other_table_is_what_the_records_give(book, results):
    for target, folder, _ in studies(results):
        trials, place = load_trials(folder), book / target
        epochs = load_epochs(folder)
        expected = {
            ("study", "unfinished"): unfinished_table(folder),
            **{(page, "provenance"): origin_box(folder) for page in pages_of(folder)},
        }
        if "claims" in pages_of(folder):
            expected["claims", "claims"] = claims_table(judge_study(folder))
        if "lenet_full" in pages_of(folder):
            expected |= {
                ("lenet_full", "lenet"): accuracies_table(trials),
                ("lenet_full", "gaps"): gaps_table(trials),
                ("lenet_full", "last"): last_epoch_table(epochs, trials),
            }
        for (page, table), styler in expected.items():
            if styler is None:
                continue
            fresh = BeautifulSoup(styler.to_html(), "html.parser")
            rows = [[cell.get_text(" ", strip=True) for cell in row.select("th,td")]
                    for row in fresh.select("tbody tr")]  # fmt: skip
            assert shown(place / f"{page}.html", table) == rows


def test_the_box_names_the_records_and_links_to_them(book, results):
    for target, folder, _ in studies(results):
        for page in pages_of(folder):
            html = BeautifulSoup((book / target / f"{page}.html").read_text(), "html.parser")
            (link,) = html.select("table#T_provenance a")
            assert link.text == records_path(folder)
            if folder.is_relative_to(project_root()):
                assert (project_root() / link.text).samefile(folder / "trials.jsonl")
            copy = (book / target / link["href"]).read_bytes()
            assert copy == (folder / "trials.jsonl").read_bytes()


def test_synthetic_numbers_stand_only_under_their_banner(book, results):
    for target, folder, records in studies(results):
        synthetic = any(row["dataset"] == "synthetic" for row in records.rows)
        name = name_of(folder)
        for page in pages_of(folder):
            html = BeautifulSoup((book / target / f"{page}.html").read_text(), "html.parser")
            banners = [note.text for note in html.select("main [role=note]")]
            assert (SYNTHETIC in banners) == synthetic, (name, page)
        first = BeautifulSoup((book / "intro.html").read_text(), "html.parser").select_one("main")
        assert (f"{name} (synthetic images)" in first.text) == synthetic
    engines = BeautifulSoup((book / "engines.html").read_text(), "html.parser")
    assert SYNTHETIC in [note.text for note in engines.select("main [role=note]")]


def test_pages_of_figures_hold_them(book, results):
    for target, folder, records in studies(results):
        single = {("lenet", 16), ("resnet18", 16)}  # of which the page shows one step
        steps = single & {(one["model"], one["batch_size"]) for one in records.profiles}
        counts = FIGURES | {"step_time": 1 + len(steps)}
        for page in counts.keys() & pages_of(folder):
            html = BeautifulSoup((book / target / f"{page}.html").read_text(), "html.parser")
            assert len(html.select("main .cell_output img")) == counts[page]


def test_all_pages_load_alone_and_fit_a_phone(book, page, address):
    for file in sorted(book.glob("**/*.html")):
        if "_" not in file.parent.name and file.stem not in ("index", "genindex", "py-modindex"):
            check_page(page, f"{address}/{file.relative_to(book)}")


def test_the_first_page_says_how_much_there_is(book, results):
    text = BeautifulSoup((book / "intro.html").read_text(), "html.parser").select_one("main").text
    for _, folder, records in studies(results):
        planned = json.loads((folder / "study.json").read_text())["trials"]
        complete = sum(row["status"] == "completed" for row in records.rows)
        assert f"{complete} of {len(planned)} trials are complete" in text
        profiled = f"{len(records.profiles)} of {len(planned)} trials are profiled"
        assert (profiled in text) == bool(records.profiles)


def first_page(book: Path) -> str:
    return " ".join(BeautifulSoup((book / "intro.html").read_text(), "html.parser").text.split())


def test_the_first_page_gives_the_answers(book, results):
    first = first_page(book)
    synthetic = any(row["dataset"] == "synthetic" for _, _, r in studies(results) for row in r.rows)
    pages = [book / "cost_model.html"]
    ending = (*TOLD, *CHAPTERS)
    pages += [book / t / f"{page}.html" for page in ending for t, *_ in studies(results, page)]
    for page in pages:
        html = BeautifulSoup(page.read_text(), "html.parser")
        answer = " ".join(html.select_one("#in-a-sentence .cell_output").text.split())
        assert len(answer) > 80
        assert (answer in first) != synthetic
    for _, folder, _ in studies(results):
        facts = origin_facts(folder)
        for fact in ("hardware", "images", "epochs", "seeds", "times", "profiles"):
            assert facts[fact] == "none" or facts[fact] in first or synthetic


def test_what_the_readme_quotes_stands_on_the_first_page(book):
    first = first_page(book).replace("’", "'")
    readme = (project_root() / "README.md").read_text()
    (section,) = re.findall(r"## What it has found so far\n(.*?)\n## ", readme, re.DOTALL)
    quotes = re.findall(r'"(.+?)"', " ".join(section.split()))
    assert len(quotes) >= 5
    for quote in quotes:
        assert quote in first
