"""Plots over records and images, for the notebooks."""

from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from IPython.display import HTML
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dsstudy import paper
from dsstudy.record import Record
from dsstudy.trial import ARCHITECTURES

if TYPE_CHECKING:
    from dsstudy.data import ImageData, Split

_PALETTE = sns.color_palette("colorblind")
ENGINE_COLORS = {"normal": _PALETTE[0], "deepspeed": _PALETTE[1], "ddp": _PALETTE[2]}
"""One colour-blind-safe colour an engine, the same in every figure."""

# Told apart without colours too: in print, and by whoever cannot see them.
_ENGINE_STYLES: dict[str, dict[str, Any]] = {
    "normal": {"linestyle": "-", "marker": "o"},
    "deepspeed": {"linestyle": "--", "marker": "s"},
}

sns.set_theme(context="notebook", style="whitegrid", palette=_PALETTE)


def sample_images(data: "ImageData", columns: int = 10) -> Figure:
    """Show one training image of each class, as far as the columns go."""
    labels = data.train.labels.cpu().numpy()
    first = [np.flatnonzero(labels == label)[0] for label in np.unique(labels)[:columns]]
    titles = [data.classes[labels[index]] for index in first]
    return _row_of_images(data.train, first, titles)


def curves(record: Record) -> Figure:
    """Draw a trial's loss, training and test, and its test accuracy over the epochs."""
    trial, epochs = record.trial(), pd.DataFrame(record.epochs())
    assert trial is not None
    color = ENGINE_COLORS[trial.engine]
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.8), layout="constrained")
    loss = record.steps()["loss"]
    at = (np.arange(len(loss)) + 1) / (len(loss) / len(epochs))
    left.plot(at, loss, color=color, alpha=0.15, linewidth=1, label="training, each step")
    left.plot(epochs["epoch"], epochs["train_loss"], "o-", color=color, label="training, epoch")
    left.plot(epochs["epoch"], epochs["test_loss"], "s--", color="0.25", label="test")
    left.set(xlabel="epoch", ylabel="cross-entropy (nats)", ylim=(0, None))
    left.legend()
    right.plot(epochs["epoch"], epochs["test_accuracy"], "o-", color=color, label=trial.engine)
    chance = 100 / record.result()["environment"]["dataset"]["classes"]  # type: ignore[index]
    right.axhline(chance, color="0.5", linestyle=":", label="chance")
    right.set(xlabel="epoch", ylabel="test accuracy (%)", ylim=(0, 100))
    right.legend()
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def confusion_matrix(record: Record, data: "ImageData") -> Figure:
    """Draw, for each true class, the share of its test images that went to each class."""
    labels, predicted = data.test.labels.cpu().numpy(), record.predictions()
    count = len(data.classes)
    table = np.zeros((count, count))
    np.add.at(table, (labels, predicted), 1)
    share = 100 * table / table.sum(axis=1, keepdims=True).clip(min=1)
    side = max(4.5, min(0.62 * count, 14))
    figure, axes = plt.subplots(figsize=(side + 1.5, side), layout="constrained")
    sns.heatmap(
        share,
        ax=axes,
        vmin=0,
        vmax=100,
        cmap="cividis",
        square=True,
        annot=count <= 20,
        fmt=".0f",
        annot_kws={"size": 9},
        xticklabels=data.classes,
        yticklabels=data.classes,
        cbar_kws={"label": "share of the true class (%)"},
    )
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.tick_params(axis="x", rotation=90)
    axes.tick_params(axis="y", rotation=0)
    return figure


def mistakes(record: Record, data: "ImageData", columns: int = 10) -> Figure:
    """Show test images that the trained model takes for another class, spread over the classes."""
    labels, predicted = data.test.labels.cpu().numpy(), record.predictions()
    wrong = np.flatnonzero(labels != predicted)
    # The first mistake of every class, then the second of every class, and so on.
    turn = pd.Series(labels[wrong]).groupby(labels[wrong]).cumcount().to_numpy()
    chosen = list(wrong[np.lexsort((labels[wrong], turn))][:columns])
    titles = [f"{data.classes[labels[i]]}\nas {data.classes[predicted[i]]}" for i in chosen]
    return _row_of_images(data.test, chosen, titles)


def _row_of_images(split: "Split", indices: list[int], titles: list[str]) -> Figure:
    count = max(1, len(indices))
    figure, row = plt.subplots(
        1, count, figsize=(1.3 * count, 1.9), squeeze=False, layout="constrained"
    )
    for axes in row[0]:
        axes.set_axis_off()
    if not indices:
        row[0][0].text(0, 0.5, "none")
    for axes, index, title in zip(row[0], indices, titles, strict=False):
        _show_image(axes, split.images[index].cpu().numpy(), title)
    return figure


def _show_image(axes: Axes, image: np.ndarray, title: str) -> None:
    axes.imshow(image.transpose(1, 2, 0))
    axes.set_title(title, fontsize=9)


def figure1(epochs: pd.DataFrame) -> Figure:
    """Draw the paper's Figure 1: test accuracy over the epochs, with and without DeepSpeed.

    The paper's four panels are the columns here, and each architecture has its row, so that no
    axes hold more than the two curves to be compared. Over several seeds, the line is the mean
    and the band reaches from the lowest to the highest.

    Parameters
    ----------
    epochs
        As `dsstudy.load_epochs` returns them.
    """
    shape = len(ARCHITECTURES), len(paper.PANELS)
    figure, grid = plt.subplots(
        *shape, figsize=(10, 12), sharex=True, sharey=True, layout="constrained"
    )
    notes: dict[str, list[str]] = {"No curve": [], "Ended early": []}
    for row, architecture in zip(grid, ARCHITECTURES, strict=True):
        for axes, settings in zip(row, paper.PANELS.values(), strict=True):
            for engine, setting in settings.items():
                curve = _curve(epochs, architecture, engine, setting)
                _draw_curve(axes, curve, engine)
                if note := _want(curve):
                    notes[note].append(paper.label(architecture, engine, setting))
        row[0].set_ylabel(paper.NAMES[architecture], fontsize=10)
    _label_panels(figure, grid, _top(epochs))
    lines = [f"{note}: {'; '.join(dict.fromkeys(some))}." for note, some in notes.items() if some]
    figure.text(0.01, -0.005, "\n".join(lines), va="top", wrap=True, fontsize=10)
    return figure


def _curve(epochs: pd.DataFrame, architecture: str, engine: str, setting: str) -> pd.DataFrame:
    """Return test accuracy by epoch: mean, min and max over the seeds, and how many are left."""
    cell = {"architecture": architecture, "engine": engine, "setting": setting}
    chosen = epochs[(epochs[list(cell)] == list(cell.values())).all(axis=1)]
    curve = chosen.groupby("epoch")["test_accuracy"].agg(["mean", "min", "max", "count"])
    return curve.assign(planned=chosen["epochs"].max())


def _want(curve: pd.DataFrame) -> str | None:
    """Say what a curve lacks: all of it, or some seed's last epochs."""
    if curve.empty:
        return "No curve"
    whole = curve.index.max() == curve["planned"].iloc[0] and curve["count"].nunique() == 1
    return None if whole else "Ended early"


def _top(epochs: pd.DataFrame) -> float:
    """Return where the axis of accuracies ends: the next ten above the highest."""
    highest = epochs["test_accuracy"].max()
    return 100 if pd.isna(highest) else 10 * np.ceil(highest / 10)


def _draw_curve(axes: Axes, curve: pd.DataFrame, engine: str) -> None:
    color = ENGINE_COLORS[engine]
    axes.plot(
        curve.index,
        curve["mean"],
        color=color,
        label=paper.NAMES[engine],
        markevery=max(1, len(curve) // 6),
        markersize=4,
        linewidth=1.5,
        **_ENGINE_STYLES[engine],
    )
    axes.fill_between(curve.index, curve["min"], curve["max"], color=color, alpha=0.2, linewidth=0)


def _label_panels(figure: Figure, grid: np.ndarray, top: float) -> None:
    for axes, (panel, settings) in zip(grid[0], paper.PANELS.items(), strict=True):
        axes.set_title(f"{panel}) {_panel_name(settings)}", fontsize=11)
    grid[0][0].xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    grid[0][0].yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
    grid[0][0].set_ylim(0, top)
    figure.supxlabel("epoch", fontsize=12)
    figure.supylabel("test accuracy (%)", fontsize=12)
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2, frameon=False)


def _panel_name(settings: dict[str, str]) -> str:
    if settings["deepspeed"] == settings["normal"]:
        return f"both {settings['normal']}"
    return f"DeepSpeed {settings['deepspeed']},\nnormal {settings['normal']}"


def figure1_interactive(epochs: pd.DataFrame) -> HTML:
    """Show Figure 1 one architecture at a time, to choose from and to read values off.

    Parameters
    ----------
    epochs
        As `dsstudy.load_epochs` returns them.

    Returns
    -------
    IPython.display.HTML
        With all the JavaScript that it needs, so that it works without a network.
    """
    import plotly.graph_objects as go

    sides = [(engine, setting) for engine in paper.ENGINES for setting in paper.SETTINGS]
    curves = {
        architecture: [_curve(epochs, architecture, *side) for side in sides]
        for architecture in ARCHITECTURES
    }
    figure = go.Figure([_trace(*side) for side in sides])
    # The two menus set different properties, so that each leaves the other's choice as it is.
    architectures = [
        (paper.NAMES[architecture], _data_of(curves[architecture], sides))
        for architecture in ARCHITECTURES
    ]
    panels = [
        (f"{panel}) {_panel_name(settings)}".replace("\n", " "), settings.items())
        for panel, settings in paper.PANELS.items()
    ]
    shown = [
        (name, {"visible": [side in chosen for side in sides]})
        for name, chosen in [*panels, ("all settings", sides)]
    ]
    for trace, *values in zip(figure.data, *architectures[0][1].values(), strict=True):
        trace.update(dict(zip(architectures[0][1], values, strict=True)))
    for trace, visible in zip(figure.data, shown[0][1]["visible"], strict=True):
        trace.visible = visible
    figure.update_layout(
        template="plotly_white",
        height=520,
        margin={"l": 60, "r": 15, "t": 110, "b": 60},
        xaxis={"title": "epoch", "rangemode": "tozero", "tickformat": "d"},
        yaxis={"title": "test accuracy (%)", "range": [0, _top(epochs)]},
        hovermode="x unified",
        legend={"orientation": "h", "y": -0.2},
        updatemenus=[_menu(architectures, 1.27), _menu(shown, 1.14)],
    )
    page = figure.to_html(
        full_html=False,
        include_plotlyjs=True,
        include_mathjax=False,
        default_width="100%",
        config={"responsive": True, "displaylogo": False, "displayModeBar": False},
    )
    return HTML(page)


def _trace(engine: str, setting: str) -> Any:
    import plotly.graph_objects as go

    color = "rgb({:.0f},{:.0f},{:.0f})".format(*(255 * part for part in ENGINE_COLORS[engine]))
    dash = {"SGD": "solid", "SGD+S": "dash", "Adam+S": "dot"}[setting]
    symbol = {"normal": "circle", "deepspeed": "square"}[engine]
    return go.Scatter(
        mode="lines+markers",
        line={"color": color, "dash": dash},
        marker={"symbol": symbol},
        hovertemplate="%{y:.2f} %%{customdata}",
    )


def _data_of(curves: list[pd.DataFrame], sides: list[tuple[str, str]]) -> dict[str, list[Any]]:
    """Return what the traces show for one architecture: names, points, and words on the seeds."""
    names = [f"{paper.NAMES[engine]} {setting}" for engine, setting in sides]
    return {
        "name": [
            name + (" (no curve)" if curve.empty else "")
            for name, curve in zip(names, curves, strict=True)
        ],
        "x": [curve.index.tolist() for curve in curves],
        "y": [curve["mean"].round(2).tolist() for curve in curves],
        "customdata": [
            [
                f" ({low:.1f} to {high:.1f})" if count > 1 else ""
                for _, low, high, count, _ in curve.itertuples(index=False)
            ]
            for curve in curves
        ],
    }


def _menu(choices: list[tuple[str, dict[str, Any]]], y: float) -> dict[str, Any]:
    buttons = [
        {"label": label, "method": "restyle", "args": [changes]} for label, changes in choices
    ]
    return {"buttons": buttons, "x": 0, "xanchor": "left", "y": y, "yanchor": "top"}


def epochs_table(record: Record) -> pd.DataFrame:
    """Return a trial's epochs, rounded for reading, with units in the column names."""
    units = {
        "train_loss": ("training loss", 4),
        "test_loss": ("test loss", 4),
        "test_accuracy": ("test accuracy (%)", 2),
        "learning_rate": ("last learning rate", 6),
        "train_seconds": ("train_seconds", 2),
        "eval_seconds": ("eval_seconds", 2),
        "images_per_second": ("images / s", 0),
        "peak_memory_mb": ("peak memory (MiB)", 0),
        "skipped_steps": ("skipped steps", 0),
    }
    epochs = pd.DataFrame(record.epochs()).set_index("epoch")
    rounded = epochs.round({name: digits for name, (_, digits) in units.items()})
    return rounded.rename(columns={name: title for name, (title, _) in units.items()})[
        [title for title, _ in units.values()]
    ]


def result_table(record: Record) -> pd.DataFrame:
    """Return a trial's result as a table of names and values."""
    result = record.result() or {}
    shown = {name: value for name, value in result.items() if name != "environment"}
    return _table(shown)


def environment_table(record: Record) -> pd.DataFrame:
    """Return where a trial ran: hardware, versions, data set, commit."""
    environment = (record.result() or {})["environment"]
    return _table(pd.json_normalize(environment).iloc[0].to_dict())


def _table(values: dict[str, object]) -> pd.DataFrame:
    texts = [f"{v:.4g}" if isinstance(v, float) else str(v) for v in values.values()]
    return pd.DataFrame({"value": texts}, index=list(values))
