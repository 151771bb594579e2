"""Evaluation: measures, significance, reports."""

from eval.measures import evaluate

__all__ = ["evaluate"]
