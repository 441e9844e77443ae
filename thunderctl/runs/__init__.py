"""Runs: driving N agents over a workload, and the folder that remembers everything about it."""
