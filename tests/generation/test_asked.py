"""What is asked for is checked at the door, and comes back from its JSON as it was."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phosphene.errors import InvalidInput, InvalidQuery
from phosphene.generation.asked import (
    MAX_PROMPT,
    AskedPart,
    GenerationRequest,
    SamplingChoice,
    from_json,
    key_of,
    parse_size,
    to_json,
    without_prompts,
)
from phosphene.types import AssetId
from phosphene.unclip.base import Sampling, Size
from phosphene.unclip.imagine import Edit

GENERATOR = {"generator": "starter", "weights": "1"}
prompts = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), min_size=1, max_size=60).filter(
    lambda text: text.strip()
)
weights = st.floats(min_value=1e-3, max_value=1e6)
parts = st.one_of(
    st.builds(AskedPart, text=prompts, weight=weights),
    st.builds(AskedPart, asset_id=st.uuids().map(AssetId), weight=weights),
    st.builds(AskedPart, image=st.binary(max_size=40), weight=weights),
)
requests = st.builds(
    GenerationRequest,
    parts=st.lists(parts, min_size=1, max_size=16).map(tuple),
    edit=st.none() | st.builds(Edit, prompts, prompts, st.floats(0, 1)),
    images=st.integers(1, 4),
    seed=st.none() | st.integers(0, 2**53 - 100),
    size=st.none() | st.builds(Size, st.integers(1, 2048), st.integers(1, 2048)),
    sampling=st.builds(
        SamplingChoice,
        prior_steps=st.none() | st.integers(2, 1000),
        decoder_guidance=st.none() | st.floats(1, 100),
        candidates=st.none() | st.integers(1, 64),
        drafts=st.none() | st.integers(1, 16),
        refinements=st.none() | st.integers(0, 64),
    ),
    negative=st.none() | prompts,
    format=st.sampled_from(["png", "webp"]),
    withhold_prompt=st.booleans(),
)


@given(requests)
def test_a_request_comes_back_from_its_json(request: GenerationRequest) -> None:
    written = json.loads(json.dumps(to_json(request), allow_nan=False))
    read = from_json(written, request.uploads)
    assert read == request
    assert key_of(to_json(read), generator=GENERATOR) == key_of(written, generator=GENERATOR)


@pytest.mark.parametrize("unstorable", ["\x00", "\ud800"])
def test_what_no_store_takes_is_written_readably_and_only_once(unstorable: str) -> None:
    prompt = f"a {unstorable} cat"
    request = GenerationRequest(parts=(AskedPart(text=prompt),), edit=Edit(prompt, prompt), negative=prompt)
    written = to_json(request)
    assert unstorable not in json.dumps(written, ensure_ascii=False)
    assert "cat" in written["parts"][0]["text"]
    assert to_json(from_json(written, {})) == written


@given(requests)
def test_without_prompts_none_is_left(request: GenerationRequest) -> None:
    marked = replace(
        request,
        parts=tuple(replace(part, text="SECRET") if part.text is not None else part for part in request.parts),
        edit=None if request.edit is None else Edit("SECRET", "SECRET"),
        negative="SECRET",
    )
    hidden = without_prompts(to_json(marked))
    assert "SECRET" not in json.dumps(hidden)
    assert hidden.keys() == to_json(marked).keys()


CHANGES: list[dict[str, Any]] = [
    {"parts": (AskedPart(text="a blue bus"),)},
    {"parts": (AskedPart(text="a red bus", weight=2),)},
    {"parts": (AskedPart(text="a red bus"), AskedPart(image=b"1"))},
    {"parts": (AskedPart(asset_id=AssetId(UUID(int=1))),)},
    {"edit": Edit("a", "b")},
    {"edit": Edit("a", "b", 0.4)},
    {"images": 2},
    {"seed": 8},
    {"size": Size(64, 64)},
    {"sampling": SamplingChoice(decoder_steps=9)},
    {"sampling": SamplingChoice(drafts=2)},
    {"sampling": SamplingChoice(refinements=2)},
    {"negative": "rain"},
    {"format": "webp"},
    {"withhold_prompt": True},
]


def test_whatever_changes_the_pictures_changes_the_key() -> None:
    plain = GenerationRequest((AskedPart(text="a red bus"),), seed=7)
    keys = [key_of(to_json(replace(plain, **change)), generator=GENERATOR) for change in [{}, *CHANGES]]
    keys.append(key_of(to_json(plain), generator=GENERATOR | {"weights": "2"}))
    assert len(set(keys)) == len(CHANGES) + 2
    uploads = [GenerationRequest((AskedPart(image=data),), seed=7) for data in (b"one", b"two", b"one")]
    first, second, third = (key_of(to_json(one), generator=GENERATOR) for one in uploads)
    assert first == third != second


@pytest.mark.parametrize(
    "make",
    [
        AskedPart,
        lambda: AskedPart(text="a", image=b"b"),
        lambda: AskedPart(text="  \n"),
        lambda: AskedPart(text="x" * (MAX_PROMPT + 1)),
        lambda: AskedPart(text="a", weight=0),
        lambda: AskedPart(text="a", weight=float("nan")),
        lambda: AskedPart(text="a", weight=float("inf")),
        lambda: GenerationRequest(()),
        lambda: GenerationRequest((AskedPart(text="a"),) * 17),
        lambda: GenerationRequest((AskedPart(text="a"),), images=0),
        lambda: GenerationRequest((AskedPart(text="a"),), images=65),
        lambda: GenerationRequest((AskedPart(text="a"),), seed=-1),
        lambda: GenerationRequest((AskedPart(text="a"),), seed=2**53),
        lambda: GenerationRequest((AskedPart(text="a"),), size=Size(0, 64)),
        lambda: GenerationRequest((AskedPart(text="a"),), size=Size(4096, 64)),
        lambda: GenerationRequest((AskedPart(text="a"),), size=Size(2048, 2048), images=20),
        lambda: GenerationRequest((AskedPart(text="a"),), negative=" "),
        lambda: GenerationRequest((AskedPart(text="a"),), edit=Edit("a", "b" * (MAX_PROMPT + 1))),
        lambda: GenerationRequest((AskedPart(text="a"),), format="gif"),  # type: ignore[arg-type]
        lambda: SamplingChoice(prior_steps=1),
        lambda: SamplingChoice(decoder_guidance=0.5),
        lambda: SamplingChoice(candidates=65),
        lambda: SamplingChoice(drafts=65),
        lambda: SamplingChoice(refinements=65),
    ],
)
def test_what_no_generator_can_do_is_refused_at_the_door(make: Any) -> None:  # noqa: ANN401  a maker of anything
    with pytest.raises(InvalidInput):
        make()


@pytest.mark.parametrize("text", ["128x128", "64X256"])
def test_sizes_are_read(text: str) -> None:
    assert str(parse_size(text)) == text.lower()


@pytest.mark.parametrize("text", ["", "128", "x", "-1x4", "1.5x2", "128x128x3", "axb", "\u0661x\u0662"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(InvalidQuery, match="WIDTHxHEIGHT"):
        parse_size(text)


def test_sampling_takes_the_generators_own_for_what_was_not_chosen() -> None:
    usual = Sampling(prior_steps=9, decoder_steps=8)
    assert SamplingChoice(prior_steps=4, decoder_guidance=3.0).of(usual) == Sampling(
        prior_steps=4, decoder_steps=8, decoder_guidance=3.0
    )


def test_the_prompt_to_be_shown() -> None:
    request = GenerationRequest((AskedPart(text="a bus"), AskedPart(image=b"x"), AskedPart(text="snow")))
    assert request.prompt == "a bus + snow"
    assert replace(request, edit=Edit("day", "night")).prompt == "a bus + snow; day → night"
    assert replace(request, withhold_prompt=True).prompt is None
    assert GenerationRequest((AskedPart(image=b"x"),)).prompt is None
    assert GenerationRequest((AskedPart(text="a"),), edit=Edit("b", "c"), negative="d").prompts == ("a", "b", "c")


def test_json_of_another_version_is_told_as_such() -> None:
    with pytest.raises(InvalidInput, match="another version"):
        from_json({"parts": []}, {})
    written = to_json(GenerationRequest((AskedPart(text="a"),)))
    with pytest.raises(InvalidInput, match="another version"):
        from_json(written | {"sampling": {"new_option": 1}}, {})


@pytest.mark.parametrize("option", ["drafts", "refinements"])
def test_a_request_written_before_there_was_an_option_is_read(option: str) -> None:
    written = to_json(GenerationRequest((AskedPart(text="a"),)))
    del written["sampling"][option]
    assert from_json(written, {}).sampling == SamplingChoice()
