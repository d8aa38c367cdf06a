"""`Report`: a run on one page, as text and as HTML with plots."""

from bloomery.stages.report.stage import Report

__all__ = ["Report"]
