"""Workloads and their tasks as files: ``workloads/<name>/workload.yaml`` and one folder a task.

``files.py`` reads safely, ``base.py`` says what all workloads and tasks have, one module a kind says the rest, and
``load.py`` finds and loads. Nothing here runs anything.
"""
