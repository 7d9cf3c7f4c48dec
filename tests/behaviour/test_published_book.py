"""The published book: every number in its tables traces to a committed record.

The book is built over ``book/results``; as long as nothing is published there, over the records of
the demo study, in the same way. Most tables are computed again from the lines of the files alone;
the others are compared with what the library makes of the records.
"""

import csv
import json
import math
import re
import shutil
import statistics
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from bs4 import BeautifulSoup
from site_checks import check_page, serve
from tables import read_table

from dsstudy.analysis.cells import load_trials
from dsstudy.analysis.claims.claims import judge_studies
from dsstudy.analysis.load import load_epochs
from dsstudy.book import Page, book_parts, build_book, study_folders
from dsstudy.pages.claims import claims_table
from dsstudy.pages.intro import HERE, INFERRED, PAPER, PUBLIC, advices
from dsstudy.pages.lenet_full import accuracies_table, gaps_table, last_epoch_table
from dsstudy.pages.study import unfinished_table
from dsstudy.paper import printed
from dsstudy.paths import project_root
from dsstudy.report.origin import SYNTHETIC, origin_box, records_path
from dsstudy.spec.engines import ENGINES
from dsstudy.spec.trial import ARCHITECTURES

DEMO = Path(__file__).parents[1] / "records" / "demo"
RESULTS = project_root() / "book" / "results"
FIGURES = {"figure1": 1, "lenet_full": 2, "bridge": 3, "capacity": 3}
T = {
    1: 12.7062,
    2: 4.30265,
    3: 3.18245,
    4: 2.77645,
    5: 2.57058,
    6: 2.44691,
    8: 2.30600,
    12: 2.17881,
    14: 2.14479,
    16: 2.11991,
}  # quantiles of Student's t, from printed tables


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


def shown(page: Path, table: str) -> pd.DataFrame:
    """Return a table of a page of the built book."""
    return read_table(page.read_text(), table)


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
        # The times of rounds replace the training's own.
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


def ratio_and_interval(ratios: list[float]) -> list[float]:
    """Return the geometric mean and, of several, the limits of its interval."""
    logs = [math.log(ratio) for ratio in ratios]
    limits = interval(logs) if len(logs) > 1 else ()
    return [math.exp(log) for log in (statistics.mean(logs), *limits)]


def title_of(folder: Path) -> str:
    study = json.loads((folder / "study.json").read_text())
    return study.get("title", study["study"])


def pages(results: Path) -> list[Page]:
    return [page for _, some in book_parts(study_folders(results)) for page in some]


def studies(results: Path, name: str = "study") -> Iterator[tuple[Path, Path, Records]]:
    """Yield the studies that have a page: the page's file in the book, the folder, the records."""
    for page in pages(results):
        if page.name == name:
            yield Path(f"{page.path}.html"), page.study, Records(page.study)


def pages_of(results: Path, folder: Path) -> dict[str, Path]:
    """Return the pages over a study, by name: their files in the book."""
    return {page.name: Path(f"{page.path}.html") for page in pages(results) if page.study == folder}


def rows_of(records: Records) -> list[tuple[str, str]]:
    """Return the names of the rows of a table over architectures and settings."""
    architectures = [printed.NAMES[architecture] for architecture in records.architectures()]
    return [(one, setting) for one in architectures for setting in printed.SETTINGS]


def test_table1_is_the_mean_of_the_records_lines(book, results):
    for page, _, records in studies(results, "table1"):
        table = shown(book / page, "table1")
        assert list(table.index) == [printed.NAMES[one] for one in records.architectures()]
        cells = [cell for cell in printed.CELLS if cell[0] in records.architectures()]
        assert table.size == len(cells)
        for architecture, engine, setting in cells:
            text = table.at[printed.NAMES[architecture], (ENGINES[engine].column, setting)]
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
    for page, _, records in studies(results, "table1"):
        table = shown(book / page, "differences")
        assert list(table.index) == rows_of(records)
        for architecture in records.architectures():
            for setting in printed.SETTINGS:
                row = table.loc[(printed.NAMES[architecture], setting)]
                deepspeed, normal = (
                    records.accuracies(architecture, engine, setting)
                    for engine in printed.PAPER_ENGINES
                )
                gaps = [deepspeed[seed] - normal[seed] for seed in deepspeed if seed in normal]
                assert int(row["n"]) == len(gaps)
                if len(gaps) < 2:
                    assert numbers(row["DeepSpeed − normal"]) == pytest.approx(gaps, abs=0.0051)
                    assert "higher" not in row["verdict"]
                    continue
                low, high = interval(gaps)
                expected = [statistics.mean(gaps), low, high]
                assert numbers(row["DeepSpeed − normal"]) == pytest.approx(expected, abs=0.006)
                higher = "normal higher" if high < 0 else "DeepSpeed higher" if low > 0 else ""
                assert row["verdict"].startswith(higher)
                assert bool(higher) == ("higher" in row["verdict"])


def test_table2_is_of_exclusive_times_of_the_records_lines(book, results):
    for page, _, records in studies(results, "table2"):
        table = shown(book / page, "table2")
        assert list(table.index) == rows_of(records)
        for architecture in records.architectures():
            for setting in printed.SETTINGS:
                row = table.loc[(printed.NAMES[architecture], setting)]
                sides = [records.seconds(architecture, e, setting) for e in printed.PAPER_ENGINES]
                for engine, side in zip(printed.PAPER_ENGINES, sides, strict=True):
                    text = row[f"{ENGINES[engine].title} (s)"]
                    if side:
                        expected = mean_and_deviation(list(side.values()))
                        assert numbers(text)[: len(expected)] == pytest.approx(expected, abs=0.0051)
                        assert not re.match(r"\d+\.\d+ shared", text)
                    else:
                        assert not numbers(text) or "shared" in text
                pairs = [sides[0][key] / sides[1][key] for key in sides[0] if key in sides[1]]
                if not pairs:
                    assert row["DeepSpeed / normal"] == "–"
                    continue
                expected = ratio_and_interval(pairs)
                assert numbers(row["DeepSpeed / normal"]) == pytest.approx(expected, abs=0.006)


def test_what_adam_adds_is_of_exclusive_times_of_the_records_lines(book, results):
    for page, _, records in studies(results, "table2"):
        table = shown(book / page, "adam")
        assert list(table.index) == [printed.NAMES[one] for one in records.architectures()]
        for architecture in records.architectures():
            for engine in printed.PAPER_ENGINES:
                text = table.at[printed.NAMES[architecture], (ENGINES[engine].column, "here")]
                sgd, adam = (
                    records.seconds(architecture, engine, setting)
                    for setting in printed.SETTINGS[1:]
                )
                ratios = [adam[key] / sgd[key] for key in adam if key in sgd]
                expected = ratio_and_interval(ratios) if ratios else []
                assert numbers(text) == pytest.approx(expected, abs=0.006)


def test_the_bridges_steps_are_of_the_records_lines(book, results):
    for page, _, records in studies(results, "bridge"):
        labels = records.labels
        for column, epoch in (("best_accuracy", "best"), ("final_accuracy", "last")):
            known = {row["name"]: (row["seed"], row[column]) for row in records.rows}
            chains: dict[str, dict[str, dict]] = {}
            for name, axes in labels.items():
                for chain, step in axes.items():
                    values = chains.setdefault(chain, {}).setdefault(step, {})
                    values.update([known[name]] if name in known else [])
            for chain, steps in chains.items():
                table = shown(book / page, re.sub(r"\W", "_", chain))
                assert list(table.index) == list(steps)
                changes = changes_of(steps, chains[chain.removesuffix(" candidates")])
                shared, freedom = pooled([gaps for gaps in changes.values() if len(gaps) > 1])
                for step, values in steps.items():
                    row = table.loc[step]
                    assert int(row["n"]) == len(values)
                    expected = mean_and_deviation(list(values.values())) if values else []
                    assert numbers(row[f"{epoch} epoch"]) == pytest.approx(expected, abs=0.0051)
                    gaps, text = changes.get(step, []), row[f"change, {epoch}"]
                    if text == "none: the same numbers":
                        assert set(gaps) == {0.0}
                        continue
                    expected = [statistics.mean(gaps)] if gaps else []
                    if len(gaps) > 1:
                        half = T[freedom] * shared / math.sqrt(len(gaps))
                        expected += [expected[0] - half, expected[0] + half]
                    assert numbers(text) == pytest.approx(expected, abs=0.006), (chain, step)


def changes_of(steps: dict[str, dict], chain: dict[str, dict]) -> dict[str, list[float]]:
    """Return each step's change against the one before; a candidate's against the chain's first."""
    changes, before = {}, next(iter(chain.values()))
    for step, values in steps.items():
        if values is not before:
            changes[step] = [values[seed] - before[seed] for seed in values if seed in before]
        before = values if steps is chain else before
    return changes


def pooled(samples: list[list[float]]) -> tuple[float, int]:
    """Return the samples' common standard deviation and its degrees of freedom."""
    freedom = sum(len(one) - 1 for one in samples)
    squares = sum((len(one) - 1) * statistics.variance(one) for one in samples)
    return math.sqrt(squares / freedom), freedom


PHASES = ("data", "forward", "backward", "communication", "optimizer", "rest")


def milliseconds(profile: dict) -> dict[str, float]:
    """Return the phases of the round of median length, as means over the ranks."""
    lengths = profile["profiled_seconds"]
    middle = lengths.index(sorted(lengths)[(len(lengths) - 1) // 2])
    ranks = [rank["rounds"][middle] for rank in profile["ranks"]]
    return {phase: 1e3 * statistics.mean(rank[phase] for rank in ranks) for phase in PHASES}


def network_of(profile: dict) -> tuple[str, str]:
    """Return the first two names of a profile's row: the network and the images per step."""
    name = printed.NAMES[profile["architecture"]]
    if profile["model"] != profile["architecture"]:  # a stand-in: timm/vit_tiny_patch16_224
        name += f" ({re.match('timm/([a-z]+_[a-z]+)', profile['model'])[1]})"
    return name, f"{profile['batch_size']} images"


def test_step_times_are_of_the_profiles_lines(book, results):
    for page, _, records in studies(results, "step_time"):
        table = shown(book / page, "phases")
        assert len(table) == len(records.profiles)
        for profile in records.profiles:
            row = table.loc[(*network_of(profile), ENGINES[profile["engine"]].title)]
            phases = milliseconds(profile)
            assert [float(row[phase]) for phase in PHASES] == pytest.approx(
                list(phases.values()), abs=0.0051
            )
            assert row["threads"] == f"{profile['processes']} × {profile['threads']}"
            seconds = profile["plain_seconds"]
            expected = [statistics.median(seconds), min(seconds), max(seconds)]
            assert numbers(row["plain"]) == pytest.approx([1e3 * s for s in expected], abs=0.0051)
            assert ("shared" in row["plain"]) == (profile["timing"] != "exclusive")
            assert float(row["profiled"]) == pytest.approx(sum(phases.values()), abs=0.0051)
            # A number that is derived from shown numbers follows from them.
            percent = float(row["overhead"].rstrip("%").replace("−", "-"))
            ratio = 1e-3 * sum(phases.values()) / statistics.median(seconds)
            assert percent == pytest.approx(100 * (ratio - 1), abs=0.51)


def test_changes_of_a_step_are_differences_of_the_profiles_lines(book, results):
    for page, _, records in studies(results, "step_time"):
        profiles = {(p["model"], p["batch_size"], p["engine"]): p for p in records.profiles}
        pairs = [
            (one, profiles[key[:2] + (base,)])
            for key, one in profiles.items()
            for base in {"ddp": ["normal"], "deepspeed": ["normal", "ddp"]}.get(key[2], [])
            if key[:2] + (base,) in profiles
        ]
        if not pairs:
            continue
        table = shown(book / page, "changes")
        assert len(table) == len(pairs)
        for one, other in pairs:
            engines = " / ".join(ENGINES[each["engine"]].title for each in (one, other))
            row = table.loc[(*network_of(one), engines)]
            sides = milliseconds(one), milliseconds(other)
            gaps = {phase: sides[0][phase] - sides[1][phase] for phase in PHASES}
            total = sum(gaps.values())
            sign = 1 if total >= 0 else -1
            assert row["most of it"] == max(gaps, key=lambda phase: sign * gaps[phase])
            # The ratio and the difference are of one measurement: their signs agree.
            wholes = [sum(side.values()) for side in sides]
            assert row["ratio"] == f"{wholes[0] / wholes[1]:.2f}"
            for name, gap in {"difference": total, **gaps}.items():
                assert row[name].replace("−", "-") == f"{gap:+.2f}"


def test_the_tables_on_capacity_are_of_the_records_lines(book, results):
    for page, folder, records in studies(results, "capacity"):
        check_memory(book / page, folder, records)
        check_ratios(book / page, records)


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

    table = shown(page, "held")
    columns = column_of_model(table, sizes)
    for line in table.index:
        held = {m: mb * 2**20 / sizes[m] for m, mb in of(line, "held_memory_mb").items()}
        for model, column in columns.items():
            text = f"{held[model]:.1f}" if model in held else "–"
            assert table.at[line, column] == text
    table = shown(page, "peaks")
    columns = column_of_model(table, sizes)
    for line, row in table.iterrows():
        peaks = of(line, "peak_memory_mb")
        for model, column in columns.items():
            assert row[column] == (f"{peaks[model]:,.0f}" if model in peaks else "missing")
        growth = (row["bytes per parameter"], row["the rest"])
        if len(peaks) < 2:
            assert growth == ("–", "–")
            continue
        fit = statistics.linear_regression([sizes[m] for m in peaks], list(peaks.values()))
        assert growth == (f"{fit.slope * 2**20:.1f}", f"{fit.intercept:,.0f}")


def column_of_model(table: pd.DataFrame, sizes: dict[str, int]) -> dict[str, str]:
    """Return the columns of the models, which name their size: "vit_tiny 5.5 M"."""
    return {
        model: column
        for model, size in sizes.items()
        for column in table.columns
        if column.endswith(f" {size / 1e6:.1f} M")
    }


def check_ratios(page: Path, records: Records) -> None:
    rounds = {(records.labels[row["name"]]["line"], row["model"]): records.rounds[row["name"]]
              for row in records.rows if row["name"] in records.rounds}  # fmt: skip
    table = shown(page, "ratios")
    columns = column_of_model(table, parameters_of(records))
    assert sorted(columns.values()) == sorted(table.columns)
    for line, row in table.iterrows():
        for model, column in columns.items():
            sides = [rounds.get((name, model), []) for name in (line, "normal")]
            ratios = [one / base for one, base in zip(*sides, strict=False)]
            expected = ratio_and_interval(ratios) if ratios else []
            assert numbers(row[column]) == pytest.approx(expected, abs=0.0051)


def test_every_other_table_is_what_the_records_give(book, results):
    for _, folder, _ in studies(results):
        files, trials, epochs = pages_of(results, folder), load_trials(folder), load_epochs(folder)
        expected = {
            ("study", "unfinished"): unfinished_table(folder),
            **{(page, "provenance"): origin_box(folder) for page in files},
        }
        if "lenet_full" in files:
            expected |= {
                ("lenet_full", "lenet"): accuracies_table(trials),
                ("lenet_full", "gaps"): gaps_table(trials),
                ("lenet_full", "last"): last_epoch_table(epochs, trials),
            }
        for (page, table), styler in expected.items():
            if styler is not None:
                fresh = read_table(styler.to_html())
                pd.testing.assert_frame_equal(shown(book / files[page], table), fresh)
    claims = claims_table(judge_studies(study_folders(results).values()))
    pd.testing.assert_frame_equal(
        shown(book / "claims.html", "claims"), read_table(claims.to_html())
    )


def test_the_box_names_the_records_and_links_to_them(book, results):
    for _, folder, _ in studies(results):
        for file in pages_of(results, folder).values():
            html = BeautifulSoup((book / file).read_text(), "html.parser")
            (link,) = html.select("table#T_provenance a")
            assert link.text == records_path(folder)
            if folder.is_relative_to(project_root()):
                assert (project_root() / link.text).samefile(folder / "trials.jsonl")
            copy = ((book / file).parent / link["href"]).read_bytes()
            assert copy == (folder / "trials.jsonl").read_bytes()


def test_synthetic_numbers_are_only_shown_under_their_banner(book, results):
    for _, folder, records in studies(results):
        synthetic = any(row["dataset"] == "synthetic" for row in records.rows)
        for page, file in pages_of(results, folder).items():
            html = BeautifulSoup((book / file).read_text(), "html.parser")
            banners = [note.text for note in html.select("main [role=note]")]
            assert (SYNTHETIC in banners) == synthetic, (folder.name, page)
        first = BeautifulSoup((book / "intro.html").read_text(), "html.parser").select_one("main")
        assert (f"{title_of(folder)} (synthetic images)" in first.text) == synthetic
    engines = BeautifulSoup((book / "engines.html").read_text(), "html.parser")
    assert SYNTHETIC in [note.text for note in engines.select("main [role=note]")]


def test_pages_of_figures_hold_them(book, results):
    for _, folder, records in studies(results):
        single = {("lenet", 16), ("resnet18", 16)}  # of which the page shows one step
        steps = single & {(one["model"], one["batch_size"]) for one in records.profiles}
        counts = FIGURES | {"step_time": 1 + len(steps)}
        files = pages_of(results, folder)
        for page in counts.keys() & files.keys():
            html = BeautifulSoup((book / files[page]).read_text(), "html.parser")
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


def words_of(file: Path) -> str:
    """Return what a page says, without its code and what is around the page."""
    page = BeautifulSoup(file.read_text(), "html.parser")
    page = page.select_one("article.bd-article") or page
    for code in page.select(".cell_input"):
        code.decompose()
    return " ".join(page.text.split()).replace("’", "'")


def test_the_answer_is_the_first_thing_on_a_page(book, results):
    notebooks = project_root() / "notebooks"
    sources = [(page, notebooks / f"{page.name}.ipynb") for page in pages(results)]
    answering = [page for page, file in sources if file.exists() and '"answer"' in file.read_text()]
    assert {"cost_model", "claims", "table1"} <= {page.name for page in answering}
    for page in answering:
        html = BeautifulSoup((book / f"{page.path}.html").read_text(), "html.parser")
        first = html.select_one("div.tag_answer .cell_output")
        assert len(first.text) > 80, page.path
        assert not [one for one in first.find_all_previous("h2") if one.find_parent("article")]


def test_the_first_page_advises_from_the_records(book, results):
    html = BeautifulSoup((book / "intro.html").read_text(), "html.parser")
    rows = html.select("table.advice tbody tr")
    assert len(rows) == len(list(advices()))
    for row in rows:
        assert row.select_one(".badge").text in (HERE, PAPER, PUBLIC, INFERRED)
        for link in row.select("a"):
            assert (book / link["href"]).exists()
    assert len(words_of(book / "intro.html").split()) < 700


def test_what_the_readme_quotes_is_in_the_book(book):
    pages = [words_of(file) for file in book.glob("**/*.html") if "_" not in file.parent.name]
    readme = (project_root() / "README.md").read_text()
    (section,) = re.findall(r"## What it has found so far\n(.*?)\n## ", readme, re.DOTALL)
    quotes = re.findall(r'"(.+?)"', " ".join(section.split()))
    assert len(quotes) >= 5
    for quote in quotes:
        assert any(quote in page for page in pages), quote
