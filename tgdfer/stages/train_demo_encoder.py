"""Train the demo encoder, a small CLIP, on rendered faces of people who appear in no clip, with captions."""

import time

from tgdfer.config import dependencies
from tgdfer.config.data import DEMO_ENCODER
from tgdfer.config.params import Params
from tgdfer.core import paths, storage
from tgdfer.core.classes import SEVEN
from tgdfer.core.determinism import deterministic
from tgdfer.core.locks import writes
from tgdfer.core.progress import log
from tgdfer.core.provenance import cores
from tgdfer.core.record import recorded
from tgdfer.demo.captioned import render_faces
from tgdfer.demo.captions import descriptions
from tgdfer.encoders import is_made_by, write_encoder
from tgdfer.encoders.demo_clip import CONFIG, PREPROCESS, accuracy, fit

HELD_OUT = 2100
PROMPTS = {
    "name": [[f"a photo of a {label} face"] for label in SEVEN],
    "description": [descriptions(label) for label in SEVEN],
}


@writes(lambda params: [paths.encoder(DEMO_ENCODER).parent])
def run(params: Params) -> None:
    """Write models/demo-clip/, metrics.json first and encoder.json last, unless it is up to date."""
    demo = params.demo
    folder = paths.encoder(DEMO_ENCODER).parent
    started = time.monotonic()
    # before the work, because the fingerprint is that of the code that does it
    made_by = dependencies.made_by("train-demo-encoder", dependencies.settings(params, "train-demo-encoder"), {})
    if is_made_by(folder, made_by):
        log.info("demo encoder: up to date")
        return
    with recorded(made_by, encoder=DEMO_ENCODER) as numbers:
        faces = render_faces(demo.seed, demo.encoder_faces, held_out=False, workers=cores())
        held_out = min(HELD_OUT, demo.encoder_faces)  # for tests, which train on few
        unseen = render_faces(demo.seed, held_out, held_out=True, workers=cores())
        with deterministic(demo.encoder_threads):
            model, losses = fit(faces, demo.encoder_epochs, demo.seed)
            metrics = accuracy(model, unseen, PROMPTS)
        storage.write_json(folder / "metrics.json", {**metrics, "loss": [round(loss, 6) for loss in losses]})
        write_encoder(folder, model, CONFIG, PREPROCESS, made_by)
        numbers |= {**metrics, "loss": losses, "faces": demo.encoder_faces}
    log.info("demo encoder: %.0f s, %s", time.monotonic() - started, metrics)
