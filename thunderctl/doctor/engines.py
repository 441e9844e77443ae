"""What runs models: GPUs with their driver, and the environments that hold vLLM."""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from thunderctl.doctor.finding import Finding, fine, wanted
from thunderctl.errors import EngineError
from thunderctl.workers.engine import installed_engines
from thunderctl.workers.locks import lock_file, pins

PURPOSE = "profiles with engine.kind cuda"
_QUERY = "name,memory.total,memory.used,driver_version,compute_cap"
_TIMEOUT_S = 20
BUSY_SHARE = 0.1
"""Of a GPU's memory in use, above which its engine may not find the room that a profile counts on."""


def gpus() -> Iterator[Finding]:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        if not _has_nvidia_card():
            yield wanted(
                "GPUs", "none", PURPOSE, "none is needed for `thunderctl run swebench` (CPU) or emulated profiles"
            )
        else:
            yield wanted("GPUs", "an NVIDIA card, but no driver", PURPOSE, "install NVIDIA's driver, then restart")
        return
    rows, trouble = _ask(tool, f"--query-gpu={_QUERY}", "--format=csv,noheader,nounits")
    if trouble or not rows:
        reload_it = "restart the machine, or reload the driver: `sudo rmmod nvidia_uvm nvidia && sudo modprobe nvidia`"
        fix = reload_it if "mismatch" in trouble else "install NVIDIA's driver anew, then restart"
        yield wanted("GPUs", f"the driver does not answer: {trouble or 'no GPU listed'}", PURPOSE, fix)
        return
    cards = [[cell.strip() for cell in row] for row in csv.reader(rows.splitlines())]
    yield fine("GPUs", _counted([f"{name}, {_gib(total)} GiB" for name, total, *_ in cards]))
    yield _driver(tool, cards[0][3] if cards else "")
    busy = [n for n, (_, total, used, *_rest) in enumerate(cards) if float(used) > BUSY_SHARE * float(total)]
    if busy:
        yield wanted(
            "GPU memory", f"in use by others on GPU {', '.join(map(str, busy))}", "engines that count on all of it",
            "end what uses it (`nvidia-smi` lists it), or choose others with -c workers.gpus=[…]",
        )  # fmt: skip


def count_gpus() -> int:
    """How many a driver lists; 0 without one."""
    tool = shutil.which("nvidia-smi")
    return len(_ask(tool, "--query-gpu=name", "--format=csv,noheader")[0].splitlines()) if tool else 0


def _driver(tool: str, version: str) -> Finding:
    """Whether the driver is new enough for the CUDA that the engine was locked to."""
    said, _ = _ask(tool)
    match = re.search(r"CUDA Version:\s*(\d+)\.(\d+)", said)
    needed = next((v for name, v in pins(lock_file("cuda").read_text()) if name == "cuda-toolkit"), "")
    found = f"{version}, for CUDA {match[1]}.{match[2]}" if match else version
    if match and needed and int(match[1]) < int(needed.split(".")[0]):
        major = needed.split(".")[0]
        return wanted("GPU driver", f"{found}; the engine needs CUDA {major}", PURPOSE, "install a newer NVIDIA driver")
    return fine("GPU driver", found)


def _ask(tool: str, *options: str) -> tuple[str, str]:
    """What the tool says, and what went wrong with it."""
    try:
        answer = subprocess.run([tool, *options], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return "", str(error)
    text = answer.stdout.strip()
    return (
        (text, "")
        if answer.returncode == 0
        else ("", (text or answer.stderr).strip()[-300:] or f"exit code {answer.returncode}")
    )


def _has_nvidia_card() -> bool:
    """By the vendor's number on the PCI bus, for display and 3D controllers."""
    for device in Path("/sys/bus/pci/devices").glob("*"):
        try:
            vendor, kind = (device / "vendor").read_text().strip(), (device / "class").read_text().strip()
        except OSError:
            continue
        if vendor == "0x10de" and kind.startswith("0x03"):
            return True
    return False


def _counted(names: list[str]) -> str:
    return "; ".join(f"{names.count(name)} × {name}" for name in dict.fromkeys(names))


def _gib(mib: str) -> str:
    return f"{float(mib) / 1024:.0f}"


def engines() -> Iterator[Finding]:
    try:
        found = installed_engines()
    except (EngineError, ValueError, KeyError) as error:
        yield wanted(
            "engine environments", f"cannot be read: {error}", "starting workers", "thunderctl engine remove cpu"
        )
        return
    lost = [engine for engine in found if not engine.python.exists()]
    if lost:
        names = ", ".join(f"{engine.kind} {engine.version}" for engine in lost)
        fix = f"thunderctl engine remove {lost[0].kind} && thunderctl engine install {lost[0].kind}"
        yield wanted("engine environments", f"the interpreter of {names} is gone", "starting workers", fix)
    elif found:
        yield fine("engine environments", ", ".join(f"{engine.kind} {engine.version}" for engine in found))
    else:
        fix = "thunderctl engine install cpu (`up` and `run` do it by themselves)"
        yield wanted("engine environments", "none yet", "starting workers", fix)
