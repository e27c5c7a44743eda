"""Celery workers: thin tasks over indexer and phosphene."""
