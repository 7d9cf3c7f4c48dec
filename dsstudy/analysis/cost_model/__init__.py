"""The cost model, and what it is fitted to."""
