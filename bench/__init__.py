"""bench: parameter-efficient tuning for vision, compared under one protocol."""

__version__ = "0.1.0"
