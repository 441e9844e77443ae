"""Agents that others wrote, on a thunderctl node. Each module needs an optional extra of its own."""
