"""Where each factor of a memory lies in one flat vector, so that a whole memory is one row of a matrix."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from imprint.base.sites import Site


@dataclass(frozen=True)
class Layout:
    """Sites and the columns each has: for every site A [in, columns], then B [columns, out], one after the other.

    Columns are rank times episodes; episodes lie side by side.
    """

    sites: tuple[Site, ...]
    columns: tuple[int, ...]

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Where each site's A begins; the last is the size of all."""
        found = [0]
        for site, columns in zip(self.sites, self.columns, strict=True):
            found.append(found[-1] + columns * (site.in_features + site.out_features))
        return tuple(found)

    @property
    def size(self) -> int:
        """Numbers in one memory."""
        return self.offsets[-1]

    def factors(self, flat: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """Views (A [rows, in, columns], B [rows, columns, out]) by site name into `flat` [rows, size]."""
        found = {}
        for site, columns, start in zip(self.sites, self.columns, self.offsets, strict=False):
            middle, end = start + site.in_features * columns, start + (site.in_features + site.out_features) * columns
            a = flat[:, start:middle].unflatten(1, (site.in_features, columns))
            found[site.name] = a, flat[:, middle:end].unflatten(1, (columns, site.out_features))
        return found


def widest(layouts: Iterable[Layout]) -> Layout:
    """The smallest layout that has room for each of these."""
    columns: dict[Site, int] = {}
    for layout in layouts:
        for site, count in zip(layout.sites, layout.columns, strict=True):
            columns[site] = max(count, columns.get(site, 0))
    sites = tuple(sorted(columns, key=lambda site: (site.layer, site.name)))
    return Layout(sites, tuple(columns[site] for site in sites))


@lru_cache(maxsize=64)  # some megabytes each
def places(inner: Layout, outer: Layout) -> Tensor | None:
    """Where each number of `inner` lies in `outer`, [inner.size]; None where the two are the same."""
    if inner == outer:
        return None
    numbers = outer.factors(torch.arange(outer.size)[None])
    parts = []
    for site, columns in zip(inner.sites, inner.columns, strict=True):
        a, b = numbers[site.name]
        parts += [a[0, :, :columns].reshape(-1), b[0, :columns].reshape(-1)]
    return torch.cat(parts)
