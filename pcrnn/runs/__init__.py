"""Runs on disk: their folder, metrics, checkpoints, what is loaded from them and exported."""
