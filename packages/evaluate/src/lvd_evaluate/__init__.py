"""Measure frozen vision features with the protocols of DINOv2, beside a baseline."""

__version__ = "0.1.0"
