"""Where a picture was taken or what it shows: a point on the earth, and how far two are apart."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from phosphene.types import Place

EARTH_RADIUS_M = 6_371_008.8  # mean radius R1 of GRS 80 (Moritz, Journal of Geodesy 74, 2000), as engines have it
HALF_ROUND_M = 20_100_000  # more than half around the earth: a circle of this radius holds every place

LATITUDE_NAMES = ("lat", "latitude")
LONGITUDE_NAMES = ("lon", "lng", "long", "longitude")
_PAIR = re.compile(r"\s*([+-]?\d{1,3}(?:\.\d{1,22})?)\s*[,;]\s*([+-]?\d{1,3}(?:\.\d{1,22})?)\s*")


def great_circle_m(first: Place, second: Place) -> float:
    """Give the length in metres of the shortest way over the ground, the earth taken for a sphere (off by up to 0.5 %).

    The haversine formula: Sinnott, "Virtues of the Haversine", Sky and Telescope 68 (1984), page 159.
    """
    lat_1, lat_2 = math.radians(first["lat"]), math.radians(second["lat"])
    east = math.radians(second["lon"] - first["lon"])
    half = math.sin((lat_2 - lat_1) / 2) ** 2 + math.cos(lat_1) * math.cos(lat_2) * math.sin(east / 2) ** 2
    return 2 * EARTH_RADIUS_M * math.asin(math.sqrt(min(1.0, half)))


def place_at(latitude: object, longitude: object) -> Place:
    """Make a place of degrees: latitude -90..90, longitude -180..180. Raises ValueError that says which is wrong."""
    return Place(lat=_degrees(latitude, "latitude", 90), lon=_degrees(longitude, "longitude", 180))


def place_of(value: object) -> Place | None:
    """Read a place: an object with `lat` and `lon`, or "52.52,13.405"; None where it is neither.

    Raises ValueError where it is one that does not exist on earth.
    """
    if isinstance(value, str):
        pair = _PAIR.fullmatch(value)
        return None if pair is None else place_at(float(pair[1]), float(pair[2]))
    if not isinstance(value, Mapping):
        return None
    names = {str(name).lower(): said for name, said in value.items()}
    latitude, longitude = _first(names, LATITUDE_NAMES), _first(names, LONGITUDE_NAMES)
    if len(names) != 2 or latitude is None or longitude is None:
        return None
    return place_at(latitude, longitude)


def place_text(place: Place) -> str:
    """Write a place as `lat,lon`; the inverse of `place_of`."""
    return f"{_plain(place['lat'])},{_plain(place['lon'])}"


def _first(names: Mapping[str, object], wanted: tuple[str, ...]) -> object:
    return next((names[name] for name in wanted if names.get(name) is not None), None)


def _degrees(value: object, what: str, most: int) -> float:
    if isinstance(value, str):
        return _degrees(_number(value, what), what, most)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= most:  # false for NaN too
        raise ValueError(f"{what} {value!r} lies beyond -{most}..{most} degrees")
    return float(value) + 0.0  # -0.0 is 0


def _number(text: str, what: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise ValueError(f"{what} {text[:40]!r} is no number of degrees") from error


def _plain(degrees: float) -> str:
    return f"{degrees:.17f}".rstrip("0").rstrip(".") if "e" in repr(degrees) else repr(degrees).removesuffix(".0")
