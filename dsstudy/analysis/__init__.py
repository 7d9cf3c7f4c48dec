"""From records to frames to statistics; no torch, no drawing."""
