"""thunderctl: run hundreds of LLM agents on your own GPUs, scheduled as programs."""

__version__ = "0.1.0"
