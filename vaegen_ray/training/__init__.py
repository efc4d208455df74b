"""Objectives, sources, the training loop, checkpoints."""
