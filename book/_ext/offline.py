"""Keep the book to itself, and small: no script from elsewhere, plotly.js once for all pages."""

from pathlib import Path
from typing import Any

from plotly.offline import get_plotlyjs
from sphinx.application import Sphinx

PLOTLY = "_static/plotly.min.js"


def setup(app: Sphinx) -> dict[str, bool]:
    """Unhook what Jupyter Book always brings along: thebe, loaded from the web on demand."""
    listeners = app.events.listeners["env-before-read-docs"]
    listeners[:] = [one for one in listeners if one.handler.__name__ != "init_thebe_core"]
    app.connect("html-page-context", share_plotly)
    return {"parallel_read_safe": True}


def share_plotly(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """Let a page refer to the book's copy of plotly.js (5 MB) where its notebook brought its own.

    A notebook's output has to bring it, to work in JupyterLab without a network.
    """
    own = f">{get_plotlyjs()}</script>"
    if own in context.get("body", ""):
        copy = Path(app.outdir, PLOTLY)
        copy.parent.mkdir(exist_ok=True)
        copy.write_text(get_plotlyjs())
        reference = f' src="{context["pathto"](PLOTLY, 1)}"></script>'
        context["body"] = context["body"].replace(own, reference)
