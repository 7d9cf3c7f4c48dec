"""The page on the cost model."""
