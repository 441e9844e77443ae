"""The doors of one vLLM server through which its weights are changed, and the folders that weights come in.

The doors exist only in vLLM's development mode (``workers.weight_updates``), on loopback, without a key: nobody but the
daemon uses them. Source: vLLM 0.32, ``entrypoints/rl/online/api_router.py``, ``entrypoints/serve/dev``.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import aiohttp

from thunderctl.errors import EngineError, UsageError

QUICK_S = 60.0
"""Longest wait for what an engine does between two steps."""
LOAD_S = 1800.0
"""Longest wait for weights to be read and put in place."""
_HEADER_LIMIT = 100 * 2**20
"""Bytes of a safetensors header at most, as the format has it."""


class Doors:
    """Of the server at ``url``. Everything raises ``EngineError`` when it is refused, in the server's own words."""

    def __init__(self, session: aiohttp.ClientSession, name: str, url: str) -> None:
        self._session = session
        self.name = name
        self.url = url

    async def pause(self) -> None:
        """Cut off what is being answered, and answer nothing more until :meth:`resume`; what is cached stays."""
        await self._post("/pause?mode=abort&clear_cache=false")

    async def resume(self) -> None:
        await self._post("/resume")

    async def load(self, source: str) -> None:
        """Put the weights of ``source``, a folder, in place of those that are there. Only while it is paused."""
        body = {"method": "reload_weights", "kwargs": {"weights_path": source}}
        await self._post("/collective_rpc", body, LOAD_S)

    async def drop_cache(self) -> None:
        """Forget every prefix. Only while it is paused."""
        answer = await self._post("/reset_prefix_cache")
        if isinstance(answer, dict) and answer.get("success") is False:
            raise EngineError(f"{self.name} did not drop its prefix cache: something still uses it")

    async def _post(self, path: str, body: dict[str, Any] | None = None, limit_s: float = QUICK_S) -> Any:
        timeout = aiohttp.ClientTimeout(total=limit_s)
        try:
            async with self._session.post(self.url + path, json=body, timeout=timeout) as answer:
                text = await answer.text(errors="replace")
        except (aiohttp.ClientError, TimeoutError, OSError) as lost:
            raise EngineError(f"{self.name}: POST {path}: {lost or type(lost).__name__}") from lost
        if answer.status == 404:
            raise EngineError(
                f"{self.name} has no {path.partition('?')[0]}",
                hint="this version of vLLM cannot change its weights while it serves; engine.version chooses another",
            )
        if answer.status >= 400:
            raise EngineError(f"{self.name}: POST {path}: HTTP {answer.status}: {_first_words(text)}")
        try:
            return json.loads(text) if text else None
        except ValueError:
            return None


class AllDoors:
    """Of every server that runs, by the worker's name. What goes wrong at one of them is told, and stops no other."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._doors: dict[str, Doors] = {}

    @property
    def names(self) -> set[str]:
        return set(self._doors)

    @property
    def urls(self) -> dict[str, str]:
        return {name: doors.url for name, doors in self._doors.items()}

    def add(self, name: str, url: str) -> None:
        if self._session is None:
            # An engine that failed hangs up: no connection is used twice.
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, force_close=True))
        self._doors[name] = Doors(self._session, name, url)

    def drop(self, name: str) -> bool:
        """Forget the worker; whether it was known."""
        return self._doors.pop(name, None) is not None

    async def each(self, names: Iterable[str], act: Callable[[Doors], Awaitable[None]]) -> dict[str, str]:
        """Do it at all of these at once; worker → why it could not be done."""

        async def at(name: str) -> tuple[str, str] | None:
            doors = self._doors.get(name)
            if doors is None:
                return name, f"{name} is gone"
            try:
                await act(doors)
            except EngineError as refused:
                return name, refused.message + (f" ({refused.hint})" if refused.hint else "")
            return None

        said = await asyncio.gather(*(at(name) for name in list(names)))
        return dict(failure for failure in said if failure is not None)

    async def load(self, names: Iterable[str], source: str) -> dict[str, str]:
        """Give these, which are paused, the weights of ``source`` and nothing cached; worker → why it could not be."""
        names = set(names)
        failed = await self.each(names, lambda doors: doors.load(source))
        return failed | await self.each(names - set(failed), Doors.drop_cache)

    async def bring(self, name: str, source: str) -> str | None:
        """Load ``source`` on one that is given no calls; why it could not be done."""
        failed = await self.each([name], Doors.pause) or await self.load([name], source)
        failed = failed or await self.each([name], Doors.resume)
        return failed.get(name)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


def _first_words(text: str) -> str:
    try:
        said = json.loads(text)
        said = said.get("error", said)
        said = said.get("message", said) if isinstance(said, dict) else said
    except (ValueError, AttributeError):
        said = text
    return str(said)[:500]


def check_weights(folder: Path, present: Path | None) -> None:
    """``UsageError`` unless ``folder`` has safetensors with every tensor of ``present``, in the same shape.

    An engine that is given fewer keeps the old ones without a word, and one that is given others is of no more use.
    ``None``: it is not known what there is now.
    """
    if not folder.is_dir():
        raise UsageError(f"path: {folder} is no folder on the daemon's machine")
    given = tensor_shapes(folder)
    if not given:
        raise UsageError(f"path: there is no *.safetensors in {folder}", hint="save the weights as safetensors")
    expected = tensor_shapes(present) if present is not None and present.is_dir() else {}
    if present is not None and _shares_embeddings(present):
        expected.pop("lm_head.weight", None)
    wrong = [
        f"{name} is missing" if name not in given else f"{name} has shape {given[name]}, not {shape}"
        for name, shape in expected.items()
        if given.get(name) != shape
    ]
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise UsageError(f"path: {folder} does not fit the model: {wrong[0]}{more}", details=wrong[:10])


def _shares_embeddings(folder: Path) -> bool:
    try:
        return bool(json.loads((folder / "config.json").read_text()).get("tie_word_embeddings"))
    except (OSError, ValueError, AttributeError):
        return False


def tensor_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Name → shape of every tensor in the folder's safetensors files; their headers alone are read.

    Raises:
        UsageError: one of the files is no safetensors file, or ends too early.
    """
    found: dict[str, tuple[int, ...]] = {}
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with file.open("rb") as opened:
                size = int.from_bytes(opened.read(8), "little")
                if not 2 <= size <= _HEADER_LIMIT:
                    raise ValueError("its header has no sensible length")
                tensors = json.loads(opened.read(size))
            tensors.pop("__metadata__", None)
            end = max((tensor["data_offsets"][1] for tensor in tensors.values()), default=0)
            if file.stat().st_size != 8 + size + end:
                raise ValueError("it is not as long as its header says")
            found |= {name: tuple(tensor["shape"]) for name, tensor in tensors.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as bad:
            raise UsageError(f"path: {file} is no whole safetensors file: {bad}") from bad
    return found
