"""Generation over HTTP, drawn by a tiny unCLIP of random weights: plumbing, not meaning."""

from __future__ import annotations

import base64
import io
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from phosphene.catalog.generation_records import Generation
from phosphene.types import GenerationId, TenantId
from tests.search_api.served import KEYS, Served, ingested_folder, png, sample_pictures, serving, tiny_generator

ENDED = ("finished", "failed", "cancelled")
SLOW = {"images": 64, "sampling": {"prior_steps": 1000, "decoder_steps": 1000}}
NOWHERE = "5d3c8b1e-7a3f-4f0c-9d55-4b5a0d6f2c11"
MUSEUM = {"X-API-Key": KEYS[0].partition(":")[2]}
AGENCY = {"X-API-Key": KEYS[1].partition(":")[2]}


@pytest.fixture(scope="module")
def drawing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = Path(shutil.copytree(ingested_folder(), tmp_path_factory.mktemp("drawing") / "data"))
    with serving(folder, generator=str(tiny_generator())) as running:
        yield running


def ask(served: Served, **body: Any) -> dict[str, Any]:  # noqa: ANN401  JSON
    response = served.client.post("/v1/generations", json=body)
    assert response.status_code in (200, 202), response.text
    generation: dict[str, Any] = response.json()
    assert response.headers["location"] == f"/v1/generations/{generation['id']}"
    assert (response.status_code == 200) == (generation["status"] == "finished")
    return generation


def ended(served: Served, id_: str) -> dict[str, Any]:
    for _ in range(1200):
        now: dict[str, Any] = served.client.get(f"/v1/generations/{id_}").json()
        if now["status"] in ENDED:
            return now
        time.sleep(0.1)
    raise AssertionError(now)


def drawn(served: Served, **body: Any) -> dict[str, Any]:  # noqa: ANN401  JSON
    generation = ended(served, ask(served, **body)["id"])
    assert generation["status"] == "finished", generation["error"]
    return generation


def events_of(served: Served, id_: str) -> list[tuple[str, dict[str, Any]]]:
    events = []
    with served.client.stream("GET", f"/v1/generations/{id_}/events") as stream:
        assert stream.status_code == 200
        assert stream.headers["content-type"].startswith("text/event-stream")
        name = ""
        for line in stream.iter_lines():
            kind, _, value = line.partition(": ")
            if kind == "event":
                name = value
            elif kind == "data":
                events.append((name, json.loads(value)))
    return events


def test_a_picture_is_drawn_watched_and_given_out(drawing: Served) -> None:
    asked = ask(drawing, text="a red bus in the snow", seed=7, sampling={"decoder_steps": 400})
    assert asked["status"] in ("queued", "running")
    events = events_of(drawing, asked["id"])
    assert [name for name, _ in events[:-1]] == ["progress"] * (len(events) - 1)
    seen = [told for _, told in events[:-1] if told["progress"]]
    assert seen, "steps are told"
    previews = [told["preview"] for told in seen if told["preview"]]
    assert previews, "and what it looks like so far"
    head, _, small = previews[-1].partition(",")
    assert head == "data:image/webp;base64"
    assert max(Image.open(io.BytesIO(base64.b64decode(small))).size) <= 96
    name, last = events[-1]
    assert (name, last["status"], last["preview"]) == ("done", "finished", None)
    assert events_of(drawing, asked["id"])[-1] == (name, last), "it can be asked again"

    (picture,) = last["pictures"]
    assert (picture["index"], picture["seed"], picture["format"], picture["asset_id"]) == (0, 7, "png", None)
    assert (last["prompt"], last["seed"], last["parents"]) == ("a red bus in the snow", 7, [])
    assert last["digital_source_type"].endswith("trainedAlgorithmicMedia")
    assert len(last["weights_sha256"]) == 64
    image = drawing.client.get(picture["image_url"])
    assert image.headers["content-type"] == "image/png"
    assert "immutable" in image.headers["cache-control"]
    assert asked["id"] in image.headers["content-disposition"]
    assert b"trainedAlgorithmicMedia" in image.content
    with Image.open(io.BytesIO(image.content)) as opened:
        assert opened.size == (picture["width"], picture["height"])
    again = drawing.client.get(picture["image_url"], headers={"If-None-Match": image.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    missing = drawing.client.get(f"/v1/generations/{asked['id']}/image", params={"index": 1})
    assert (missing.status_code, missing.headers["content-type"]) == (404, "application/problem+json")


def test_the_same_request_is_drawn_once(drawing: Served) -> None:
    first = drawn(drawing, text="a green door", seed=3)
    again = ask(drawing, text="a green door", seed=3)
    assert (again["id"], again["status"]) == (first["id"], "finished")
    other = drawn(drawing, text="a green door", seed=4)
    assert other["id"] != first["id"]
    unseeded = {ask(drawing, text="a green door")["id"] for _ in range(2)}
    assert len(unseeded) == 2, "without a seed it is another picture each time"
    listed = drawing.client.get("/v1/generations", params={"limit": 3}).json()
    assert {one["id"] for one in listed["generations"][:2]} == unseeded
    assert listed["generations"][2]["id"] == other["id"]
    older = drawing.client.get("/v1/generations", params={"before": listed["next_before"]}).json()
    assert first["id"] in {one["id"] for one in older["generations"]}
    for id_ in unseeded:
        ended(drawing, id_)


def test_variations_blends_and_edits(drawing: Served) -> None:
    one, two = (hit["asset_id"] for hit in drawing.search(text="a bird", limit=2)["hits"])
    picture = base64.b64encode(next(iter(sample_pictures().values()))[0]).decode()
    variation = drawn(drawing, asset_id=one, images=2, seed=1, format="webp")
    assert variation["parents"] == [{"asset_id": one, "weight": 1.0}]
    assert [(made["index"], made["seed"]) for made in variation["pictures"]] == [(0, 1), (1, 2)]
    images = [drawing.client.get(made["image_url"]) for made in variation["pictures"]]
    assert [image.headers["content-type"] for image in images] == ["image/webp"] * 2
    assert images[0].content != images[1].content
    assert images[0].headers["etag"] != images[1].headers["etag"]

    parts = [{"asset_id": one, "weight": 2}, {"asset_id": two}, {"text": "snow"}, {"image": picture}]
    blend = drawn(drawing, parts=parts, seed=1)
    assert blend["parents"] == [{"asset_id": one, "weight": 2.0}, {"asset_id": two, "weight": 1.0}]
    assert picture not in json.dumps(blend["request"])
    edit = {"before": "a bird in summer", "after": "a bird in winter", "theta": 0.5}
    assert drawn(drawing, image=picture, edit=edit, size="32x32")["pictures"][0]["width"] == 32


def test_what_can_not_be_drawn_is_refused(drawing: Served) -> None:
    wrong: list[tuple[dict[str, Any], int, str]] = [
        ({}, 422, "exactly one of text, image, asset_id, parts"),
        ({"text": "a bus", "asset_id": NOWHERE}, 422, "text and asset_id at once"),
        ({"text": "  "}, 422, "text"),
        ({"text": "a bus", "images": 65}, 422, "images"),
        ({"text": "a bus", "size": "large"}, 422, "size"),
        ({"text": "a bus", "seed": -1}, 422, "seed"),
        ({"text": "a bus", "sampling": {"decoder_steps": 1}}, 422, "decoder_steps"),
        ({"text": "a bus", "colour": "red"}, 422, "colour"),
        ({"parts": [{"text": "a bus", "image": "aaaa"}]}, 422, "text and image at once"),
        ({"parts": [{"text": "a bus", "weight": 0}]}, 422, "weight"),
        ({"image": base64.b64encode(b"no picture").decode()}, 422, "picture"),
        ({"asset_id": NOWHERE}, 404, NOWHERE),
    ]
    before = drawing.client.get("/v1/generations").json()
    for body, status, said in wrong:
        refused = drawing.client.post("/v1/generations", json=body)
        assert (refused.status_code, refused.headers["content-type"]) == (status, "application/problem+json"), body
        assert said in refused.json()["detail"], body
    assert drawing.client.get("/v1/generations").json() == before, "nothing is kept of them"
    impossible = ended(drawing, ask(drawing, text="a bus", size="33x33", seed=0)["id"])
    assert impossible["status"] == "failed"
    assert "33x33" in impossible["error"]


def test_cancelling(drawing: Served) -> None:
    slow = ask(drawing, text="a very long drawing", seed=1, **SLOW)
    waiting = ask(drawing, text="one that waits behind it", seed=1)
    path = f"/v1/generations/{slow['id']}"
    early = drawing.client.get(f"{path}/image")
    assert early.status_code == 404
    assert early.json()["detail"].rpartition(" ")[2] in ("queued", "running")
    gone = drawing.client.post(f"/v1/generations/{waiting['id']}/cancel").json()
    assert gone["status"] == "cancelled", "at once"
    asked = drawing.client.post(f"{path}/cancel")
    assert asked.status_code == 200
    name, last = events_of(drawing, slow["id"])[-1]
    assert (name, last["status"], last["pictures"]) == ("done", "cancelled", [])
    assert drawing.client.post(f"{path}/cancel").json() == last, "what has ended stays as it is"
    assert drawing.client.post(f"{path}/accept").status_code in (404, 409, 422)
    assert drawing.client.get(f"{path}/image").status_code == 404


def test_a_caller_that_goes_away_ends_the_stream(drawing: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []
    read = drawing.engine.catalog.generations.one

    def counted(tenant: TenantId, id_: GenerationId) -> Generation:
        reads.append(id_)
        return read(tenant, id_)

    with drawing.engine.generating:  # the generator is busy with something else
        waiting = ask(drawing, text="it waits for its turn", seed=0)
        monkeypatch.setattr(drawing.engine.catalog.generations, "one", counted)
        with drawing.client.stream("GET", f"/v1/generations/{waiting['id']}/events") as stream:
            lines = stream.iter_lines()
            assert next(lines) == "event: progress"
            deadline = time.monotonic() + 60
            while len(reads) < 4:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        time.sleep(1)
        left = len(reads)
        time.sleep(1.5)
        assert len(reads) == left, "the stream is no longer fed"
        drawing.client.post(f"/v1/generations/{waiting['id']}/cancel")
    assert ended(drawing, waiting["id"])["status"] == "cancelled"


def test_an_accepted_picture_is_in_the_catalogue_and_no_other(drawing: Served) -> None:
    count = drawing.client.get("/v1/status").json()["assets"]
    generation = drawn(drawing, text="a picture to keep", seed=11, images=2)
    assert drawing.client.get("/v1/status").json()["assets"] == count
    only = {"field": "generated", "equals": True}
    assert drawing.search(text="anything", filter=only)["hits"] == []

    path = f"/v1/generations/{generation['id']}/accept"
    taken = drawing.client.post(path, json={"index": 1, "title": "Kept"})
    assert taken.status_code == 201, taken.text
    asset = taken.json()
    assert taken.headers["location"] == f"/v1/assets/{asset['asset_id']}"
    assert (asset["title"], asset["generated"]) == ("Kept", True)
    again = drawing.client.post(path, json={"index": 1})
    assert (again.status_code, again.json()["asset_id"]) == (200, asset["asset_id"])
    assert drawing.client.get("/v1/status").json()["assets"] == count + 1
    now = drawing.client.get(f"/v1/generations/{generation['id']}").json()
    assert [picture["asset_id"] for picture in now["pictures"]] == [None, asset["asset_id"]]

    deadline = time.monotonic() + 60
    while not (found := drawing.search(text="anything", filter=only)["hits"]):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert [(hit["asset_id"], hit["generated"]) for hit in found] == [(asset["asset_id"], True)]
    others = drawing.search(text="anything", filter={"field": "generated", "equals": False}, limit=100)["hits"]
    assert len(others) == 100
    assert not any(hit["generated"] for hit in others)
    assert drawing.client.post(path, json={"index": 7}).status_code == 404
    assert drawing.client.post(f"/v1/generations/{NOWHERE}/accept").status_code == 404
    drawing.client.delete(f"/v1/assets/{asset['asset_id']}")


def test_withheld_prompts_are_forgotten(drawing: Served) -> None:
    done = drawn(drawing, text="a secret garden", seed=5, withhold_prompt=True)
    assert done["prompt"] is None
    assert "secret garden" not in json.dumps(done)
    assert b"secret garden" not in drawing.client.get(done["pictures"][0]["image_url"]).content


def test_a_search_has_a_picture_drawn_where_nothing_matches(drawing: Served) -> None:
    text = "zzxq  0x7f 9981"
    assert drawing.search(text=text)["generation"] is None, "the default is never"
    assert drawing.search(text=text, generate="never")["generation"] is None
    first = drawing.search(text=text, generate="always", limit=5)
    assert first["hits"], "the hits come at once, whatever is drawn"
    offer = first["generation"]
    assert offer["status"] in ("queued", "running", "finished")
    done = ended(drawing, offer["id"])
    assert (done["status"], done["prompt"], done["seed"]) == ("finished", "zzxq 0x7f 9981", 0)
    again = drawing.search(text=" zzxq 0x7f 9981 ", generate="always")
    assert again["generation"] == {"id": offer["id"], "status": "finished", "detail": None}
    behind = drawing.search(text=text, generate="always", limit=5, cursor=first["next_cursor"])
    assert behind["generation"] is None
    asset = first["hits"][0]["asset_id"]
    varied = ended(drawing, drawing.search(asset_id=asset, generate="always")["generation"]["id"])
    assert [parent["asset_id"] for parent in varied["parents"]] == [asset]
    bare = drawing.search(vector=[1.0] * 256, generate="always")
    assert bare["hits"]
    assert (bare["generation"]["id"], bare["generation"]["status"]) == (None, "refused")
    assert "vector" in bare["generation"]["detail"]


def test_the_prior_helps_where_it_is_asked_to(drawing: Served) -> None:
    """Random weights expect nothing in particular: what is shown is that the field reaches the search."""
    plain = drawing.search(text="zzxq 0x7f 9981", limit=20)
    assert {hit["found_by"] for hit in plain["hits"]} == {"search"}
    helped = drawing.search(text="zzxq 0x7f 9981", limit=20, prior_search=True)
    assert {hit["found_by"] for hit in helped["hits"]} >= {"prior"}
    pictures = {"asset_id": plain["hits"][0]["asset_id"], "prior_search": True}
    assert drawing.client.post("/v1/search", json=pictures).status_code == 422


def test_what_matches_has_nothing_drawn(drawing: Served) -> None:
    data, _ = next(iter(sample_pictures().values()))
    found = drawing.client.post("/v1/search/image", files={"image": data}, data={"generate": "when_unmatched"}).json()
    assert found["match"]["matched"]
    assert found["generation"] is None
    noise = {"image": base64.b64encode(png(404)).decode(), "generate": "when_unmatched"}
    unlike = drawing.search(**noise)
    assert (unlike["generation"] is None) == unlike["match"]["matched"]
    forced = drawing.client.post("/v1/search/image", files={"image": data}, data={"generate": "always"}).json()
    assert ended(drawing, forced["generation"]["id"])["status"] == "finished"


def test_deployments_choose_and_limit(data: Path) -> None:
    chosen = {"generate": "always", "generations_per_day": 2, "blocked_concepts": ("unicorn parade",)}
    with serving(data, generator=str(tiny_generator()), **chosen) as served:
        offer = served.search(text="a whale in the desert")["generation"]
        assert ended(served, offer["id"])["status"] == "finished"
        assert served.search(text="a whale in the desert", generate="never")["generation"] is None
        blocked = served.client.post("/v1/generations", json={"text": "a unicorn parade"})
        assert (blocked.status_code, blocked.json()["type"]) == (403, "urn:phosphene:problem:blocked")
        answer = served.search(text="a unicorn parade", limit=3)
        assert len(answer["hits"]) == 3
        assert (answer["generation"]["status"], answer["generation"]["id"]) == ("refused", None)
        assert "guard rails" in answer["generation"]["detail"]

        drawn(served, text="the last one of today", seed=0)
        spent = served.client.post("/v1/generations", json={"text": "one too many"})
        assert (spent.status_code, spent.json()["type"]) == (429, "urn:phosphene:problem:overloaded")
        assert int(spent.headers["retry-after"]) > 3600
        refused = served.search(text="one too many", limit=3)
        assert len(refused["hits"]) == 3
        assert refused["generation"]["status"] == "refused"
        assert served.search(text="a whale in the desert")["generation"]["id"] == offer["id"], "what is stored is free"


def test_without_weights_searches_go_on(data: Path, tmp_path: Path) -> None:
    with serving(data, generator=str(tmp_path / "no weights here")) as served:
        answer = served.search(text="a whale in the desert", generate="always", limit=3)
        assert len(answer["hits"]) == 3
        offer = answer["generation"]
        if offer["id"] is not None:
            failed = ended(served, offer["id"])
            assert failed["status"] == "failed"
            offer["detail"] = failed["error"]
        assert "no weights here" in offer["detail"]


def test_tenants_never_see_each_others_pictures(data: Path) -> None:
    with serving(data, api_keys=KEYS, generator=str(tiny_generator())) as served:
        assert served.client.post("/v1/generations", json={"text": "a bus"}).status_code == 401
        asked = served.client.post("/v1/generations", headers=MUSEUM, json={"text": "a bus", "seed": 0})
        assert asked.status_code == 202
        id_ = asked.json()["id"]
        while served.client.get(f"/v1/generations/{id_}", headers=MUSEUM).json()["status"] not in ENDED:
            time.sleep(0.1)
        assert served.client.get(f"/v1/generations/{id_}/image", headers=MUSEUM).status_code == 200
        for method, path in (
            ("GET", f"/v1/generations/{id_}"),
            ("GET", f"/v1/generations/{id_}/events"),
            ("GET", f"/v1/generations/{id_}/image"),
            ("POST", f"/v1/generations/{id_}/cancel"),
            ("POST", f"/v1/generations/{id_}/accept"),
            ("GET", f"/v1/generations?before={id_}"),
        ):
            assert served.client.request(method, path, headers=AGENCY).status_code == 404, path
        assert served.client.get("/v1/generations", headers=AGENCY).json()["generations"] == []
        own = served.client.post("/v1/generations", headers=AGENCY, json={"text": "a bus", "seed": 0})
        assert own.status_code == 202, "the same request of another tenant is another generation"
        assert own.json()["id"] != id_
        ours = served.client.post("/v1/assets", headers=MUSEUM, files={"image": png(1)}).json()["asset_id"]
        stolen = served.client.post("/v1/generations", headers=AGENCY, json={"asset_id": ours})
        assert stolen.status_code == 404


def test_a_closing_server_ends_the_stream(data: Path) -> None:
    with serving(data, generator=str(tiny_generator())) as served:
        with served.engine.generating:
            waiting = ask(served, text="it waits for its turn", seed=0)
            with served.client.stream("GET", f"/v1/generations/{waiting['id']}/events") as stream:
                lines = stream.iter_lines()
                assert next(lines) == "event: progress"
                told = time.monotonic()
                served.server.should_exit = True
                assert "event: done" not in list(lines)
        assert time.monotonic() - told < 5
