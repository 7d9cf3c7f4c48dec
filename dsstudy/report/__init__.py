"""How tables, figures, numbers and origins look on every page."""
