"""One rank of a training: model, optimizer, session, checkpoints, and the loops."""
