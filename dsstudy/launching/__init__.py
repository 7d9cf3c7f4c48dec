"""One trial, run to its end: where, by which launcher, how it is watched."""
