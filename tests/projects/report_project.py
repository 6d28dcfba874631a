"""A project with run files that no model made: what the training stage writes, drawn from known accuracies."""

import io
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image

from tgdfer.config.params import Params, load_params
from tgdfer.core import paths, storage
from tgdfer.core.classes import SEVEN
from tgdfer.evaluation import metrics
from tgdfer.evaluation.protocol import SELECTIONS
from tgdfer.runs import files
from tgdfer.runs.state import Expected

SHARES = (0.21, 0.16, 0.23, 0.18, 0.13, 0.02, 0.07)
VARIANTS: dict[str, dict[str, Any]] = {
    "tgdfer": {
        "label": "TG-DFER (full)",
        "tables": ["main", "baselines", "components", "temporal", "text", "visual-prompt", "aggregation"],
        "set": {},
    },
    "no-text": {
        "label": "without text",
        "tables": ["components", "text"],
        "set": {"model": {"text": "none", "visual_prompt": "none"}},
    },
    "no-temporal": {
        "label": "without temporal network",
        "tables": ["components", "temporal"],
        "set": {"model": {"temporal": "none"}},
    },
    "linear-probe": {
        "label": "mean-pool linear probe",
        "tables": ["main", "baselines"],
        "set": {"model": {"architecture": "linear-probe"}},
    },
}
ACCURACY = {"tgdfer": 0.66, "no-text": 0.60, "no-temporal": 0.65, "linear-probe": 0.50}


class Project:
    """A synthetic project in the working directory."""

    def __init__(
        self,
        datasets: Mapping[str, str] | None = None,
        variants: Mapping[str, dict[str, Any]] | None = None,
        accuracy: Mapping[str, float] | None = None,
        folds: int = 5,
        seeds: Sequence[int] = (0,),
        clips: int = 300,
        classes: Sequence[str] = SEVEN,
        selection: str = "last",
        bootstrap: int = 300,
        truth: bool = True,
        frames: bool = False,
        features: bool = False,
    ) -> None:
        self.datasets = dict(datasets or {"demo": "folder"})
        self.variants = dict(variants or VARIANTS)
        self.accuracy = dict(accuracy or ACCURACY)
        self.n_folds, self.seeds, self.n_clips, self.classes = folds, list(seeds), clips, list(classes)
        self.truth, self.frames, self.features = truth, frames, features
        self.validated: dict[files.Key, Callable[[int], float]] = {}
        """The UAR on the inner validation split by epoch, of the runs that have one."""
        raw = {
            "datasets": {
                name: {
                    "layout": layout,
                    "root": "data/raw",
                    "annotations": "data/raw/clips.csv",
                    "encoder": "demo-clip",
                    "classes": self.classes,
                    **({"truth": f"data/raw/{name}/truth.parquet"} if truth else {}),
                }
                for name, layout in self.datasets.items()
            },
            **{name: {} for name in ("demo", "frames", "features", "bags", "model", "training")},
            "tracking": {},
            "seeds": self.seeds,
            "variants": self.variants,
            "report": {"selection": selection, "reference": next(iter(self.variants)), "bootstrap": bootstrap},
        }
        Path("params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
        self.params: Params = load_params("params.yaml")

    def write(self) -> Params:
        """Every file of the data sets and of every run."""
        for d, dataset in enumerate(self.datasets):
            self._data(dataset, np.random.default_rng(d))
            for v, variant in enumerate(self.variants):
                self._variant(dataset, variant, np.random.default_rng([d, v]))
        return self.params

    def _data(self, dataset: str, rng: np.random.Generator) -> None:
        shares = np.array(SHARES[: len(self.classes)] + (0.05,) * max(0, len(self.classes) - 7))
        # every class occurs in every fold
        labels = np.sort(rng.choice(len(self.classes), self.n_clips, p=shares / shares.sum()))
        self.label = np.concatenate([np.repeat(np.arange(len(self.classes)), self.n_folds), labels])[: self.n_clips]
        self.fold = np.arange(self.n_clips) % self.n_folds + 1
        self.clip_id = np.array([f"{n:05d}" for n in range(self.n_clips)])
        names = [self.classes[c] for c in self.label]
        made_by = {"stage": "test"}
        storage.write_table(
            paths.clips(dataset),
            "clips",
            {
                "clip_id": self.clip_id.tolist(),
                "source": [f"videos/{clip}.mp4" for clip in self.clip_id],
                "kind": ["video"] * self.n_clips,
                "label": names,
                "n_frames": [40] * self.n_clips,
                "subject": [f"s{n % 17}" for n in range(self.n_clips)],
            },
            made_by,
        )
        rows = [
            (clip, fold, "test" if fold == own else "train")
            for fold in range(1, self.n_folds + 1)
            for clip, own in zip(self.clip_id.tolist(), self.fold.tolist(), strict=True)
        ]
        columns = dict(zip(("clip_id", "fold", "split"), map(list, zip(*rows, strict=True)), strict=True))
        storage.write_table(paths.folds(dataset), "folds", columns, made_by)
        # intensity: one bump per clip, none in neutral clips
        self.peak = rng.integers(4, 28, self.n_clips)
        self.width = rng.uniform(2, 5, self.n_clips)
        if self.truth:
            truth: dict[str, list[Any]] = {"clip_id": [], "frame_index": [], "intensity": []}
            for n in range(self.n_clips):
                truth["clip_id"] += [self.clip_id[n]] * 32
                truth["frame_index"] += range(32)
                truth["intensity"] += self.intensity(n, np.arange(32)).tolist()
            storage.write_table(Path(f"data/raw/{dataset}/truth.parquet"), "truth", truth, made_by)
        storage.write_table(
            paths.frames(dataset).parent / "rejects.parquet",
            "rejects",
            {"clip_id": ["bad<1>"], "stage": ["frames"], "reason": ["videos/bad.mp4: no frame could be decoded"]},
            made_by,
        )
        shards = self._frames(dataset)
        storage.write_sealed(
            paths.frames(dataset),
            {"stage": "frames", "fingerprint": "f" * 64, "shards": shards, "clips": self.n_clips, "frames": 32 * 300,
             "rejects": 1, "made_by": made_by},
        )  # fmt: skip
        if self.features:
            self._features(dataset)
        storage.write_sealed(paths.encoder("demo-clip"), {"name": "demo-clip", "dim": 64, "fingerprint": "e" * 64})

    def _frames(self, dataset: str) -> list[dict[str, Any]]:
        columns: dict[str, list[Any]] = {name: [] for name in storage.SCHEMAS["frames"].names}
        for n in range(self.n_clips if self.frames else 0):
            for index in range(32):
                level = int(60 + 180 * self.intensity(n, np.array([index]))[0])
                stream = io.BytesIO()
                Image.new("RGB", (48, 48), (level, 90, 160)).save(stream, "JPEG")
                for name, value in zip(
                    columns, (self.clip_id[n], index, index / 25, stream.getvalue(), 48, 48), strict=True
                ):
                    columns[name].append(value)
        path = paths.frames(dataset).parent / "shard-00000.parquet"
        storage.write_table(path, "frames", columns, {})
        return [
            {
                "file": path.name,
                "rows": len(columns["clip_id"]),
                "clips": self.n_clips,
                "sha256": storage.file_fingerprint(path),
            }
        ]

    def _features(self, dataset: str, dim: int = 8) -> None:
        """A feature cache of one shard whose frames go away from where they began as their intensity rises."""
        from tgdfer.features.shards import write_shard

        manifest = paths.features(dataset, "demo-clip")
        (manifest.parent / "cache").mkdir(parents=True)
        rng, frames = np.random.default_rng(7), np.arange(32)
        moved = np.concatenate([self.intensity(n, frames) for n in range(self.n_clips)])
        x = rng.normal(0, 0.1, (len(moved), dim)) + np.eye(dim)[0] + moved[:, None] * np.eye(dim)[1]
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        clips = np.repeat(self.clip_id, 32).tolist()
        numbers = np.tile(frames, self.n_clips).astype(np.int32)
        write_shard(manifest.parent / "cache/0.arrow", clips, numbers, x[None].astype(np.float16), {"cache": "c"})
        storage.write_sealed(
            manifest,
            {"fingerprint": "f" * 64, "encoder": "demo-clip", "dim": dim, "views": ["plain"], "cache": "c",
             "folder": "cache", "shards": [{"file": "0.arrow", "rows": len(moved)}]},
        )  # fmt: skip

    def intensity(self, n: int, frame: np.ndarray) -> np.ndarray:
        """The true intensity of clip ``n`` at ``frame``."""
        if self.classes[self.label[n]] == "neutral":
            return np.zeros(len(frame), dtype=np.float32)
        return np.exp(-(((frame - self.peak[n]) / self.width[n]) ** 2)).astype(np.float32)

    def _variant(self, dataset: str, variant: str, rng: np.random.Generator) -> None:
        for fold in range(1, self.n_folds + 1):
            for seed in self.seeds:
                self.write_run(files.Key(dataset, variant, fold, seed), rng)
        self.write_summary(dataset, variant)

    def write_summary(self, dataset: str, variant: str, failed: Mapping[files.Key, str] | None = None) -> None:
        keys = [files.Key(dataset, variant, f, seed) for f in range(1, self.n_folds + 1) for seed in self.seeds]
        rows = [{"fold": key.fold, "seed": key.seed, "failed": (failed or {}).get(key)} for key in keys]
        storage.write_sealed(paths.variant(dataset, variant), {"dataset": dataset, "variant": variant, "runs": rows})

    def fail(self, *keys: files.Key, reason: str) -> None:
        """Make runs of one variant ones that failed."""
        for key in keys:
            shutil.rmtree(key.folder)
            storage.write_json(key.folder / files.ATTEMPT, {"failed": reason})
        self.write_summary(keys[0].dataset, keys[0].variant, dict.fromkeys(keys, reason))

    def write_run(self, key: files.Key, rng: np.random.Generator | None = None, **changes: Any) -> None:
        """One run, right with the variant's accuracy and a little more often under every further selection.

        ``changes`` replace what it was made by: parameters, inputs or code.
        """
        rng = rng or np.random.default_rng([key.fold, key.seed])
        about = {**Expected(self.params, key.dataset).made_by(key), **changes}
        members = np.flatnonzero(self.fold == key.fold)
        label, size, accuracy = self.label[members], len(self.classes), self.accuracy.get(key.variant, 0.5)
        selections: dict[str, Any] = {}
        columns: dict[str, list[Any]] = {name: [] for name in storage.SCHEMAS["predictions"].names}
        # harder clips are hard for every variant, so that the paired differences vary less than the rates
        hardness = np.random.default_rng([7, key.fold]).random(len(members))
        for s, selection in enumerate(SELECTIONS):
            luck = 0.6 * hardness + 0.4 * rng.random(len(members))
            right = luck < np.quantile(luck, min(accuracy + 0.01 * s, 1.0))
            wrong = (label + rng.integers(1, size, len(members))) % size
            prediction = np.where(right, label, wrong)
            probabilities = rng.dirichlet(np.full(size, 0.6), len(members)) * 0.5
            probabilities[np.arange(len(members)), prediction] += 0.5
            probabilities = probabilities.astype(np.float32)
            selections[selection] = {"epoch": 30 - s, **metrics.evaluate(probabilities, label, self.classes)}
            for place, n in enumerate(members.tolist()):
                frames = np.arange(0, 32, 2)
                score = 3 * self.intensity(n, frames) * accuracy + rng.normal(0, 0.5, 16)
                relevance = np.exp(score) / np.exp(score).sum()
                row = (self.clip_id[n], key.fold, selection, self.classes[self.label[n]], probabilities[place].tolist(),
                       frames.tolist(), relevance.tolist())  # fmt: skip
                for name, value in zip(columns, row, strict=True):
                    columns[name].append(value)
        numbers = {"classes": self.classes, "n_train": self.n_clips - len(members), "n_test": len(members),
                   "parameters_trainable": 12345, "selections": selections}  # fmt: skip
        uar = selections["last"]["uar"]
        storage.write_text(key.folder / "history.jsonl", "")
        for epoch in range(1, 31):
            loss, test = 2 * np.exp(-epoch / 9) + 0.05 * rng.random(), uar * (1 - np.exp(-epoch / 5))
            row = {"epoch": epoch, "loss": float(loss), "test_uar": float(test), "train_war": float(test)}
            row |= {"val_uar": self.validated[key](epoch)} if key in self.validated else {}
            storage.append_line(key.folder / "history.jsonl", row)
        record = {
            "git": {"commit": "a" * 40, "dirty": False}, "versions": {"python": "3.11.2", "torch": "2.14.1"},
            "hardware": {"machine": "x86_64", "cpus": 2, "gpus": []}, **vars(key),
            **{name: about[name] for name in ("parameters", "inputs", "code")},
            "fingerprint": files.run_fingerprint(about), "seconds": float(10 + rng.random()), "peak_memory_mb": 500.0,
        }  # fmt: skip
        state = {"weight": torch.zeros(1)}
        files.write(key, about, numbers, columns, self._vectors(rng), state, {"classes": self.classes}, record)

    def _vectors(self, rng: np.random.Generator, each: int = 2, dim: int = 16) -> dict[str, torch.Tensor]:
        """Label features that the visual prompt moves apart, and frames around those of their class."""
        size = len(self.classes)
        before = (rng.normal(size=(size, dim)) + 2 * rng.normal(size=dim)).astype(np.float16)
        after = (before + np.eye(size, dim) * 3 + rng.normal(0, 0.4, (size * each, size, dim))).astype(np.float16)
        label = np.repeat(np.arange(size), each)
        frames = before[label, None] + rng.normal(0, 1.0, (size * each, 16, dim)).astype(np.float16)
        values = {"labels_before": before, "labels_after": after, "label": label, "frames": frames}
        values["mask"] = np.ones((size * each, 16), dtype=bool)
        return {name: torch.from_numpy(value) for name, value in values.items()}


if __name__ == "__main__":
    Project(frames=True, clips=1000, bootstrap=2000).write()
