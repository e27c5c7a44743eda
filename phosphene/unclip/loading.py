"""From what the user calls a generator to one that runs: the only place that knows all layouts."""

from __future__ import annotations

from pathlib import Path

from phosphene.errors import InvalidSettings, ModelError, ModelNotFound
from phosphene.model_imports import restore_diffusers
from phosphene.unclip.base import ClipEncoder, Generator
from phosphene.unclip.components import MODEL_INDEX, find_folder, first_line, read_json
from phosphene.unclip.starter_config import CONFIG_NAME, read_config

STARTER = "starter"
STARTER_FOLDER = Path(__file__).parents[1] / "starter" / "unclip"
KARLO = "kakaobrain/karlo-v1-alpha"
KANDINSKY_PRIOR = "kandinsky-community/kandinsky-2-2-prior"


def load_generator(
    model: str,
    *,
    prior: str | None = None,
    encoder: ClipEncoder | None = None,
    device: str = "auto",
    cache_dir: Path | None = None,
) -> Generator:
    """Load a generator by name: `starter`, a folder, or a repository of the Hugging Face hub that is cached here.

    `encoder` is the encoder of the starter's CLIP space; published models bring a text encoder of their own. `prior` is
    the folder or repository of the prior where it is published apart from the decoder; None: the usual one.

    Raises ModelNotFound, ModelError, UnsafeWeights, SpaceMismatch (the encoder is of another space), and
    InvalidSettings for a device that is not there.
    """
    folder = _starter_folder() if model.strip() == STARTER else find_folder(model, cache_dir=cache_dir)
    chosen = _choose_device(device)
    if (folder / CONFIG_NAME).is_file():
        if encoder is None:
            raise ModelError(f"{folder} draws in the space of an encoder of ours, and none was given")
        from phosphene.unclip.starter import StarterGenerator

        return StarterGenerator(folder, encoder=encoder, device=chosen)
    pipeline = _pipeline_of(folder)
    restore_diffusers()
    match pipeline:
        case "UnCLIPPipeline":
            from phosphene.unclip.karlo import KarloGenerator

            return KarloGenerator(folder, device=chosen)
        case "KandinskyV22Pipeline":
            from phosphene.unclip.kandinsky import KandinskyGenerator

            prior_folder = find_folder(prior or KANDINSKY_PRIOR, cache_dir=cache_dir)
            return KandinskyGenerator(folder, prior_folder=prior_folder, device=chosen)
        case "StableUnCLIPImg2ImgPipeline":
            from phosphene.unclip.stable_unclip import StableUnclipGenerator

            prior_folder = find_folder(prior or KARLO, cache_dir=cache_dir)
            return StableUnclipGenerator(folder, prior_folder=prior_folder, device=chosen)
        case other:
            raise ModelError(
                f"{folder} is a {other} ({MODEL_INDEX}); what can be run here is UnCLIPPipeline, KandinskyV22Pipeline, "
                "StableUnCLIPImg2ImgPipeline and the starter's layout"
            )


def starter_folder(model: str) -> Path | None:
    """Find the folder of a generator of the starter layout; None: it is of another. Raises ModelNotFound."""
    folder = _starter_folder() if model.strip() == STARTER else find_folder(model)
    return folder if (folder / CONFIG_NAME).is_file() else None


def starter_space(model: str) -> tuple[str, str] | None:
    """Name the CLIP model, and its space, whose encoder `load_generator` is to be given; None where it needs none.

    Raises ModelNotFound, ModelError.
    """
    folder = starter_folder(model)
    if folder is None:
        return None
    config = read_config(folder)
    return config.model, config.space


def _starter_folder() -> Path:
    if not (STARTER_FOLDER / CONFIG_NAME).is_file():
        raise ModelNotFound(
            f"the starter's generator has no weights here ({STARTER_FOLDER}): `python -m training.unclip` makes them; "
            "or name another model"
        )
    return STARTER_FOLDER


def _pipeline_of(folder: Path) -> str:
    index = folder / MODEL_INDEX
    if not index.is_file():
        raise ModelError(f"{folder} has neither {CONFIG_NAME} nor {MODEL_INDEX}: it is no unCLIP model")
    return str(read_json(index).get("_class_name"))


def _choose_device(wanted: str) -> str:
    import torch  # takes seconds

    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=wanted)
    except (RuntimeError, AssertionError) as error:
        raise InvalidSettings(f"the device {wanted} can't be used here ({first_line(error)})") from error
    return wanted
