"""Keep the book to itself: no page refers to a script elsewhere, used or not."""

from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict[str, bool]:
    """Unhook what Jupyter Book always brings along: thebe, loaded from the web on demand."""
    listeners = app.events.listeners["env-before-read-docs"]
    listeners[:] = [one for one in listeners if one.handler.__name__ != "init_thebe_core"]
    return {"parallel_read_safe": True}
