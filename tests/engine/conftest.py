"""The toy project's fixtures."""

from toy_lab import copy, finished, new_toy, toy

__all__ = ["copy", "finished", "new_toy", "toy"]
