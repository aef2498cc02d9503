"""Moved to :mod:`helpers.nets.recording`."""

from helpers.nets.recording import activations, receptive_field

__all__ = ["activations", "receptive_field"]
