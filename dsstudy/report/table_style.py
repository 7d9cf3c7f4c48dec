"""What the notebooks show: tables with the paper's numbers beside ours."""

import html
from pathlib import Path
from typing import Any

import pandas as pd
from IPython.display import HTML
from pandas.io.formats.style import Styler

from dsstudy.analysis import cells
from dsstudy.paper import printed
from dsstudy.report import origin
from dsstudy.spec.trial import ARCHITECTURES

TITLES = {"deepspeed": "DeepSpeed training", "normal": "Normal training"}
"""An engine at the head of its columns, as the paper's tables have it."""

_MARKS = {"holds": "✓", "does not hold": "✗", "cannot be told": "?"}


def banner(results: pd.DataFrame) -> HTML | None:
    """Warn in plain words where a study was trained on synthetic images; else show nothing."""
    return warning(origin.SYNTHETIC) if origin.is_synthetic(results) else None


def warning(text: str) -> HTML:
    """Show a text that nobody should overlook."""
    style = "border-left: 0.4em solid #d55e00; padding: 0.5em 1em; margin: 1em 0; font-weight: bold"
    return HTML(f'<div role="note" style="{style}">{text}</div>')


def provenance_box(path: str | Path) -> Styler:
    """Show where a study's numbers come from, as `provenance.facts` says it.

    The records' file is a link to the copy that the book holds beside its page.
    """
    facts = pd.DataFrame({"": origin.facts(path)}).map(html.escape)
    if (Path(path) / "trials.jsonl").exists():
        facts.loc["records"] = f'<a href="trials.jsonl">{facts.loc["records", ""]}</a>'
    return style(facts, "Where these numbers come from.", "provenance", wrap="5em").hide(axis=1)


def unfinished(path: str | Path) -> Styler | None:
    """Show which of the study's trials have no number, and why; nothing if all have one."""
    found = {name: html.escape(why) for name, why in origin.unfinished(path).items()}
    if not found:
        return None
    texts = pd.DataFrame({"trial": list(found), "why it has no number": list(found.values())})
    return style(texts, "Trials without a number.", "unfinished", wrap="9em").hide(axis=0)


def table1(trials: pd.DataFrame) -> Styler:
    """Show the best test accuracies as the paper's Table 1, its numbers beside ours.

    Parameters
    ----------
    trials
        As `dsstudy.analysis.cells.load_trials` returns them.

    Returns
    -------
    pandas.io.formats.style.Styler
        A row of six cells for each architecture of the study; the best of ours is bold, where it
        can be told from the others.
    """
    frame = cells.cells(trials, "best_accuracy")
    best = cells.best(trials)
    frame["text"] = [_accuracy(row) for row in frame.itertuples()]
    frame["bold"] = [cell in best for cell in frame[cells.CELL].itertuples(index=False, name=None)]
    caption = (
        "Best test accuracy over the epochs, in percent: mean ± standard deviation over n seeds; a "
        "number without ± is one seed's. The best of each architecture is bold: the highest "
        "number where cells have one seed, as in the paper; where they have several, only if the "
        "seeds tell it from each other cell of the row. Below each number: the paper's, and ours "
        "minus the paper's."
    )
    return bold(style(grid(frame, "text"), caption, "table1"), grid(frame, "bold"))


def differences(trials: pd.DataFrame) -> Styler:
    """Show DeepSpeed's accuracy minus normal training's, paired over seeds, and what it tells.

    Parameters
    ----------
    trials
        As `dsstudy.analysis.cells.load_trials` returns them.
    """
    frame = cells.compare(trials, "best_accuracy")
    texts = pd.DataFrame(
        {
            "DeepSpeed − normal": [difference(row) for row in frame.itertuples()],
            "in the paper": frame["published"].map(signed),
            "n": frame["n"].astype(str),
            "verdict": frame["verdict"].map(wrapping),
        }
    )
    caption = (
        "Points of best test accuracy, DeepSpeed minus normal training in the same setting: the "
        "mean over n pairs of equal seed, and below it its 95 % interval (Student's t)."
    )
    return style(_named(texts), caption, "differences")


def table2(trials: pd.DataFrame) -> Styler:
    """Show the seconds per epoch as the paper's Table 2, its ratios beside ours.

    Parameters
    ----------
    trials
        As `dsstudy.analysis.cells.load_trials` returns them.

    Returns
    -------
    pandas.io.formats.style.Styler
        For each architecture of the study three rows of two times, the faster in bold where it
        can be told, and of two ratios. Times that are not ``exclusive`` are marked, are never
        bold, and give no ratio.
    """
    ratios = cells.compare(trials, "seconds_per_epoch")
    times = cells.cells(trials, "seconds_per_epoch").set_index(cells.CELL)
    texts = pd.DataFrame(index=ratios.index)
    for engine in printed.ENGINES:
        side = times.xs(engine, level="engine").loc[ratios.index]
        texts[f"{printed.NAMES[engine]} (s)"] = [_seconds(row) for row in side.itertuples()]
    texts["DeepSpeed / normal"] = [_told_ratio(row) for row in ratios.itertuples()]
    texts["in the paper"] = ratios["published"].map("{:.2f}".format)
    single = ratios["n"] == 1
    faster = pd.DataFrame(False, texts.index, texts.columns)
    faster["DeepSpeed (s)"] = (ratios["high"] < 1) | (single & (ratios["value"] < 1))
    faster["normal (s)"] = (ratios["low"] > 1) | (single & (ratios["value"] > 1))
    caption = (
        "Seconds of training per epoch: mean ± standard deviation over n measurements; a number "
        "without ± is one measurement. The last two columns are DeepSpeed's time divided by normal "
        "training's, ours the mean over pairs of measurements with its 95 % interval: below 1, "
        "DeepSpeed is the faster. The faster of each pair is bold: of single measurements the "
        "lower, of several only if the interval tells it."
    )
    return bold(style(_named(texts), caption, "table2", align="right"), _named(faster))


def adam(trials: pd.DataFrame) -> Styler:
    """Show how many times as long an epoch takes with Adam as with SGD, in each engine.

    Parameters
    ----------
    trials
        As `dsstudy.analysis.cells.load_trials` returns them.
    """
    frame = cells.adam_over_sgd(trials)
    texts = {}
    for engine in printed.ENGINES:
        side = frame.xs(engine, level="engine")
        texts[TITLES[engine], "here"] = [ratio(row) for row in side.itertuples()]
        texts[TITLES[engine], "in the paper"] = side["published"].map("{:.2f}".format).tolist()
    names = [printed.NAMES[name] for name in cells.architectures(trials)]
    caption = (
        "Seconds of an epoch with Adam divided by those with SGD, both with a scheduler: the mean "
        "over pairs of measurements, and below it its 95 % interval; a number without one is one "
        "pair's."
    )
    return style(pd.DataFrame(texts, names), caption, "adam", align="right")


def claims(judged: pd.DataFrame) -> Styler:
    """Show the paper's claims with their verdicts.

    Parameters
    ----------
    judged
        As `dsstudy.analysis.claims.claims.judge_study` returns them.
    """
    shown = pd.DataFrame(
        {
            "the paper says": [
                f"“{html.escape(c.quote)}”{small('Section ' + c.section)}"
                for c in judged.itertuples()
            ],
            "tested as": judged["test"].map(html.escape),
            "on its own tables": _verdicts(judged, "paper"),
            "on this study": _verdicts(judged, "study"),
        }
    )
    caption = "Every claim of sections 3.2, 3.3 and 4, judged twice by the same computation."
    return style(shown, caption, "claims", wrap="11em").hide(axis=0)


def _verdicts(judged: pd.DataFrame, whose: str) -> list[str]:
    return [
        f"<b>{_MARKS[verdict]} {verdict}</b>{small(html.escape(reason))}"
        for verdict, reason in zip(judged[whose], judged[f"{whose}_reason"], strict=True)
    ]


def _accuracy(row: Any) -> str:
    difference = f"<br>{signed(row.value - row.published)}" if row.n else ""
    return _value(row, ".2f") + small(f"paper {row.published:.2f}{difference}")


def _seconds(row: Any) -> str:
    return _value(row, ".2f" if row.value >= 1 else ".4f")


def _told_ratio(row: Any) -> str:
    return ratio(row) + (small(row.verdict.partition(":")[0]) if row.n > 1 else "")


def ratio(row: Any) -> str:
    """Write a ratio, and below it its interval where it has one; a dash where there is none."""
    if not row.n:
        return "–"
    return f"{row.value:.2f}" + (small(interval(row, "{:.2f}".format)) if row.n > 1 else "")


def _value(row: Any, digits: str) -> str:
    """Write a cell's value, mean ± deviation over several, or the word for its want."""
    if not row.n:
        return f"<em>{row.state}</em>"
    spread = _pieces(f"± {row.deviation:{digits}},", f"n = {row.n}") if row.n > 1 else ""
    shared = " <em>shared</em>" if row.state == "shared" else ""
    notes = "".join(small(note) for note in (spread, row.note) if note)
    return f"{row.value:{digits}}{shared}{notes}"


def signed(number: float) -> str:
    """Write a difference with its sign; a dash where there is none."""
    return "–" if pd.isna(number) else f"{number:+.2f}".replace("-", "−")


def interval(row: Any, write: Any) -> str:
    """Write a row's ``low`` and ``high``; a dash where one value gives no interval."""
    return "–" if pd.isna(row.low) else f"{write(row.low)} to {write(row.high)}"


def difference(row: Any) -> str:
    """Write a difference, and below it its interval where it has one."""
    return signed(row.value) + (small(interval(row, signed)) if row.n > 1 else "")


def wrapping(text: str) -> str:
    """Let a cell's words break into lines where the table would be too wide."""
    space = "display: inline-block; min-width: 6em; white-space: normal"
    return f'<span style="{space}">{text}</span>'


def _pieces(*texts: str) -> str:
    """Let a line break between texts, and only there."""
    kept = " ".join(f'<span style="white-space: nowrap">{text}</span>' for text in texts)
    return f'<span style="white-space: normal">{kept}</span>'


def small(text: str) -> str:
    """Write a note below a cell's number."""
    return f'<br><small style="font-weight: normal; font-size: 0.9em; opacity: 0.8">{text}</small>'


def grid(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    """Lay cells out as the paper does: architectures down, engines and settings across."""
    wide = frame.pivot(index="architecture", columns=["engine", "setting"], values=column)
    rows = [name for name in ARCHITECTURES if name in wide.index]
    wide = wide.loc[rows, [(e, s) for e in printed.ENGINES for s in printed.SETTINGS]]
    wide = wide.rename_axis(index=None, columns=[None, None])
    return wide.rename(index=printed.NAMES, columns=TITLES)


def _named(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame by architecture and setting with the paper's names."""
    names = [(printed.NAMES[architecture], setting) for architecture, setting in frame.index]
    return frame.set_axis(pd.MultiIndex.from_tuples(names))


def bold(styler: Styler, where: pd.DataFrame) -> Styler:
    """Make some of a table's cells bold."""
    return styler.apply(lambda _: where.map(lambda yes: "font-weight: bold" * yes), axis=None)


def style(
    texts: pd.DataFrame, caption: str, name: str, wrap: str = "", align: str = "left"
) -> Styler:
    """Style a table of texts; `wrap` is the least width of cells that may break lines."""
    # A table that is too wide for the screen scrolls by itself, and leaves the page alone; its
    # caption, a block, keeps to the screen's width.
    scroll = "display: block; overflow-x: auto; max-width: 100%; font-size: 0.875em"
    top = "display: block; text-align: left; font-size: 1em; padding-bottom: 0.5em"
    space = "white-space: nowrap"
    if wrap:
        space = f"white-space: normal; overflow-wrap: anywhere; min-width: {wrap}"
    cell = f"text-align: {align}; vertical-align: top; padding: 0.2em 0.4em; {space}"
    return (
        texts.style.set_caption(caption)
        .set_uuid(name)
        .set_table_attributes(f'style="{scroll}"')
        .set_table_styles(
            [
                {"selector": "caption", "props": top},
                {
                    "selector": "th.row_heading",
                    "props": "text-align: left; vertical-align: top; padding: 0.2em 0.4em 0.2em 0",
                },
                {
                    "selector": "th.col_heading",
                    "props": f"text-align: {align}; padding: 0.2em 0.4em",
                },
                {"selector": "td", "props": cell},
            ]
        )
    )
