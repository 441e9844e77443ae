#!/usr/bin/env python3
"""The Python cells of heavy coding agents. Runs inside a tool environment, never on the host; standard library only.

``cell serve`` is the process that keeps variables between cells: it listens on a socket beside this file and runs one
cell after another. ``cell run SECONDS BASE64`` hands it one (base64 of its source), prints what the cell printed and
ends with 0, with 1 if the cell raised, or with ``NO_PROCESS`` if nobody listens. A cell's deadline interrupts it and
keeps the variables, as long as it is Python that runs.
"""

# Any Python 3 of any image runs this, so it is written without what only newer ones have.
# mypy: ignore-errors
# ruff: noqa: B905, PTH100, PTH107, PTH109, PTH110, PTH118, PTH120, S102, S307, T201, UP031

import ast
import base64
import json
import linecache
import os
import signal
import socket
import sys
import tempfile
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
SOCKET = "cell.socket"
START_S = 10
"""How long a process that is being started is waited for."""
NO_PROCESS = 75


class OutOfTime(BaseException):
    """The cell's deadline has come. Not an ``Exception``: a cell that catches those must not swallow it."""


def out_of_time(signum, frame):
    raise OutOfTime


def connected(make):
    """``make(socket)`` from the folder of the socket: its path as a whole may be too long for one."""
    here, line = os.getcwd(), socket.socket(socket.AF_UNIX)
    os.chdir(HERE)
    try:
        make(line)
    finally:
        os.chdir(here)
    return line


def serve():
    if os.path.exists(os.path.join(HERE, SOCKET)):
        os.remove(os.path.join(HERE, SOCKET))  # of a process that is gone
    door = connected(lambda line: line.bind(SOCKET))
    door.listen(1)
    signal.signal(signal.SIGALRM, out_of_time)
    sys.path.insert(0, os.getcwd())
    variables, number = {"__name__": "__main__"}, 0
    while True:
        guest, _ = door.accept()
        number += 1
        with guest, guest.makefile("rwb") as talk:
            asked = json.loads(talk.readline().decode())
            talk.write(json.dumps(run_cell(asked["code"], asked["seconds"], variables, number)).encode() + b"\n")


def run_cell(source, seconds, variables, number):
    """What the cell printed, programs that it started included, and whether it came to its end."""
    with tempfile.TemporaryFile() as kept:
        sys.stdout.flush()
        saved = [os.dup(1), os.dup(2)]
        os.dup2(kept.fileno(), 1)
        os.dup2(kept.fileno(), 2)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            fine = evaluate(source, "<cell %d>" % number, variables)
        except OutOfTime:
            print("The cell was interrupted after %g seconds. Variables are kept." % seconds)
            fine = False
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            sys.stdout.flush()
            sys.stderr.flush()
            for old, standard in zip(saved, (1, 2)):
                os.dup2(old, standard)
                os.close(old)
        kept.seek(0)
        return {"output": kept.read().decode("utf-8", "replace"), "fine": fine}


def evaluate(source, name, variables):
    """Run ``source``; if its last statement is an expression, show its value as an interactive Python would."""
    linecache.cache[name] = (len(source), None, source.splitlines(True), name)
    try:
        tree = ast.parse(source, name)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, name, "exec"), variables)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), name, "eval"), variables)
            if value is not None:
                variables["_"] = value
                print(repr(value))
    except OutOfTime:
        raise
    except BaseException:
        kind, error, trace = sys.exc_info()
        while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
            trace = trace.tb_next
        sys.stdout.flush()
        traceback.print_exception(kind, error, trace, file=sys.stdout)
        return False
    return True


def run(seconds, source):
    give_up = time.monotonic() + START_S
    while True:
        try:
            line = connected(lambda line: line.connect(SOCKET))
            break
        except OSError:
            if time.monotonic() > give_up:
                print("The Python process cannot be reached.")
                return NO_PROCESS
            time.sleep(0.03)
    with line, line.makefile("rwb") as talk:
        talk.write(json.dumps({"code": source, "seconds": seconds}).encode() + b"\n")
        talk.flush()
        answer = talk.readline()
    if not answer:
        print("The Python process ended during this cell. Its variables are gone; the next cell begins a new one.")
        return NO_PROCESS
    told = json.loads(answer.decode())
    sys.stdout.buffer.write(told["output"].encode("utf-8", "replace"))
    return 0 if told["fine"] else 1


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve()
    else:
        sys.exit(run(float(sys.argv[2]), base64.b64decode(sys.argv[3]).decode("utf-8", "surrogatepass")))
