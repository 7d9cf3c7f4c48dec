"""One module for each notebook, of the notebook's name."""
