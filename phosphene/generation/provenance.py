"""What a generated picture says of itself: an XMP packet that IPTC readers understand, and our own details.

IPTC Photo Metadata Standard 2025.1: DigitalSourceType, AISystemUsed, AISystemVersionUsed, AIPromptInformation
(https://www.iptc.org/std/photometadata/specification/IPTC-PhotoMetadata).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from xml.etree import ElementTree as ET

from phosphene import __version__
from phosphene.catalog.generation_records import Parent
from phosphene.images import encode_picture
from phosphene.types import GenerationId, Pixels, Sha256

TRAINED_ALGORITHMIC_MEDIA = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
NAMESPACES = {
    "x": "adobe:ns:meta/",
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
    "phosphene": "urn:phosphene:generation#",
}
_BEGIN = '<?xpacket begin="\N{ZERO WIDTH NO-BREAK SPACE}" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
_END = '\n<?xpacket end="r"?>'
# What XML 1.0 has no way to write: most control characters, half surrogates, two non-characters.
_UNWRITABLE = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Provenance:
    """What one picture was made from, and by what."""

    generation: GenerationId
    model: str
    weights_sha256: Sha256
    seed: int
    prompt: str | None = None  # None: there was none, or it is withheld
    negative: str | None = None
    parents: Sequence[Parent] = ()


def xmp_of(made: Provenance) -> bytes:
    """Write an XMP packet, UTF-8."""
    for prefix, uri in NAMESPACES.items():
        ET.register_namespace(prefix, uri)
    meta = ET.Element(_name("x", "xmpmeta"))
    about = {_name("rdf", "about"): ""}
    described = ET.SubElement(ET.SubElement(meta, _name("rdf", "RDF")), _name("rdf", "Description"), about)

    def say(prefix: str, name: str, text: str) -> None:
        ET.SubElement(described, _name(prefix, name)).text = _UNWRITABLE.sub("\N{REPLACEMENT CHARACTER}", text)

    say("xmp", "CreatorTool", f"Phosphene {__version__}")
    say("Iptc4xmpExt", "DigitalSourceType", TRAINED_ALGORITHMIC_MEDIA)
    say("Iptc4xmpExt", "AISystemUsed", f"Phosphene unCLIP, {made.model}")
    say("Iptc4xmpExt", "AISystemVersionUsed", f"Phosphene {__version__}, weights sha256 {made.weights_sha256}")
    prompt = _prompt(made)
    if prompt is not None:
        say("Iptc4xmpExt", "AIPromptInformation", prompt)
    say("phosphene", "generation", str(made.generation))
    say("phosphene", "model", made.model)
    say("phosphene", "weightsSha256", made.weights_sha256)
    say("phosphene", "seed", str(made.seed))
    if made.parents:
        bag = ET.SubElement(ET.SubElement(described, _name("phosphene", "parents")), _name("rdf", "Bag"))
        for parent in made.parents:
            ET.SubElement(bag, _name("rdf", "li")).text = f"{parent.asset_id} {parent.weight:g}"
    return (_BEGIN + ET.tostring(meta, encoding="unicode") + _END).encode()


def _name(prefix: str, name: str) -> str:
    return f"{{{NAMESPACES[prefix]}}}{name}"


def _prompt(made: Provenance) -> str | None:
    if made.negative is None:
        return made.prompt
    return f"{made.prompt}\nNot: {made.negative}" if made.prompt is not None else f"Not: {made.negative}"


def encode(pixels: Pixels, *, format: Literal["png", "webp"], xmp: bytes) -> bytes:  # noqa: A002  the field's word for it
    """Write a picture (height, width, 3) with its XMP packet."""
    return encode_picture(pixels, format, xmp=xmp)
