"""Generated pictures carry XMP that any reader of IPTC metadata finds, in PNG and in WebP."""

from __future__ import annotations

from io import BytesIO
from typing import Literal
from uuid import UUID
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from phosphene import __version__
from phosphene.catalog.generation_records import Parent
from phosphene.generation.provenance import Provenance, encode, xmp_of
from phosphene.images import Limits, open_picture, small_webp
from phosphene.types import AssetId, GenerationId, Sha256

# Spelled out here as the standards have them.
IPTC = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}"
RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
OURS = "{urn:phosphene:generation#}"
TRAINED = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"

GENERATION = GenerationId(UUID(int=5))
PIXELS = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
FORMATS: list[Literal["png", "webp"]] = ["png", "webp"]


def made(**changes: object) -> Provenance:
    said = {"generation": GENERATION, "model": "starter", "weights_sha256": Sha256("a" * 64), "seed": 7} | changes
    return Provenance(**said)  # type: ignore[arg-type]  # values of tests


def read(xmp: bytes) -> dict[str, str]:
    """Give the simple properties of a packet."""
    text = xmp.decode()
    assert text.startswith("<?xpacket begin=")
    assert text.endswith('<?xpacket end="r"?>')
    body = text[text.index("<x:xmpmeta") : text.rindex("<?xpacket")]
    (description,) = ET.fromstring(body).iter(f"{RDF}Description")  # noqa: S314  our own
    return {child.tag: child.text or "" for child in description}


@pytest.mark.parametrize("kind", FORMATS)
def test_it_is_read_back_from_the_file(kind: Literal["png", "webp"]) -> None:
    prompt = 'a "red" bus <&> in\nthe snow 🚌'
    parents = [Parent(AssetId(UUID(int=1)), 0.5), Parent(AssetId(UUID(int=2)), 2.0)]
    data = encode(PIXELS, format=kind, xmp=xmp_of(made(prompt=prompt, negative="rain", parents=parents)))
    with Image.open(BytesIO(data)) as picture:
        assert (picture.format, picture.size) == (kind.upper(), (64, 48))
        xmp = picture.info["xmp"]
        if kind == "png":
            assert (np.asarray(picture) == PIXELS).all()
    said = read(xmp)
    assert said[f"{IPTC}DigitalSourceType"] == TRAINED
    assert said[f"{IPTC}AISystemUsed"] == "Phosphene unCLIP, starter"
    assert said[f"{IPTC}AISystemVersionUsed"] == f"Phosphene {__version__}, weights sha256 {'a' * 64}"
    assert said[f"{IPTC}AIPromptInformation"] == f"{prompt}\nNot: rain"
    assert said[f"{OURS}seed"] == "7"
    assert said[f"{OURS}model"] == "starter"
    assert said[f"{OURS}weightsSha256"] == "a" * 64
    assert said[f"{OURS}generation"] == str(GENERATION)
    for parent in parents:
        assert f"<rdf:li>{parent.asset_id} {parent.weight:g}</rdf:li>" in xmp.decode()


@pytest.mark.parametrize("kind", FORMATS)
def test_a_withheld_prompt_leaves_no_trace(kind: Literal["png", "webp"]) -> None:
    data = encode(PIXELS, format=kind, xmp=xmp_of(made()))
    assert b"AIPrompt" not in data
    assert b"trainedAlgorithmicMedia" in data


def test_a_negative_prompt_alone() -> None:
    assert read(xmp_of(made(negative="rain")))[f"{IPTC}AIPromptInformation"] == "Not: rain"


def shown(text: str) -> str:
    """Leave out what XML replaces: control characters, and the kinds of ends of lines."""
    return "".join(letter for letter in text if letter.isprintable() and letter != "\ufffd")


@given(st.text(st.characters(), min_size=1, max_size=50))
def test_any_prompt_makes_xml_that_can_be_read(prompt: str) -> None:
    said = read(xmp_of(made(prompt=prompt)))[f"{IPTC}AIPromptInformation"]
    # XML reads each end of a line as \n.
    kept = "".join(letter for letter in prompt if letter.isprintable())
    assert "".join(letter for letter in said if letter.isprintable() and letter != "\ufffd") == kept.replace(
        "\ufffd", ""
    )


@pytest.mark.parametrize("bad", ["\x00", "\x01", "\x1b", "\x0b", "\ud800", "\ufffe", "\uffff"])
def test_what_xml_can_not_carry_is_replaced(bad: str) -> None:
    said = read(xmp_of(made(prompt=f"a{bad}b")))[f"{IPTC}AIPromptInformation"]
    assert said == "a\N{REPLACEMENT CHARACTER}b"


def test_the_same_picture_and_words_are_the_same_bytes() -> None:
    for kind in FORMATS:
        one, two = (encode(PIXELS, format=kind, xmp=xmp_of(made(prompt="x"))) for _ in range(2))
        assert one == two


def test_it_can_be_ingested() -> None:
    limits = Limits(max_pixels=10**6, max_bytes=10**6)
    for kind in FORMATS:
        _, info = open_picture(encode(PIXELS, format=kind, xmp=xmp_of(made(prompt="x"))), limits)
        assert (info.format, info.width, info.height) == (kind, 64, 48)


def test_previews_are_small() -> None:
    large = np.random.default_rng(0).integers(0, 256, (300, 500, 3), dtype=np.uint8)
    with Image.open(BytesIO(small_webp(large, side=96))) as picture:
        assert (picture.format, picture.size) == ("WEBP", (96, 58))
    with Image.open(BytesIO(small_webp(PIXELS, side=96))) as picture:
        assert picture.size == (64, 48)
