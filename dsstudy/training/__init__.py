"""What one rank does: model, optimizer, session, checkpoints, and the training loops."""
