"""Many trials: run, timed, profiled, compared."""
