"""What the notebooks show: tables with the paper's numbers beside ours, and closing sentences."""

import html
from pathlib import Path
from typing import Any

import pandas as pd
from IPython.display import HTML
from pandas.io.formats.style import Styler

from dsstudy import paper, provenance
from dsstudy.analysis import CELL, cells, pairs
from dsstudy.trial import ARCHITECTURES

_MARKS = {"holds": "✓", "does not hold": "✗", "cannot be told": "?"}


def banner(results: pd.DataFrame) -> HTML | None:
    """Warn in plain words where a study was trained on synthetic images; else show nothing."""
    if not provenance.is_synthetic(results):
        return None
    style = "border-left: 0.4em solid #d55e00; padding: 0.5em 1em; margin: 1em 0; font-weight: bold"
    return HTML(f'<div role="note" style="{style}">{provenance.SYNTHETIC}</div>')


def provenance_box(path: str | Path) -> Styler:
    """Show where a study's numbers come from, as `provenance.facts` says it."""
    facts = pd.DataFrame({"": provenance.facts(path)}).map(html.escape)
    return _style(facts, "Where these numbers come from.", "provenance", wrap="5em").hide(axis=1)


def table1(results: pd.DataFrame) -> Styler:
    """Show the best test accuracies as the paper's Table 1, its numbers beside ours.

    Parameters
    ----------
    results
        As `load_results` returns them.

    Returns
    -------
    pandas.io.formats.style.Styler
        Seven rows of six cells; per architecture the best of ours is bold.
    """
    frame = cells(results, "best_accuracy")
    frame["text"] = [_accuracy(row) for row in frame.itertuples()]
    frame["bold"] = frame["value"] == frame.groupby("architecture")["value"].transform("max")
    caption = (
        "Best test accuracy over the epochs, in percent; the best of each architecture is bold. "
        "Below each number: the paper's, and ours minus the paper's."
    )
    return _bold(_style(_grid(frame, "text"), caption, "table1"), _grid(frame, "bold"))


def table2(results: pd.DataFrame) -> Styler:
    """Show the seconds per epoch as the paper's Table 2, its ratios beside ours.

    Parameters
    ----------
    results
        As `load_results` returns them.

    Returns
    -------
    pandas.io.formats.style.Styler
        21 rows of two times, the faster in bold, and of two ratios. Times that are not
        ``exclusive`` are marked, are never bold, and give no ratio.
    """
    frame = pairs(results)
    frame.index = pd.MultiIndex.from_tuples([(paper.NAMES[a], s) for a, s in frame.index])
    texts, ratio = pd.DataFrame(index=frame.index), frame["ratio", "ours"]
    for engine in paper.ENGINES:
        texts[f"{paper.NAMES[engine]} (s)"] = [
            _seconds(row) for row in frame.xs(engine, axis=1, level=1).itertuples()
        ]
    for title, whose in (("DeepSpeed / normal", "ours"), ("in the paper", "paper")):
        texts[title] = ["–" if pd.isna(r) else f"{r:.2f}" for r in frame["ratio", whose]]
    bold = pd.DataFrame(False, texts.index, texts.columns)
    bold["DeepSpeed (s)"], bold["normal (s)"] = ratio < 1, ratio > 1
    caption = (
        "Seconds of training per epoch; the faster of each pair is bold. The last two columns are "
        "DeepSpeed's time divided by normal training's: below 1, DeepSpeed is the faster."
    )
    return _bold(_style(texts, caption, "table2", align="right"), bold)


def claims(judged: pd.DataFrame) -> Styler:
    """Show the paper's claims with their verdicts.

    Parameters
    ----------
    judged
        As `dsstudy.claims.judge_study` returns them.
    """
    shown = pd.DataFrame(
        {
            "the paper says": [
                f"“{html.escape(c.quote)}”{_small('Section ' + c.section)}"
                for c in judged.itertuples()
            ],
            "tested as": judged["test"].map(html.escape),
            "on its own tables": _verdicts(judged, "paper"),
            "on this study": _verdicts(judged, "study"),
        }
    )
    caption = "Every claim of sections 3.2, 3.3 and 4, judged twice by the same computation."
    return _style(shown, caption, "claims", wrap="11em").hide(axis=0)


def table1_in_words(results: pd.DataFrame) -> str:
    """Say in a sentence what Table 1 shows, of ours and of the paper's."""
    frame = cells(results, "best_accuracy")
    return (
        f"{frame['value'].notna().sum()} of {len(frame)} cells hold a value. Normal training has "
        f"the best accuracy for {_best_by_normal(frame, 'value')} architectures (in the paper "
        f"for {_best_by_normal(frame, 'published')}); with the same setting on both sides, "
        f"DeepSpeed's accuracy minus normal training's is {_mean_gain(frame, 'value')} on average "
        f"(in the paper {_mean_gain(frame, 'published')})."
    )


def _best_by_normal(frame: pd.DataFrame, column: str) -> str:
    held = frame.dropna(subset=column)
    best = held.loc[held.groupby("architecture")[column].idxmax(), "engine"]
    return f"{(best == 'normal').sum()} of {len(best)}"


def _mean_gain(frame: pd.DataFrame, column: str) -> str:
    sides = frame.pivot(index=["architecture", "setting"], columns="engine", values=column)
    gains = (sides["deepspeed"] - sides["normal"]).dropna()
    mean = f"{gains.mean():+.2f}".replace("-", "−")
    return f"{mean} points over {len(gains)} pairs" if len(gains) else "unknown"


def table2_in_words(results: pd.DataFrame) -> str:
    """Say in a sentence what Table 2 shows, of ours and of the paper's."""
    ours, published = pairs(results)["ratio", "ours"].dropna(), pairs(results)["ratio", "paper"]
    if ours.empty:
        return "No pair has two times that were measured alone: there is nothing to compare yet."
    return (
        f"DeepSpeed is the faster in {(ours < 1).sum()} of {len(ours)} pairs (in the paper in "
        f"{(published < 1).sum()} of {len(published)}); its time is {ours.median():.2f} times "
        f"normal training's in the middle of the pairs, and from {ours.min():.2f} to "
        f"{ours.max():.2f} (in the paper {published.median():.2f}, from {published.min():.2f} to "
        f"{published.max():.2f})."
    )


def figure1_in_words(epochs: pd.DataFrame) -> str:
    """Say in a sentence, by panel, for how many architectures DeepSpeed is ahead, and when."""
    counts = [
        f"{panel}) {_ahead(epochs, settings, 'first')} and {_ahead(epochs, settings, 'last')}"
        for panel, settings in paper.PANELS.items()
    ]
    return (
        "Architectures for which DeepSpeed is ahead, after the first epoch and after the last: "
        f"{'; '.join(counts)}."
    )


def _ahead(epochs: pd.DataFrame, settings: dict[str, str], which: str) -> str:
    """Count the architectures for which DeepSpeed is ahead, as a mean over seeds."""
    trials = epochs.sort_values("epoch").groupby([*CELL, "seed"])["test_accuracy"].agg(which)
    sides = trials.groupby(CELL).mean().unstack(["engine", "setting"])
    sides = sides.reindex(list(ARCHITECTURES), columns=list(settings.items()))
    lead = (sides.iloc[:, 0] - sides.iloc[:, 1]).dropna()
    return f"{(lead > 0).sum()} of {len(lead)}"


def _verdicts(judged: pd.DataFrame, whose: str) -> list[str]:
    return [
        f"<b>{_MARKS[verdict]} {verdict}</b>{_small(html.escape(reason))}"
        for verdict, reason in zip(judged[whose], judged[f"{whose}_reason"], strict=True)
    ]


def _accuracy(row: Any) -> str:
    difference = f"<br>{row.value - row.published:+.2f}".replace("-", "−") if row.seeds else ""
    return _value(row, ".2f") + _small(f"paper {row.published:.2f}{difference}")


def _seconds(row: Any) -> str:
    return _value(row, ".2f" if row.value >= 1 else ".4f")


def _value(row: Any, digits: str) -> str:
    """Write a cell's value, mean ± deviation over several seeds, or the word for its want."""
    if not row.seeds:
        return f"<em>{row.state}</em>"
    deviation = f" ± {row.deviation:{digits}}" if row.seeds > 1 else ""
    shared = " <em>shared</em>" if row.state == "shared" else ""
    return f"{row.value:{digits}}{deviation}{shared}" + (_small(row.note) if row.note else "")


def _small(text: str) -> str:
    return f'<br><small style="font-weight: normal; opacity: 0.8">{text}</small>'


def _grid(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    """Lay 42 cells out as the paper does: architectures down, engines and settings across."""
    grid = frame.pivot(index="architecture", columns=["engine", "setting"], values=column)
    grid = grid.loc[list(ARCHITECTURES), [(e, s) for e in paper.ENGINES for s in paper.SETTINGS]]
    grid = grid.rename_axis(index=None, columns=[None, None])
    titles = {"deepspeed": "DeepSpeed training", "normal": "Normal training"}
    return grid.rename(index=paper.NAMES, columns=titles)


def _bold(styler: Styler, where: pd.DataFrame) -> Styler:
    return styler.apply(lambda _: where.map(lambda bold: "font-weight: bold" * bold), axis=None)


def _style(
    texts: pd.DataFrame, caption: str, name: str, wrap: str = "", align: str = "left"
) -> Styler:
    """Style a table of texts; `wrap` is the least width of cells that may break lines."""
    # A table that is too wide for the screen scrolls by itself, and leaves the page alone; its
    # caption, a block, keeps to the screen's width.
    scroll = "display: block; overflow-x: auto; max-width: 100%"
    top = "display: block; text-align: left; font-size: 1em; padding-bottom: 0.5em"
    space = f"white-space: normal; min-width: {wrap}" if wrap else "white-space: nowrap"
    cell = f"text-align: {align}; vertical-align: top; {space}"
    return (
        texts.style.set_caption(caption)
        .set_uuid(name)
        .set_table_attributes(f'style="{scroll}"')
        .set_table_styles(
            [
                {"selector": "caption", "props": top},
                {"selector": "th.row_heading", "props": "text-align: left; vertical-align: top"},
                {"selector": "th.col_heading", "props": f"text-align: {align}"},
                {"selector": "td", "props": cell},
            ]
        )
    )
