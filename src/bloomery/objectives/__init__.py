"""Losses, one file each: values handed to the loop."""

from bloomery.objectives.objective import Models, Objective, Sum

__all__ = ["Models", "Objective", "Sum"]
