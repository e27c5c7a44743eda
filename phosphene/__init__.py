"""Phosphene's core: models and stores. Knows nothing of HTTP or Celery."""

__version__ = "0.1.0"
