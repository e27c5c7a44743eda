from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phosphene.places import HALF_ROUND_M, great_circle_m, place_at, place_of, place_text
from phosphene.types import Place

BERLIN, LONDON = Place(lat=52.52, lon=13.405), Place(lat=51.5074, lon=-0.1278)
places = st.builds(lambda lat, lon: Place(lat=lat + 0.0, lon=lon + 0.0), st.floats(-90, 90), st.floats(-180, 180))


def test_known_distances() -> None:
    assert great_circle_m(BERLIN, LONDON) == pytest.approx(931_600, rel=0.005)  # 930.9 km on the ellipsoid
    pole, antipode = Place(lat=90, lon=0), Place(lat=-90, lon=77)
    assert great_circle_m(pole, antipode) == pytest.approx(20_015_115, rel=1e-6)  # half of a circle of radius R1
    assert great_circle_m(Place(lat=0, lon=179.9), Place(lat=0, lon=-179.9)) == pytest.approx(22_239, abs=1)


@given(places, places, places)
def test_distances_are_a_metric(one: Place, two: Place, three: Place) -> None:
    assert 0 <= great_circle_m(one, two) <= HALF_ROUND_M
    assert great_circle_m(one, two) == pytest.approx(great_circle_m(two, one), abs=1e-3)
    assert great_circle_m(one, three) <= great_circle_m(one, two) + great_circle_m(two, three) + 1


@given(places)
def test_a_place_is_read_from_what_it_is_written_as(place: Place) -> None:
    written = place_of(place_text(place))
    assert written is not None
    assert written["lat"] == pytest.approx(place["lat"], abs=1e-15)
    assert written["lon"] == pytest.approx(place["lon"], abs=1e-15)
    assert place_of(json.loads(json.dumps(place))) == place


def test_all_digits_of_a_small_number_are_read() -> None:
    small = Place(lat=0.0003686801450354605, lon=-0.00010000000000000021)
    assert place_of(place_text(small)) == small


@pytest.mark.parametrize(
    "value",
    [{"lat": 52.52, "lon": 13.405}, {"latitude": "52.52", "lng": 13.405}, "52.52,13.405", " +52.52 ; 13.405 "],
)
def test_places_are_written_in_several_ways(value: object) -> None:
    assert place_of(value) == BERLIN


@pytest.mark.parametrize(
    "value", ["Berlin", "52.52", "1,2,3", {"lat": 1}, {"lat": 1, "lon": 2, "alt": 3}, 52, None, []]
)
def test_what_is_no_place_is_none(value: object) -> None:
    assert place_of(value) is None


@pytest.mark.parametrize(("latitude", "longitude"), [(91, 0), (0, -181), (float("nan"), 0), ("north", 0), (True, 0)])
def test_a_place_that_is_not_on_earth_is_refused(latitude: object, longitude: object) -> None:
    with pytest.raises(ValueError, match="itude"):
        place_at(latitude, longitude)
