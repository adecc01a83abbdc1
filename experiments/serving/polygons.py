"""The regions of a mask as polygons in GeoJSON, along the edges of its pixels. Needs: pip install 'headstart[polygons]'."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from headstart.pipeline.errors import HeadstartError


def polygons_of(mask: NDArray[np.uint8], names: Mapping[int, str]) -> bytes:
    """A FeatureCollection: a polygon for each region of pixels of one class that touch along an edge, holes cut out of it.

    Coordinates are pixels from the upper left corner, x to the right and y down: (2, 3) is where pixel [3, 2] begins, so areas
    are numbers of pixels. Properties are `class`, `value` (what the mask holds) and `pixels`. In the order of GDAL's scan.

    Args:
        mask: (H, W).
        names: of the values that become polygons; pixels of other values are left out.

    Raises: HeadstartError if rasterio is not installed.
    """
    return b"".join(_pieces(mask, names))


def require_rasterio() -> None:
    """Raises: HeadstartError if rasterio is not installed."""
    try:
        import rasterio.features  # noqa: F401
    except ImportError:
        raise HeadstartError("polygons need rasterio. Install it: pip install 'headstart[polygons]'") from None


def _pieces(mask: NDArray[np.uint8], names: Mapping[int, str]) -> Iterator[bytes]:
    require_rasterio()
    from rasterio.features import shapes

    chosen = np.isin(mask, list(names))
    begin = '{"type": "FeatureCollection", "features": ['
    for shape, value in shapes(mask, mask=chosen, connectivity=4):
        rings = [[[int(x), int(y)] for x, y in ring] for ring in shape["coordinates"]]
        properties = {"class": names[int(value)], "value": int(value), "pixels": sum(map(_area, rings))}
        feature = {"type": "Feature", "properties": properties, "geometry": {"type": "Polygon", "coordinates": rings}}
        yield f"{begin}\n{json.dumps(feature)}".encode()
        begin = ","
    yield (begin if begin != "," else "").encode() + b"\n]}\n"


def _area(ring: list[list[int]]) -> int:
    """Signed: GDAL turns holes the other way round than what is around them, and y points down."""
    return sum(y0 * x1 - x0 * y1 for (x0, y0), (x1, y1) in pairwise(ring)) // 2
