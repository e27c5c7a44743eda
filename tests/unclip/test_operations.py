"""Every operation on every layout, with tiny random weights: plumbing, not meaning."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from phosphene.errors import Cancelled, InvalidInput, InvalidQuery, SpaceMismatch
from phosphene.types import Float32, Pixels, PixelSpec, RawEmbeddings, Sha256, Space
from phosphene.unclip import imagine as module
from phosphene.unclip.base import MAX_SIDE, Generator, Progress, RawRows, Sampling, Size, Watch, derived_seed
from phosphene.unclip.geometry import angle, direction, slerp, text_diff
from phosphene.unclip.imagine import Edit, Imagined, Part, Request, compose, imagine, nearest

BUS = "a red bus in the street"
CAT = "a cat on a boat"


def quick(generator: Generator) -> Sampling:
    """Few steps, with the guidance that the generator likes."""
    return replace(generator.card.sampling, prior_steps=4, decoder_steps=3, super_resolution_steps=2)


def asked(generator: Generator, *parts: Part, **options: object) -> Request:
    return Request(parts, **{"sampling": quick(generator), **options})  # type: ignore[arg-type]  # options of Request


def drawn(generator: Generator, *parts: Part, **options: object) -> Imagined:
    return imagine(asked(generator, *parts, **options), generator=generator)


def composed(generator: Generator, *parts: Part, **options: object) -> RawRows:
    return compose(asked(generator, *parts, **options), generator=generator)


def norms(rows: Float32) -> Float32:
    return np.asarray(np.linalg.norm(rows, axis=1), dtype=np.float32)


def test_a_caption_becomes_pictures(generator: Generator) -> None:
    size, clip = generator.card.sizes[0], generator.card.clip
    made = drawn(generator, Part(BUS), images=2, seed=7)
    assert made.pixels.shape == (2, size.height, size.width, 3)
    assert made.pixels.dtype == np.uint8
    assert made.embeddings.shape == (2, clip.dimension)
    assert made.embeddings.dtype == np.float32
    assert made.seeds == (7, 8)
    assert made.pixels.std() > 1
    assert not np.array_equal(made.pixels[0], made.pixels[1])


def test_what_is_left_open_is_as_the_generator_likes_it(generator: Generator) -> None:
    seen: list[Progress] = []
    watch = Watch(on_step=seen.append, cancelled=lambda: len(seen) == 1)
    with pytest.raises(Cancelled):
        imagine(Request((Part(BUS),)), generator=generator, watch=watch)
    assert seen[0].of == generator.card.sampling.prior_steps


def test_the_same_request_gives_the_same_pixels_even_from_a_fresh_start(
    generator: Generator, load: Callable[[str], Generator], layout: str, pictures: list[RawEmbeddings]
) -> None:
    options = {"images": 2, "seed": 11, "edit": Edit("a dog", "a cat"), "negative": "blue"}
    parts = (Part(BUS), Part(pictures[0], 2.0))
    first, again = (drawn(each, *parts, **options) for each in (generator, load(layout)))
    np.testing.assert_array_equal(first.pixels, again.pixels)
    np.testing.assert_array_equal(first.embeddings, again.embeddings)


def test_a_picture_depends_on_its_own_seed_and_not_on_its_neighbours(generator: Generator) -> None:
    both, second = drawn(generator, Part(BUS), images=2, seed=3), drawn(generator, Part(BUS), seed=4)
    assert np.abs(both.pixels[1].astype(int) - second.pixels[0]).max() <= 2  # batches of another size round otherwise
    assert np.abs(both.pixels[0].astype(int) - second.pixels[0]).max() > 2


def test_a_caption_is_read_where_it_says_what_is_drawn(generator: Generator, pictures: list[RawEmbeddings]) -> None:
    def decoded(made: Imagined, caption: str) -> Pixels:
        sampling, size = quick(generator), generator.card.sizes[0]
        return generator.decode(
            made.embeddings,
            captions=[caption],
            seeds=made.seeds,
            sampling=sampling,
            negative=None,
            size=size,
            watch=Watch(),
        )

    from_text, mixed = drawn(generator, Part(BUS)), drawn(generator, Part(BUS), Part(pictures[0]))
    edited = drawn(generator, Part(BUS), edit=Edit("a dog", "a cat"))
    for made, caption in ((from_text, BUS), (mixed, ""), (edited, "")):
        np.testing.assert_array_equal(made.pixels, decoded(made, caption))
    reads = not np.array_equal(from_text.pixels, decoded(from_text, ""))
    assert reads is generator.card.decoder_reads_caption


def test_a_variation_is_drawn_from_the_very_embedding(generator: Generator, pictures: list[RawEmbeddings]) -> None:
    made = drawn(generator, Part(pictures[0]), images=2)
    np.testing.assert_array_equal(made.embeddings, np.repeat(pictures[0].rows, 2, axis=0))
    assert not np.array_equal(made.pixels[0], made.pixels[1])
    other = drawn(generator, Part(pictures[1]), images=2)
    assert not np.array_equal(made.pixels, other.pixels)


def test_blends_of_pictures_and_captions(generator: Generator, pictures: list[RawEmbeddings]) -> None:
    a, b, c = pictures
    between = composed(generator, Part(a, 3.0), Part(b, 1.0))[0]
    expected = slerp(direction(a.rows[0]), direction(b.rows[0]), 0.25)
    np.testing.assert_allclose(direction(between), expected, atol=1e-5)
    np.testing.assert_allclose(norms(between[None]), (3 * a.norms + b.norms) / 4, rtol=1e-5)

    caption = composed(generator, Part(BUS))[0]
    mixed = composed(generator, Part(a), Part(BUS), Part(c))[0]
    for row in (a.rows[0], caption, c.rows[0]):
        assert angle(direction(mixed), direction(row)) < angle(direction(b.rows[0]), direction(row)) + 1e-6
    assert drawn(generator, Part(a), Part(BUS), Part(c)).pixels.shape[0] == 1


def test_two_captions_are_blended_from_two_predictions(generator: Generator) -> None:
    one, other = composed(generator, Part(BUS))[0], composed(generator, Part(CAT))[0]
    mostly = composed(generator, Part(BUS, 1e6), Part(CAT))[0]
    assert angle(direction(mostly), direction(one)) < 1e-2
    assert angle(direction(one), direction(other)) > 2e-2


def test_an_edit_turns_the_embedding_by_the_text_diff(generator: Generator, pictures: list[RawEmbeddings]) -> None:
    picture = Part(pictures[0])
    before, after = (direction(row) for row in generator.embed_texts(["a dog", "a cat"]))
    for theta in (0.0, 0.3, 1.0):
        row = composed(generator, picture, edit=Edit("a dog", "a cat", theta))[0]
        expected = text_diff(direction(pictures[0].rows[0]), before=before, after=after, theta=theta)
        np.testing.assert_allclose(direction(row), expected, atol=1e-5)
        np.testing.assert_allclose(norms(row[None]), pictures[0].norms, rtol=1e-5)
    untouched, edited = drawn(generator, picture), drawn(generator, picture, edit=Edit("a dog", "a cat", 0.5))
    assert not np.array_equal(untouched.pixels, edited.pixels)


def test_of_the_priors_candidates_the_one_nearest_to_the_caption_is_kept(generator: Generator) -> None:
    sampling = replace(quick(generator), candidates=5)
    kept = composed(generator, Part(BUS), sampling=sampling, seed=21)[0]
    candidates = generator.predict(
        [BUS] * 5,
        seeds=[derived_seed(21, "prior", 0, candidate) for candidate in range(5)],
        sampling=sampling,
        negative=None,
        watch=Watch(),
    )
    text = direction(generator.embed_texts([BUS])[0])
    cosines = [float(direction(row) @ text) for row in candidates]
    assert max(cosines) - min(cosines) > 1e-4
    np.testing.assert_allclose(kept, candidates[int(np.argmax(cosines))], rtol=1e-4, atol=1e-5)


def test_nearest_looks_at_directions_and_not_at_lengths() -> None:
    candidates = np.array([[5.0, 5.0], [1.0, 0.1], [-9.0, 0.0]], dtype=np.float32)
    np.testing.assert_array_equal(nearest(candidates, np.array([2.0, 0.0], dtype=np.float32)), candidates[1])


def test_guidance_steps_and_negatives_each_change_the_outcome(generator: Generator) -> None:
    base = replace(quick(generator), prior_guidance=2.0, decoder_guidance=2.0, candidates=1)
    plain = drawn(generator, Part(BUS), sampling=base)
    for changed in (
        replace(base, prior_guidance=1.0),
        replace(base, prior_guidance=5.0),
        replace(base, prior_steps=base.prior_steps + 2),
    ):
        other = drawn(generator, Part(BUS), sampling=changed)
        assert not np.allclose(plain.embeddings, other.embeddings, rtol=1e-3)
    for changed in (
        replace(base, decoder_guidance=1.0),
        replace(base, decoder_guidance=5.0),
        replace(base, decoder_steps=base.decoder_steps + 2),
    ):
        other = drawn(generator, Part(BUS), sampling=changed)
        np.testing.assert_allclose(plain.embeddings, other.embeddings, rtol=1e-5)
        assert not np.array_equal(plain.pixels, other.pixels)
    negative = drawn(generator, Part(BUS), sampling=base, negative="green")
    assert not np.allclose(plain.embeddings, negative.embeddings, rtol=1e-3)


def test_a_negative_without_effect_is_refused(generator: Generator, pictures: list[RawEmbeddings]) -> None:
    unguided = replace(quick(generator), prior_guidance=1.0, decoder_guidance=1.0)
    with pytest.raises(InvalidQuery, match="negative prompt has no effect"):
        drawn(generator, Part(BUS), negative="green", sampling=unguided)
    if generator.card.decoder_reads_negative:
        plain, negative = (drawn(generator, Part(pictures[0]), negative=text) for text in (None, "green"))
        assert not np.array_equal(plain.pixels, negative.pixels)
    else:
        with pytest.raises(InvalidQuery, match="negative prompt has no effect"):
            drawn(generator, Part(pictures[0]), negative="green")


@pytest.mark.parametrize("option", [{"drafts": 2}, {"refinements": 1}])
def test_drafts_where_there_are_none_are_refused(generator: Generator, option: dict[str, int]) -> None:
    several = replace(quick(generator), **option)
    if generator.card.drafts:
        assert len(drawn(generator, Part(BUS), sampling=several).pixels) == 1
    else:
        with pytest.raises(InvalidQuery, match="draws no drafts"):
            drawn(generator, Part(BUS), sampling=several)


def stages(generator: Generator) -> list[tuple[str, int]]:
    sampling = quick(generator)
    found = [("prior", sampling.prior_steps), ("decoder", sampling.decoder_steps)]
    if generator.card.layout in {"starter", "karlo"}:
        found.append(("super_resolution", sampling.super_resolution_steps))
    if generator.card.layout == "stable-unclip":
        found[1] = ("decoder", sampling.decoder_steps + 1)  # PNDM takes one more than it is asked for
    return found


def test_every_step_is_told(generator: Generator) -> None:
    seen: list[Progress] = []
    imagine(asked(generator, Part(BUS)), generator=generator, watch=Watch(on_step=seen.append))
    expected = [(stage, step, of) for stage, of in stages(generator) for step in range(1, of + 1)]
    assert [(each.stage, each.step, each.of) for each in seen] == expected
    assert all(each.preview is None for each in seen)


def test_previews_are_small_pictures_of_all_images(generator: Generator) -> None:
    seen: list[Progress] = []
    watch = Watch(on_step=seen.append, preview_px=8)
    made = imagine(asked(generator, Part(BUS), images=2), generator=generator, watch=watch)
    shown = [each.preview for each in seen if each.preview is not None]
    if generator.card.layout in {"starter", "karlo"}:
        assert len(shown) == sum(of for stage, of in stages(generator) if stage != "prior")
        last = made.pixels.reshape(2, 8, made.pixels.shape[1] // 8, 8, made.pixels.shape[2] // 8, 3).mean(axis=(2, 4))
        assert np.abs(shown[-1] - last).max() < 2
    assert all(preview.shape == (2, 8, 8, 3) for preview in shown)


@pytest.mark.parametrize("at", ["start", "prior", "decoder", "last"])
def test_cancelling_stops_at_the_next_step(generator: Generator, at: str) -> None:
    seen: list[Progress] = []
    stop = {
        "start": 0,
        "prior": 2,
        "decoder": stages(generator)[0][1] + 1,
        "last": sum(of for _, of in stages(generator)),
    }
    watch = Watch(on_step=seen.append, cancelled=lambda: len(seen) >= stop[at])
    with pytest.raises(Cancelled):
        imagine(asked(generator, Part(BUS)), generator=generator, watch=watch)
    assert len(seen) == stop[at]
    assert drawn(generator, Part(BUS)).pixels.shape[0] == 1  # and the generator is as good as before


def test_what_watching_raises_is_handed_on(generator: Generator) -> None:
    def fail(_: Progress) -> None:
        raise KeyError("of the caller's own")

    with pytest.raises(KeyError, match="own"):
        imagine(asked(generator, Part(BUS)), generator=generator, watch=Watch(on_step=fail))


def test_the_sizes_of_the_card_are_drawn_and_others_refused(
    generator: Generator, pictures: list[RawEmbeddings]
) -> None:
    card = generator.card
    sizes = list(card.sizes)
    if card.size_multiple is not None:
        sizes.append(Size(2 * card.size_multiple, card.size_multiple))
    for size in sizes:
        assert drawn(generator, Part(pictures[0]), size=size).pixels.shape == (1, size.height, size.width, 3)
    for wrong in (Size(7, 7), Size(0, 0), Size(-64, 64)):
        with pytest.raises(InvalidInput, match=str(card.sizes[0])):
            drawn(generator, Part(pictures[0]), size=wrong)


def test_sizes_beyond_all_memory_are_refused_before_anything_is_drawn(generator: Generator) -> None:
    step = generator.card.size_multiple or 64
    for width, height in ((MAX_SIDE + step, step), (step, MAX_SIDE + step), (step << 40, step << 40)):
        with pytest.raises(InvalidInput, match=f"at most {MAX_SIDE}"):
            generator.card.require_size(Size(width, height))
    huge = replace(generator.card, sizes=(Size(MAX_SIDE + step, MAX_SIDE + step),))
    with pytest.raises(InvalidInput, match=f"at most {MAX_SIDE}"):
        huge.require_size(None)
    if generator.card.size_multiple is not None:
        assert generator.card.require_size(Size(MAX_SIDE, MAX_SIDE)).width == MAX_SIDE
        with pytest.raises(InvalidQuery, match="at most 16"):
            drawn(generator, Part(BUS), images=17, size=Size(MAX_SIDE, MAX_SIDE))


@dataclass
class Counted:
    """A generator that writes down how much it is asked for at once."""

    inner: Generator
    predicted: list[int] = field(default_factory=list)
    decoded: list[int] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # whatever the generator has
        return getattr(self.inner, name)

    def predict(self, captions: Sequence[str], **options: Any) -> RawRows:  # noqa: ANN401  # handed on
        self.predicted.append(len(captions))
        return self.inner.predict(captions, **options)

    def decode(self, embeddings: RawRows, **options: Any) -> Pixels:  # noqa: ANN401  # the same
        self.decoded.append(len(embeddings))
        return self.inner.decode(embeddings, **options)


def test_many_rows_go_through_the_prior_in_batches(generator: Generator) -> None:
    counted = Counted(generator)
    sampling = replace(quick(generator), prior_steps=2, candidates=7)
    request = Request((Part(BUS), Part(CAT)), images=10, sampling=sampling)
    compose(request, generator=counted)
    assert counted.predicted == [63, 63, 14]
    counted.predicted.clear()
    compose(replace(request, images=1, sampling=replace(sampling, candidates=64)), generator=counted)
    assert counted.predicted == [64, 64]


def test_pictures_are_the_same_in_batches(
    generator: Generator, pictures: list[RawEmbeddings], monkeypatch: pytest.MonkeyPatch
) -> None:
    size = generator.card.sizes[0]
    request = asked(generator, Part(BUS), Part(CAT), Part(pictures[0]), images=5, seed=9, negative="blue")
    whole = imagine(request, generator=generator)
    counted, seen = Counted(generator), list[Progress]()
    monkeypatch.setattr(module, "PRIOR_ROWS", 7)
    monkeypatch.setattr(module, "DECODER_PIXELS", 2 * size.width * size.height)
    watch = Watch(on_step=seen.append, preview_px=8)
    made = imagine(request, generator=counted, watch=watch)
    assert counted.predicted == [6, 6, 6, 2]
    assert counted.decoded == [2, 2, 1]
    assert made.seeds == whole.seeds
    np.testing.assert_allclose(made.embeddings, whole.embeddings, rtol=1e-3, atol=1e-3)
    assert np.abs(made.pixels.astype(int) - whole.pixels).max() <= 2  # batches of another size round otherwise

    for (stage, of), batches in zip(stages(generator), (4, 3, 3), strict=False):
        told = [(each.step, each.of) for each in seen if each.stage == stage]
        assert told == [(step, batches * of) for step in range(1, batches * of + 1)]
    firsts = [(each.first, len(each.preview)) for each in seen if each.preview is not None]
    if generator.card.layout in {"starter", "karlo"}:
        assert list(dict.fromkeys(firsts)) == [(0, 2), (2, 2), (4, 1)]


def test_embeddings_of_another_model_are_refused(generator: Generator) -> None:
    d = generator.card.clip.dimension
    foreign = RawEmbeddings(Space("other/model", d, Sha256("b" * 64), PixelSpec(16)), np.ones((1, d), dtype=np.float32))
    with pytest.raises(SpaceMismatch, match="other/model"):
        drawn(generator, Part(foreign))


def test_unit_embeddings_are_refused_where_the_decoder_takes_raw_ones(
    generator: Generator, pictures: list[RawEmbeddings]
) -> None:
    unit = RawEmbeddings(pictures[0].space, pictures[0].unit().rows)
    if generator.card.clip.norm is None:
        pixels = [drawn(generator, Part(each)).pixels.astype(int) for each in (unit, pictures[0])]
        assert np.abs(pixels[0] - pixels[1]).max() <= 1
    else:
        with pytest.raises(InvalidQuery, match="raw embeddings, not unit"):
            drawn(generator, Part(unit))
    with pytest.raises(InvalidQuery, match="length 0"):
        drawn(generator, Part(RawEmbeddings(unit.space, 0 * unit.rows)))


def test_weights_have_one_hash(generator: Generator, load: Callable[[str], Generator], layout: str) -> None:
    assert generator.weights_sha256() == load(layout).weights_sha256()
    assert len(generator.weights_sha256()) == 64


@pytest.mark.parametrize(
    "make",
    [
        lambda: Part("  "),
        lambda: Part("a", 0),
        lambda: Part("a", float("inf")),
        lambda: Part("a", float("nan")),
        lambda: Edit("a", ""),
        lambda: Edit("a", "b", 1.5),
        lambda: Request(()),
        lambda: Request((Part("a"),) * 17),
        lambda: Request((Part("a"),), images=0),
        lambda: Request((Part("a"),), seed=-1),
        lambda: Request((Part("a"),), negative=" "),
        lambda: Sampling(prior_steps=1),
        lambda: Sampling(decoder_steps=1001),
        lambda: Sampling(prior_guidance=0.5),
        lambda: Sampling(decoder_guidance=float("nan")),
        lambda: Sampling(candidates=0),
    ],
)
def test_what_can_not_be_asked_is_refused(make: Callable[[], object]) -> None:
    with pytest.raises(InvalidInput):
        make()


def test_a_part_is_one_picture(pictures: list[RawEmbeddings]) -> None:
    two = RawEmbeddings(pictures[0].space, np.concatenate([pictures[0].rows, pictures[1].rows]))
    with pytest.raises(InvalidQuery, match="2 rows"):
        Part(two)
