"""Measure what was never trained on: `python -m training.unclip.evaluate --data training-data`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch

from phosphene.encoders import load_encoder
from phosphene.unclip.loading import load_generator
from training.clip.evaluate import print_report
from training.unclip.arguments import arguments_parser, workspace_of
from training.unclip.compare_priors import autoregressive_priors, compare_priors, diffusion_priors, print_table
from training.unclip.contact_sheet import draw_contact_sheet
from training.unclip.drawn import Drawn, score_captions, score_variations
from training.unclip.embeddings import CLIP_MODEL
from training.unclip.held_out import HeldOut
from training.unclip.recipe import FULL, PILOT
from training.unclip.train import load_autoregressive_prior
from training.unclip.workspace import TARGET

PARTS = ("priors", "pictures")


def main() -> None:
    """Print all figures, or those of one part; with `--validation`, on the split that is there to tune by."""
    parser = arguments_parser(__doc__)
    parser.add_argument("--model", type=Path, default=TARGET, help="the folder that step `export` wrote")
    parser.add_argument("--validation", action="store_true", help="the split to tune by, not that of the model card")
    parser.add_argument("--pictures", type=int, default=100, help="how many captions and pictures are drawn")
    parser.add_argument(
        "--guidance", type=float, nargs="+", default=[1.0, 1.5, 2.0, 3.0], help="of the priors, all compared"
    )
    parser.add_argument("--sheet", type=Path, help="also draw a contact sheet here (PNG)")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("parts", nargs="*", help=f"only these of {', '.join(PARTS)}; all if none is named")
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.parts) - set(PARTS)):
        parser.error(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    torch.set_num_threads(1)
    encoder = load_encoder(CLIP_MODEL, threads=1)
    workspace = workspace_of(arguments, space=encoder.space.id)
    generator = load_generator(str(arguments.model), encoder=encoder, device="cpu")
    held_out = HeldOut.of(workspace, "validation" if arguments.validation else "demo", encoder)
    report: dict[str, object] = {}

    def priors() -> None:
        recipe = PILOT if arguments.pilot else FULL
        autoregressive = load_autoregressive_prior(workspace, recipe)
        rivals = diffusion_priors(generator, arguments.guidance)
        rivals |= autoregressive_priors(autoregressive, arguments.guidance)
        figures = compare_priors(held_out, rivals)
        print_table(figures)
        report["priors"] = [line.report() for line in figures]

    def pictures() -> None:
        drawn = Drawn.of(held_out, held_out.sample(arguments.pictures), generator)
        shown: dict[str, object] = {
            **score_captions(held_out, drawn, encoder),
            **score_variations(held_out, drawn, encoder),
        }
        print_report(shown)
        report["pictures"] = shown
        if arguments.sheet:
            draw_contact_sheet(held_out, drawn, arguments.sheet)

    measures: dict[str, Callable[[], None]] = {"priors": priors, "pictures": pictures}
    for name in arguments.parts or PARTS:
        measures[name]()
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
