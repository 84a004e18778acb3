"""Losses, training loop, evaluation, calibration."""
