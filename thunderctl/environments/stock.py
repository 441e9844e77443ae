"""Environments that are kept ready for whoever asks for one of their kind, without files and set-up.

Each has a lease of its own that belongs to no program; whoever takes one gets its place lent under a second lease.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from typing import Protocol

from thunderctl.environments.backend import Backend, Made, Wanted
from thunderctl.environments.background import Background
from thunderctl.environments.lease import Lease, LeaseLedger
from thunderctl.environments.spec import EnvironmentSpec


class Maker(Protocol):
    """Makes environments and takes them back; the manager."""

    def announce(self, program: str, run: str, spec: EnvironmentSpec) -> Lease: ...

    async def ready(self, lease_id: str) -> Lease: ...

    async def release(self, lease_id: str) -> Lease: ...

    def kind(self, spec: EnvironmentSpec) -> bytes:
        """The same for environments that can stand in for one another."""


@dataclass(slots=True)
class _Stock:
    run: str
    spec: EnvironmentSpec
    count: int
    ready: deque[str] = field(default_factory=deque)
    """Their leases."""
    coming: int = 0


class Stocks:
    """What is kept ready on one node."""

    def __init__(self, maker: Maker, backend: Backend, ledger: LeaseLedger, background: Background) -> None:
        self._maker = maker
        self._backend = backend
        self._ledger = ledger
        self._background = background
        self._stocks: dict[bytes, _Stock] = {}
        self._closed = False

    def keep(self, run: str, spec: EnvironmentSpec, count: int) -> None:
        """From now on have ``count`` environments like ``spec`` ready, until ``run`` is over."""
        bare = _bare(spec)
        stock = self._stocks.setdefault(self._maker.kind(bare), _Stock(run, bare, count))
        stock.run, stock.count = run, count
        self._refill(stock)

    def drop(self, run: str) -> list[Lease]:
        """Keep nothing more for ``run``; the leases that are to be released."""
        leases = []
        for kind, stock in list(self._stocks.items()):
            if stock.run == run:
                del self._stocks[kind]
                stock.count = 0
                leases += [lease for lease in map(self._ledger.get, stock.ready) if lease.active]
        return leases

    async def take(self, lease: Lease, wanted: Wanted) -> Made | None:
        """A place that was kept ready, with the files of ``wanted`` in it; ``None`` if there is none of its kind."""
        if not lease.program or not self._stocks:
            return None
        stock = self._stocks.get(self._maker.kind(_bare(wanted.spec)))
        while stock is not None and stock.ready:
            warm = stock.ready.popleft()
            if self._ledger.lend(warm, lease.program, lease.run):
                self._refill(stock)
                place = self._ledger.get(warm).place
                assert place is not None, warm  # noqa: S101 - it is ready
                await self._backend.fill(self._ledger.note_place(lease.id, place), wanted)
                return Made(place)
        return None

    def close(self) -> None:
        """Make no more of them."""
        self._closed = True

    def _refill(self, stock: _Stock) -> None:
        while not self._closed and len(stock.ready) + stock.coming < stock.count:
            stock.coming += 1
            self._background.spawn(self._make_one(stock))

    async def _make_one(self, stock: _Stock) -> None:
        lease = self._maker.announce("", stock.run, stock.spec)
        try:
            await self._maker.ready(lease.id)
        finally:
            stock.coming -= 1
        if stock.count:
            stock.ready.append(lease.id)
        else:  # nobody wants it any more
            await self._maker.release(lease.id)


def _bare(spec: EnvironmentSpec) -> EnvironmentSpec:
    """What environments have in common that differ in files and set-up only."""
    return replace(spec, files=None, setup=(), git=False)
