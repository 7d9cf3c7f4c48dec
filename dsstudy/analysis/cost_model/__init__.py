"""The cost model of a training step, and the steps that it is fitted to."""
