#!/usr/bin/env python3
"""Runs tests by their names and tells which pass. Runs inside a tool environment, never on the host.

``run_tests FILE``: FILE is a JSON list of names, ``package.module.Class.test`` (unittest) or ``folder/file.py::test``
(pytest; by unittest where there is no pytest). The last line that is printed is
``{"passed": {name: true or false}, "cannot": [names that nothing here can run]}``.
"""

# Any Python 3 of any image runs this, so it is written without what only newer ones have.
# mypy: ignore-errors
# ruff: noqa: PTH109, PTH110, PTH123, SIM115, T201

import contextlib
import io
import json
import os
import sys
import unittest

try:
    import pytest
except ImportError:
    pytest = None


def by_unittest(name):
    """Whether it passes; ``None`` if it is not one of unittest's."""
    file, _, rest = name.partition(".py::")
    dotted = "{}.{}".format(file.replace("/", "."), rest.replace("::", ".")) if rest else name
    if rest and "::" not in rest:
        return None  # a function: pytest's alone
    try:
        suite = unittest.defaultTestLoader.loadTestsFromName(dotted)
    except TypeError:
        return None
    result = unittest.TextTestRunner(stream=io.StringIO()).run(suite)
    return result.testsRun > 0 and result.wasSuccessful()


class Recorder:
    """Of pytest's outcomes, by node id. What fails in set-up or tear-down fails."""

    def __init__(self):
        self.passed = {}

    def pytest_runtest_logreport(self, report):
        expected = report.skipped and hasattr(report, "wasxfail")
        if report.when == "call" or not report.passed:
            self.passed[report.nodeid] = (report.passed or expected) and self.passed.get(report.nodeid, True)


def by_pytest(names):
    """Name → whether it passes, with all its parameters if it names none. Whole files are run: one name that pytest
    does not find makes it run none of the others."""
    recorder = Recorder()
    files = sorted({name.partition("::")[0] for name in names})
    there = [file for file in files if os.path.exists(file)]
    if there:
        how = ["-q", "-p", "no:cacheprovider", "--continue-on-collection-errors"]
        with contextlib.redirect_stdout(io.StringIO()):
            pytest.main(how + there, plugins=[recorder])
    outcome = {}
    for name in names:
        found = [passed for node, passed in recorder.passed.items() if node == name or node.startswith(name + "[")]
        outcome[name] = bool(found) and all(found)
    return outcome


def main():
    sys.path.insert(0, os.getcwd())
    wanted = json.load(open(sys.argv[1]))
    outcome = {name: by_unittest(name) for name in wanted if not (pytest and "::" in name)}
    outcome.update(by_pytest([name for name in wanted if name not in outcome]))
    cannot = [name for name, passed in outcome.items() if passed is None]
    print()
    print(json.dumps({"passed": {name: passed is True for name, passed in outcome.items()}, "cannot": cannot}))


if __name__ == "__main__":
    main()
