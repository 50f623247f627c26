"""Failures made on purpose: kills, damaged checkpoints, refused writes, numbers that are not finite; and a soak.

``python -m tests.chaos`` (or ``make chaos``) runs the campaign and prints one table; docs/reliability.md explains it.
"""
