"""Boards over HTTP: whose they are, what changes them, what a link shows, and what comes out as a file."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2
import pytest
from PIL import Image

from phosphene import contact_sheet
from phosphene.catalog.collections import MAX_SHARES
from phosphene.contact_sheet import Cell, Heading
from phosphene.errors import InvalidSettings
from phosphene.types import DEFAULT_TENANT, AssetId, TenantId
from search_api import exports
from search_api.exports import safe_cell
from tests.search_api.served import KEYS, Served, ingested_folder, png, serving, variation
from tests.search_api.test_operations import eventually

UNKNOWN = "00000000-0000-0000-0000-000000000001"
BOARDS = "/v1/collections"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("boards") / "data"
    shutil.copytree(ingested_folder(), folder)
    with serving(folder) as running:
        yield running


@pytest.fixture(scope="module")
def pictures(written: Served) -> list[str]:
    listed = written.client.get("/v1/assets", params={"limit": 100}).json()["assets"]
    return [asset["asset_id"] for asset in listed]


def board(served: Served, pictures: list[str], name: str = "board", **more: object) -> str:
    made = served.client.post(BOARDS, json={"name": name, "asset_ids": pictures, **more})
    assert made.status_code == 201, made.text
    assert made.headers["location"] == f"{BOARDS}/{made.json()['id']}"
    return str(made.headers["location"])


def order(served: Served, path: str) -> list[str]:
    return [item["asset_id"] for item in served.client.get(f"{path}/items").json()["items"]]


def test_a_board_is_made_filled_ordered_noted_and_taken_away(written: Served, pictures: list[str]) -> None:
    client = written.client
    path = board(written, pictures[:3], " Spring \u732b ", notes="for the cover")
    shown = client.get(path)
    assert shown.headers["etag"] == shown.json()["etag"]
    assert (shown.json()["name"], shown.json()["notes"], shown.json()["count"]) == (
        "Spring \u732b",
        "for the cover",
        3,
    )
    added = client.post(f"{path}/items", json={"asset_ids": [pictures[4], pictures[0]], "note": "new", "first": True})
    assert (added.status_code, added.json()["changed"]) == (200, 1)
    moved = client.post(f"{path}/items/move", json={"asset_ids": [pictures[2], pictures[0]], "after": pictures[4]})
    assert moved.status_code == 200
    expected = [pictures[4], pictures[2], pictures[0], pictures[1]]
    assert order(written, path) == expected
    noted = client.patch(f"{path}/items/{pictures[2]}", json={"note": "the best"})
    assert noted.status_code == 200
    page = client.get(f"{path}/items", params={"limit": 2}).json()
    assert [item["note"] for item in page["items"]] == ["new", "the best"]
    rest = client.get(f"{path}/items", params={"limit": 2, "after": page["next_after"]}).json()
    assert [item["asset_id"] for item in rest["items"]] == expected[2:]
    assert rest["next_after"] is None
    removed = client.post(f"{path}/items/remove", json={"asset_ids": [pictures[4], UNKNOWN]})
    assert removed.json()["changed"] == 1
    assert client.patch(path, json={"name": "Summer"}).json()["name"] == "Summer"
    listed = client.get(BOARDS, params={"limit": 1}).json()
    assert [one["name"] for one in listed["collections"]] == ["Summer"]
    assert client.delete(path).status_code == 204
    assert client.get(path).status_code == 404
    assert client.get(f"/v1/assets/{pictures[0]}").status_code == 200


def test_a_change_of_what_somebody_else_changed_is_refused(written: Served, pictures: list[str]) -> None:
    client = written.client
    path = board(written, pictures[:3])
    seen = client.get(path).headers["etag"]
    assert client.patch(path, json={"name": "theirs"}, headers={"If-Match": seen}).status_code == 200
    for method, where, body in (
        ("PATCH", path, {"name": "mine"}),
        ("POST", f"{path}/items", {"asset_ids": [pictures[5]]}),
        ("POST", f"{path}/items/move", {"asset_ids": [pictures[1]], "first": True}),
        ("POST", f"{path}/items/remove", {"asset_ids": [pictures[1]]}),
        ("PATCH", f"{path}/items/{pictures[1]}", {"note": "mine"}),
        ("DELETE", path, None),
    ):
        refused = client.request(method, where, json=body, headers={"If-Match": seen})
        assert refused.status_code == 412, (method, where, refused.text)
        assert "read it anew" in refused.json()["detail"]
    assert order(written, path) == pictures[:3]
    now = client.get(path).headers["etag"]
    assert client.patch(path, json={"name": "mine"}, headers={"If-Match": f"W/{now}"}).status_code == 200
    assert client.patch(path, json={"name": "any"}, headers={"If-Match": "*"}).status_code == 200


def test_deleted_pictures_leave_boards(written: Served) -> None:
    made = [written.client.post("/v1/assets", files={"image": png(900 + seed)}).json()["asset_id"] for seed in range(3)]
    path = board(written, made)
    before = written.client.get(path).headers["etag"]
    assert written.client.delete(f"/v1/assets/{made[1]}").status_code == 204
    assert order(written, path) == [made[0], made[2]]
    assert written.client.get(path).headers["etag"] != before


WRONG: dict[str, tuple[str, str, Any, int, str]] = {
    "no name": ("POST", "", {}, 422, "name"),
    "a white name": ("POST", "", {"name": "  "}, 422, "name"),
    "an endless name": ("POST", "", {"name": "x" * 201}, 422, "name"),
    "NUL in a name": ("POST", "", {"name": "a\x00b"}, 422, "NUL"),
    "an unknown picture": ("POST", "", {"name": "a", "asset_ids": [UNKNOWN]}, 404, UNKNOWN),
    "no picture": ("POST", "", {"name": "a", "asset_ids": ["../etc"]}, 422, "asset_ids.0"),
    "too many at once": ("POST", "", {"name": "a", "asset_ids": [UNKNOWN] * 1001}, 422, "1000"),
    "unknown before": ("GET", f"?before={UNKNOWN}", None, 404, UNKNOWN),
    "no board": ("GET", f"/{UNKNOWN}", None, 404, UNKNOWN),
    "no board at all": ("GET", "/1;drop", None, 422, "collection_id"),
    "nothing to change": ("PATCH", "/BOARD", {}, 422, "name or notes"),
    "a typo": ("PATCH", "/BOARD", {"nmae": "x"}, 422, "nmae"),
    "nothing to add": ("POST", "/BOARD/items", {"asset_ids": []}, 422, "asset_ids"),
    "two places": (
        "POST",
        "/BOARD/items",
        {"asset_ids": [UNKNOWN], "first": True, "after": UNKNOWN},
        422,
        "two places",
    ),
    "behind nothing": ("POST", "/BOARD/items/move", {"asset_ids": [UNKNOWN]}, 404, "not on this board"),
    "a note on nothing": ("PATCH", f"/BOARD/items/{UNKNOWN}", {"note": "x"}, 404, "not on this board"),
    "an endless note": ("PATCH", f"/BOARD/items/{UNKNOWN}", {"note": "x" * 4001}, 422, "4000"),
    "behind one that left": ("GET", f"/BOARD/items?after={UNKNOWN}", None, 422, "left the board"),
    "an unknown format": ("GET", "/BOARD/export?format=exe", None, 422, "format"),
    "a page beyond": ("GET", "/BOARD/export?format=png&page=99", None, 422, "page 99"),
    "an unknown field": ("GET", '/BOARD/more?filter={"field":"x","equals":1}', None, 422, "no field 'x'"),
    "no filter": ("GET", "/BOARD/more?filter={", None, 422, "not JSON"),
    "the odd one of two": ("GET", "/BOARD/outliers", None, 422, "takes 5 or more"),
    "no time at all": ("POST", "/BOARD/shares", {"expires_in_days": 0}, 422, "expires_in_days"),
    "for ever and a day": ("POST", "/BOARD/shares", {"expires_in_days": 1e300}, 422, "expires_in_days"),
    "no link": ("DELETE", f"/BOARD/shares/{UNKNOWN}", None, 404, "no link"),
}


@pytest.mark.parametrize(("method", "path", "body", "status", "said"), WRONG.values(), ids=WRONG.keys())
def test_what_is_wrong_is_named(  # noqa: PLR0917  a table's columns
    written: Served,
    pictures: list[str],
    method: str,
    path: str,
    body: Any,  # noqa: ANN401  JSON
    status: int,
    said: str,
) -> None:
    where = BOARDS + path
    if "BOARD" in path:
        where = path.replace("/BOARD", board(written, pictures[:2]))
    answer = written.client.request(method, where, json=body)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert said in answer.json()["detail"]


def test_an_empty_board_has_no_more_but_can_be_exported(written: Served) -> None:
    path = board(written, [])
    assert "put pictures on it" in written.client.get(f"{path}/more").json()["detail"]
    for kind in ("csv", "json", "pdf", "png"):
        assert written.client.get(f"{path}/export", params={"format": kind}).status_code == 200, kind


def test_more_is_not_on_the_board_and_the_odd_one_is_told(written: Served) -> None:
    dogs = [hit["asset_id"] for hit in written.search(text="a musical instrument", limit=6)["hits"]]
    odd = written.search(text="a building", limit=1)["hits"][0]["asset_id"]
    path = board(written, [*dogs[:3], odd, *dogs[3:]])
    more = written.client.get(f"{path}/more", params={"limit": 20}).json()
    found = [hit["asset_id"] for hit in more["hits"]]
    assert more["space"] == written.engine.encoder.space.id
    assert len(set(found)) == 20
    assert not set(found) & {*dogs, odd}
    assert [hit["fit"] for hit in more["hits"]] == sorted((hit["fit"] for hit in more["hits"]), reverse=True)
    few = {"limit": 8}
    first = written.client.get(f"{path}/more", params=few).json()
    written.client.post(f"{path}/items", json={"asset_ids": [found[9]]}).raise_for_status()
    second = written.client.get(f"{path}/more", params={**few, "cursor": first["next_cursor"]}).json()
    paged = [hit["asset_id"] for hit in (*first["hits"], *second["hits"])]
    assert paged == [one for one in found if one != found[9]][:16]
    written.client.post(f"{path}/items/remove", json={"asset_ids": [found[9]]}).raise_for_status()
    cursor, pages = second["next_cursor"], 2
    while cursor:
        page = written.client.get(f"{path}/more", params={"limit": 100, "cursor": cursor}).json()
        paged += [hit["asset_id"] for hit in page["hits"]]
        cursor, pages = page["next_cursor"], pages + 1
    assert len(paged) == len(set(paged)) > 100
    for wrong in ("hello", "L~AAAA", first["next_cursor"] + "A"):
        assert written.client.get(f"{path}/more", params={"cursor": wrong}).status_code == 422
    elsewhere = f"{board(written, dogs[:3])}/more"
    refused = written.client.get(elsewhere, params={"cursor": first["next_cursor"]})
    assert refused.status_code == 422
    assert "another question" in refused.json()["detail"]
    wanted = {"filter": json.dumps({"field": "category", "equals": "animals"})}
    animals = written.client.get(f"{path}/more", params=wanted).json()["hits"]
    assert {hit["metadata"]["category"] for hit in animals} == {"animals"}
    worst = written.client.get(f"{path}/outliers").json()["pictures"]
    assert len(worst) == 7
    assert worst[0]["asset_id"] == odd
    assert [one["z_score"] for one in worst] == sorted(one["z_score"] for one in worst)


# --- links


@pytest.fixture(scope="module")
def museum(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server with two tenants, neither of whom owns the sample pictures."""
    folder = tmp_path_factory.mktemp("tenants") / "data"
    shutil.copytree(ingested_folder(), folder)
    with serving(folder, api_keys=KEYS) as running:
        yield running


def as_tenant(served: Served, number: int) -> httpx2.Client:
    key = KEYS[number].partition(":")[2]
    return httpx2.Client(base_url=served.url, timeout=60, headers={"Authorization": f"Bearer {key}"})


def test_tenants_never_see_each_others_boards(museum: Served) -> None:
    theirs = [str(one.id) for one in museum.engine.catalog.page_assets(tenant=DEFAULT_TENANT, after=None, limit=3)]
    kept = museum.engine.catalog.collections.create(DEFAULT_TENANT, "secret", items=[AssetId(UUID(theirs[0]))])
    token, share = museum.engine.catalog.collections.share(DEFAULT_TENANT, kept.id, with_notes=True, expires_in_s=None)
    assert token
    with as_tenant(museum, 0) as client, as_tenant(museum, 1) as other:
        mine = client.post("/v1/assets", files={"image": png(31)}).json()["asset_id"]
        own = client.post(BOARDS, json={"name": "mine", "asset_ids": [mine]}).json()["id"]
        assert [one["name"] for one in client.get(BOARDS).json()["collections"]] == ["mine"]
        assert other.get(BOARDS).json()["collections"] == []
        for stranger, path, picture in ((client, kept.id, theirs[0]), (other, own, mine)):
            where = f"{BOARDS}/{path}"
            body: Any
            for method, at, body in (
                ("GET", "", None),
                ("PATCH", "", {"name": "x"}),
                ("DELETE", "", None),
                ("GET", "/items", None),
                ("POST", "/items", {"asset_ids": [picture]}),
                ("POST", "/items/move", {"asset_ids": [picture]}),
                ("POST", "/items/remove", {"asset_ids": [picture]}),
                ("PATCH", f"/items/{picture}", {"note": "x"}),
                ("GET", "/more", None),
                ("GET", "/outliers", None),
                ("GET", "/export", None),
                ("GET", "/export?format=pdf", None),
                ("POST", "/shares", {}),
                ("GET", "/shares", None),
                ("DELETE", f"/shares/{share.id}", None),
            ):
                assert stranger.request(method, where + at, json=body).status_code == 404, (method, at)
        stolen = client.post(f"{BOARDS}/{own}/items", json={"asset_ids": [theirs[1]]})
        assert stolen.status_code == 404
        assert client.get(f"{BOARDS}/{own}/more").json()["hits"] == []  # no picture of another tenant fits
        assert other.post("/v1/assets", files={"image": variation(png(31), 1)}).status_code == 201
        far = client.post("/v1/assets", files={"image": png(32)}).json()["asset_id"]
        (found,) = client.get(f"{BOARDS}/{own}/more", params={"limit": 1}).json()["hits"]
        assert found["asset_id"] == far  # nor does one take the place of ours
    assert museum.client.get(f"{BOARDS}/{kept.id}").status_code == 401


def test_a_link_shows_its_board_without_a_key_and_nothing_else(museum: Served) -> None:
    with as_tenant(museum, 0) as client:
        shown, hidden = (
            client.post("/v1/assets", files={"image": png(seed)}, data={"title": title}).json()["asset_id"]
            for seed, title in ((41, "<script>alert(1)</script>"), (42, "hidden"))
        )
        made = client.post(BOARDS, json={"name": "A & <b>B", "notes": "inside", "asset_ids": [shown]}).json()
        where = f"{BOARDS}/{made['id']}"
        client.patch(f"{where}/items/{shown}", json={"note": "a secret note"})
        link = client.post(f"{where}/shares", json={"with_notes": False}).json()
        noted = client.post(f"{where}/shares").json()
        listed = client.get(f"{where}/shares").json()["shares"]
        assert {one["id"] for one in listed} == {link["id"], noted["id"]}
        assert {one["path"] for one in listed} == {None}

        stranger = museum.client
        page = stranger.get(link["path"])
        assert page.status_code == 200
        assert page.headers["content-type"].startswith("text/html")
        assert "A &amp; &lt;b&gt;B" in page.text
        assert "<script>" not in page.text
        assert "secret" not in page.text
        assert "inside" not in page.text
        assert "a secret note" in stranger.get(noted["path"]).text
        assert page.headers["cache-control"] == "private, no-cache"
        told = stranger.get(f"{link['path']}/board").json()
        assert [one["asset_id"] for one in told["pictures"]] == [shown]
        for address in (told["pictures"][0]["thumbnail_url"], told["pictures"][0]["image_url"]):
            picture = stranger.get(address)
            assert picture.status_code == 200
            assert Image.open(io.BytesIO(picture.content)).size == (96, 64)
            again = stranger.get(address, headers={"If-None-Match": picture.headers["etag"]})
            assert again.status_code == 304

        for closed in (
            f"{link['path']}/pictures/{hidden}",
            f"{link['path']}x",
            f"{link['path'][:-1]}/board",
            f"/shared/{made['id']}",
            "/shared/%00",
            f"/shared/x/pictures/{shown}",
        ):
            answer = stranger.get(closed)
            assert answer.status_code == 404, closed
            assert answer.headers["content-type"] == "application/problem+json"
        for inside in (where, f"{where}/items", f"/v1/assets/{shown}", f"/v1/assets/{shown}/image"):
            token = link["path"].rpartition("/")[2]
            assert stranger.get(inside, headers={"Authorization": f"Bearer {token}"}).status_code == 401

        assert client.delete(f"{where}/shares/{link['id']}").status_code == 204
        assert stranger.get(link["path"]).status_code == 404
        assert stranger.get(told["pictures"][0]["thumbnail_url"]).status_code == 404
        assert stranger.get(noted["path"]).status_code == 200
        client.post(f"{where}/items/remove", json={"asset_ids": [shown]})
        assert stranger.get(f"{noted['path']}/pictures/{shown}").status_code == 404
        client.delete(where)
        assert stranger.get(noted["path"]).status_code == 404


def test_a_link_does_not_show_what_moderation_rejected(museum: Served) -> None:
    tenant, engine = TenantId("museum"), museum.engine
    with as_tenant(museum, 0) as client:
        kept, bad = (client.post("/v1/assets", files={"image": png(seed)}).json()["asset_id"] for seed in (51, 52))
        made = client.post(BOARDS, json={"name": "Seen twice", "asset_ids": [kept, bad]}).json()
        link = client.post(f"{BOARDS}/{made['id']}/shares").json()["path"]
        assert len(museum.client.get(f"{link}/board").json()["pictures"]) == 2
        flagged = {"state": "rejected", "concept": "x", "score": 1.0, "by": "Ada"}
        engine.catalog.labels.change(tenant, {AssetId(UUID(bad)): {"moderation": flagged}})
        assert [one["asset_id"] for one in museum.client.get(f"{link}/board").json()["pictures"]] == [kept]
        assert museum.client.get(f"{link}/board").json()["count"] == 1
        assert "<p>1 picture</p>" in museum.client.get(link).text
        assert museum.client.get(f"{link}/pictures/{kept}").status_code == 200
        assert museum.client.get(f"{link}/pictures/{bad}").status_code == 404
        assert len(client.get(f"{BOARDS}/{made['id']}/items").json()["items"]) == 2, "the tenant sees its board whole"


def test_a_board_has_no_more_links_than_anybody_can_watch_over(museum: Served) -> None:
    with as_tenant(museum, 0) as client:
        where = f"{BOARDS}/{client.post(BOARDS, json={'name': 'Linked'}).json()['id']}/shares"
        made = [client.post(where) for _ in range(MAX_SHARES)]
        assert {one.status_code for one in made} == {201}
        answer = client.post(where)
        assert (answer.status_code, "close one first" in answer.json()["detail"]) == (422, True)
        client.delete(f"{where}/{made[0].json()['id']}").raise_for_status()
        assert client.post(where).status_code == 201


def test_one_sheet_is_drawn_at_a_time(museum: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "_PATIENCE_S", 0.01)
    with as_tenant(museum, 0) as client:
        where = f"{BOARDS}/{client.post(BOARDS, json={'name': 'Drawn'}).json()['id']}/export"
        with exports._DRAWING:
            for kind in ("pdf", "png"):
                answer = client.get(where, params={"format": kind})
                assert (answer.status_code, "retry-after" in answer.headers) == (429, True)
            assert client.get(where, params={"format": "csv"}).status_code == 200
        assert client.get(where, params={"format": "pdf"}).status_code == 200

        monkeypatch.setattr(exports, "_PATIENCE_S", 600)
        with exports._PLACES, exports._PLACES, exports._PLACES:  # three draw or wait: a fourth holds no thread
            assert client.get(where, params={"format": "pdf"}).status_code == 429
        assert client.get(where, params={"format": "png"}).status_code == 200


def test_links_are_not_in_the_log(museum: Served, caplog: pytest.LogCaptureFixture) -> None:
    board_ = museum.engine.catalog.collections.create(DEFAULT_TENANT, "logged")
    token, _ = museum.engine.catalog.collections.share(DEFAULT_TENANT, board_.id, with_notes=True, expires_in_s=60)
    with caplog.at_level("INFO", logger="phosphene.access"):
        assert museum.client.get(f"/shared/{token}").status_code == 200
        assert museum.client.get(f"/shared/{token}/nothing").status_code == 404
        eventually("both lines are written", lambda: sum("/shared/" in line for line in caplog.messages) == 2)
    assert token not in repr([record.__dict__ for record in caplog.records])


# --- files


def test_lists_come_out_whole_in_any_script_and_start_no_formula(written: Served, pictures: list[str]) -> None:
    title = '=HYPERLINK("http://example.org","\u732b, caf\u00e9 \u05d0")'
    made = written.client.post(
        "/v1/assets",
        files={"image": png(77)},
        data={"title": title, "metadata": '{"category": "@SUM(A1)", "year": -5, "shot": {"lat": 52.5, "lon": -13.25}}'},
    ).json()["asset_id"]
    path = board(written, [pictures[0], made], "Qu\u00e9 \u732b?/..")
    written.client.patch(f"{path}/items/{made}", json={"note": "+1\r\nsecond line"})

    answer = written.client.get(f"{path}/export")
    assert answer.headers["content-type"].startswith("text/csv")
    assert "filename*=UTF-8''Qu%C3%A9%20%E7%8C%AB" in answer.headers["content-disposition"]
    assert "/" not in answer.headers["content-disposition"].partition(";")[2].partition("*")[0]
    rows = list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"), newline="")))
    assert [row["asset_id"] for row in rows] == [pictures[0], made]
    assert rows[1]["title"] == f"'{title}"
    assert rows[1]["note"] == "'+1\r\nsecond line"
    assert rows[1]["metadata.category"] == "'@SUM(A1)"
    assert rows[1]["metadata.year"] == "-5", "a number is no formula"
    assert rows[1]["metadata.shot"] == "52.5,-13.25"
    assert [row["place"] for row in rows] == ["1", "2"]

    said = written.client.get(f"{path}/export", params={"format": "json"}).json()
    assert said["name"] == "Qu\u00e9 \u732b?/.."
    assert [item["asset_id"] for item in said["items"]] == [pictures[0], made]
    assert said["items"][1]["title"] == title
    assert said["items"][1]["note"] == "+1\r\nsecond line"


def test_cells_that_begin_a_formula_do_not() -> None:
    for text in ("=1", "+1", "-1", "@a", "\t=1", "\r=1", " =1", "|x", "\uff1d1"):
        assert safe_cell(text) == f"'{text}"
    for value in ("a=1", "", -5, 3.5, None, "1-2", "'quoted"):
        assert safe_cell(value) == value


def test_contact_sheets_show_every_picture(written: Served, pictures: list[str]) -> None:
    path = board(written, pictures[:45], "Sheet")
    pdf = written.client.get(f"{path}/export", params={"format": "pdf"})
    assert pdf.headers["content-type"] == "application/pdf"
    assert pdf.content.startswith(b"%PDF")
    assert pdf.content.rstrip().endswith(b"%%EOF")
    assert pdf.headers["x-phosphene-pages"] == "3"
    assert pdf.content.count(b"/Type /Page\n") + pdf.content.count(b"/Type /Page ") >= 3
    filled = []
    for page in (1, 2, 3):
        sheet = written.client.get(f"{path}/export", params={"format": "png", "page": page})
        assert sheet.headers["x-phosphene-unshown"] == "0"
        filled.append(cells_with_something(Image.open(io.BytesIO(sheet.content))))
    assert filled == [20, 20, 5]


def cells_with_something(sheet: Image.Image) -> int:
    """Count the cells of a page that are not white, in the part where thumbnails are."""
    grey = sheet.convert("L")
    assert grey.size == (contact_sheet.WIDTH, contact_sheet.HEIGHT)
    width, height = (1240 - 100) // 4, (1754 - 100 - 70 - 40) // 5
    boxes = [(50 + column * width, 120 + row * height) for row in range(5) for column in range(4)]
    parts = (grey.crop((left, top, left + width - 16, top + 200)) for left, top in boxes)
    return sum(part.getextrema()[0] < 250 for part in parts)  # type: ignore[operator]  # one band


def test_a_sheet_says_what_its_font_can_not_show() -> None:
    assert contact_sheet.draw_page([Cell(b"damaged", "x")], Heading("Title", 1, 1)).size == (1240, 1754)
    cells = [
        Cell(None, "Caf\u00e9 \u041a\u043e\u0442 \u03b3\u03ac\u03c4\u03b1"),
        Cell(None, "\u732b", "\U0001f408"),
        Cell(None, "\x07\u200bplain"),
    ]
    assert contact_sheet.unshown(cells) == 2
    plain = contact_sheet.draw_page(cells[:1], Heading("Title", 1, 1))
    told = contact_sheet.draw_page(cells, Heading("Title", 1, 1))
    foot = (0, contact_sheet.HEIGHT - 60, contact_sheet.WIDTH, contact_sheet.HEIGHT)
    assert plain.crop(foot).convert("L").getextrema()[0] == 255
    assert told.crop(foot).convert("L").getextrema()[0] < 200  # type: ignore[operator]  # one band
    with pytest.raises(InvalidSettings, match="PHOSPHENE_FONT"):
        contact_sheet.draw_page(cells, Heading("Title", 1, 1), font=Path(__file__))
    endless = [Cell(None, "x" * 5000, "word " * 1000)] * 20
    assert contact_sheet.draw_page(endless, Heading("y" * 5000, 1, 1)).size == (1240, 1754)


def test_a_pdf_of_too_many_pictures_is_refused(
    written: Served, pictures: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search_api.exports.MAX_PDF", 2)
    path = board(written, pictures[:3])
    refused = written.client.get(f"{path}/export", params={"format": "pdf"})
    assert refused.status_code == 422
    assert "png" in refused.json()["detail"]
