"""The explorer: choose trials, run them, watch their curves."""
