"""Traces: token counts and tool times of agent runs, without their texts."""
