"""One run: the epochs of one model on one fold, its three selections, and the checkpoint from which it is resumed.

A run is deterministic and has its own random generators: other runs in the same process change none of its numbers, and
neither does any number of kills.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from tgdfer.config.training import RunParams
from tgdfer.core import checksums, storage
from tgdfer.core.determinism import derive, random_state, set_random_state
from tgdfer.core.progress import log
from tgdfer.evaluation.metrics import rates
from tgdfer.features.bags import Bags
from tgdfer.model.losses import loss as loss_of
from tgdfer.training.evaluation import Scores, evaluate
from tgdfer.training.folds import FoldBags
from tgdfer.training.mixing import mix
from tgdfer.training.optimiser import AdamW, Average, parameter_groups, rate
from tgdfer.training.weights import load_own_state, own_state

SAVE_EVERY_S = 20.0
"""Seconds between two checkpoints, the most that a kill costs."""


class RunError(Exception):
    """The run failed for a reason that does not concern other runs."""


class Stopped(BaseException):
    """A signal asked the process to stop; the checkpoint is written. It is not an error, so not an Exception."""


@dataclass(frozen=True)
class Selection:
    """The epoch that a selection chose, and its test scores."""

    epoch: int
    value: float
    """The UAR or WAR by which the epoch was chosen."""
    scores: Scores


class Engine:
    """Trains ``model`` on ``fold``; ``history`` and ``selections`` are the result.

    Args:
        model: on the CPU or already on ``device``; if its attribute ``trainable`` is false, it is only evaluated.
        fold: the bags.
        params: the run's parameters.
        seed: with the fold's number it fixes every random choice, the same for all variants.
        device: where to compute.
        checkpoint: the file from which the run is resumed.
        fingerprint: of all that the run depends on; a checkpoint with another one is not used.
        stop: called before every step; if it returns true, the run saves a checkpoint and raises ``Stopped``.
    """

    def __init__(
        self,
        model: nn.Module,
        fold: FoldBags,
        params: RunParams,
        seed: int,
        device: torch.device,
        checkpoint: Path,
        fingerprint: str,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.model, self.fold, self.params, self.device = model.to(device), fold, params, device
        self.checkpoint, self.fingerprint, self.stop = checkpoint, fingerprint, stop
        self.random = seed, fold.number
        self.classes = len(fold.train_counts)
        self.trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.epochs = params.training.epochs if getattr(model, "trainable", True) else 0
        self.steps = -(-len(fold.train) // params.training.batch_size)
        self.epoch, self.step = 1, 0
        self.saved = time.monotonic()
        self.rate = 0.0
        self.part_names: list[str] = []
        self.started, self.earlier = time.monotonic(), 0.0
        # of each step of the epoch, the losses and the number of right answers [steps, L]; one tensor, because many
        # small ones would fragment the memory
        self.records = torch.empty(0)
        self.history: list[dict[str, Any]] = []
        self.selections: dict[str, Selection] = {}
        self.sampling = torch.Generator().manual_seed(derive(*self.random, "sampling"))
        # older GPUs emulate bfloat16, which is slower than float32
        self.mixed = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        torch.manual_seed(derive(*self.random, "dropout", 0))
        if self.epochs:
            self.optimiser = AdamW(parameter_groups(model, params.training))
            decay = params.training.ema
            self.average = Average(model.parameters(), decay) if decay else None

    @property
    def seconds(self) -> float:
        """The seconds that the run has taken, including those before it was resumed."""
        return self.earlier + time.monotonic() - self.started

    def run(self, on_epoch: Callable[[dict[str, Any]], None] = lambda row: None) -> None:
        """Train to the end, from the checkpoint if there is one that fits; ``on_epoch`` gets each row of the history.

        Raises:
            RunError: a loss or a probability is not finite.
            Stopped: ``stop`` returned true; a call with the same checkpoint continues exactly there.
        """
        if not self.epochs:
            self._select(0, self._score(self.fold.test), self._validate())
            return
        self._resume()
        for row in self.history:
            on_epoch(row)
        self.saved = time.monotonic()
        self.model.train()
        while self.epoch <= self.epochs:
            self._train_epoch()
            if self.average:
                self.average.swap()
            row = self._finish_epoch()
            if self.average and self.epoch < self.epochs:
                self.average.swap()  # after the last epoch the average is the model
            self.history.append(row)
            on_epoch(row)
            self.epoch, self.step = self.epoch + 1, 0

    def _train_epoch(self) -> None:
        shuffle = torch.Generator().manual_seed(derive(*self.random, "order", self.epoch))
        order = torch.randperm(len(self.fold.train), generator=shuffle)
        size = self.params.training.batch_size
        while self.step < self.steps:
            stopping = self.stop()
            if stopping or time.monotonic() - self.saved > SAVE_EVERY_S:
                self._save()
            if stopping:
                raise Stopped
            self._train_step(order[self.step * size : (self.step + 1) * size])
            self.step += 1

    def _train_step(self, chosen: torch.Tensor) -> None:
        training = self.params.training
        total = self.epochs * self.steps
        share = rate((self.epoch - 1) * self.steps + self.step, total, training.warmup_epochs * self.steps)
        self.rate = share * training.learning_rate
        batch = self.fold.train.batch(chosen, self.sampling, self.device)
        target = batch.y
        if training.mixing:
            seed = derive(*self.random, "mixing", self.epoch, self.step)
            batch, target = mix(batch, training.mixing, self.classes, seed)
        for parameter in self.trainable:
            parameter.grad = None
        with torch.autocast("cuda", torch.bfloat16, enabled=self.mixed):
            output = self.model(batch.x, batch.mask, batch.frame_index.to(batch.x.dtype))
            loss, parts = loss_of(output, target, self.params.model, self.fold.train_counts)
        loss.backward()
        self.part_names = list(parts)
        right = (output.logits.detach().argmax(dim=-1) == batch.y).sum()
        values = [loss, *parts.values(), right]
        record = torch.stack([value.detach().float() for value in values])
        if not self.step:
            self.records = record.new_empty(self.steps, len(record))
        self.records[self.step] = record
        nn.utils.clip_grad_norm_(self.trainable, training.clip_norm)
        self.optimiser.step(share)
        if self.average:
            self.average.update()

    def _finish_epoch(self) -> dict[str, Any]:
        sizes = torch.full((self.steps,), float(self.params.training.batch_size))
        sizes[-1] = len(self.fold.train) - self.params.training.batch_size * (self.steps - 1)
        records = self.records.cpu()
        bad = torch.nonzero(~records.isfinite().all(dim=1))
        if len(bad):
            raise RunError(f"the loss is not finite at epoch {self.epoch}, step {int(bad[0]) + 1} of {self.steps}")
        losses = (records[:, :-1] * sizes[:, None]).sum(dim=0) / len(self.fold.train)
        row: dict[str, Any] = {"epoch": self.epoch, "learning_rate": self.rate}
        row |= dict(zip(["loss", *(f"loss_{name}" for name in self.part_names)], losses.tolist(), strict=True))
        row["train_war"] = float(records[:, -1].sum()) / len(self.fold.train)
        scores, validation = self._score(self.fold.test), self._validate()
        if not scores.finite:
            raise RunError(f"the probabilities of test clips are not finite after epoch {self.epoch}")
        return row | self._select(self.epoch, scores, validation)

    def _score(self, bags: Bags) -> Scores:
        return evaluate(self.model, bags, self.device, self.params.training.test_views)

    def _validate(self) -> Scores | None:
        return self._score(self.fold.validation) if self.fold.validation else None

    def _select(self, epoch: int, scores: Scores, validation: Scores | None) -> dict[str, float]:
        """Keep ``scores`` for the selections that choose this epoch; of equal epochs the earliest is chosen."""
        row: dict[str, float] = {}
        by = ["uar", "war"].index(self.params.training.select_by)
        test = rates(scores.probabilities.argmax(axis=1), self.fold.test_labels, self.classes)
        candidates = {"best_test": test[by]}
        if validation is not None:
            inner = rates(validation.probabilities.argmax(axis=1), self.fold.validation_labels, self.classes)
            row |= {"val_uar": inner[0], "val_war": inner[1]}
            candidates["best_val"] = inner[by]
        for name, value in candidates.items():
            if name not in self.selections or value > self.selections[name].value:
                self.selections[name] = Selection(epoch, value, scores)
        self.selections["last"] = Selection(epoch, test[by], scores)
        return row | {"test_uar": test[0], "test_war": test[1]}

    def _save(self) -> None:
        """Write the checkpoint: everything that the rest of the run depends on."""
        self.saved = time.monotonic()
        state = {
            checksums.KEY: checksums.BLANK,
            "fingerprint": self.fingerprint,
            "seconds": self.seconds,
            "device": self.device.type,
            "epoch": self.epoch,
            "step": self.step,
            "model": own_state(self.model),
            "optimiser": self.optimiser.state_dict(),
            "average": self.average.state_dict() if self.average else None,
            "random": random_state(self.device),
            "sampling": self.sampling.get_state(),
            "parts": self.part_names,
            "records": self.records.cpu(),
            "history": self.history,
            "selections": {
                name: (chosen.epoch, chosen.value, *map(torch.from_numpy, _arrays(chosen.scores)))
                for name, chosen in self.selections.items()
            },
        }
        with storage.atomic(self.checkpoint, sealed=True) as part:
            torch.save(state, part)

    def _resume(self) -> None:
        if not self.checkpoint.exists():
            return
        if not checksums.intact(self.checkpoint):
            log.warning("%s: damaged, or of an earlier version; the run starts over", self.checkpoint)
            return
        state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        fits = {"fingerprint": self.fingerprint, "device": self.device.type}
        if any(state.get(name) != value for name, value in fits.items()):
            log.info("%s: from other parameters, data, code or another device; the run starts over", self.checkpoint)
            return
        load_own_state(self.model, state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        if self.average:
            self.average.load_state_dict(state["average"])
        set_random_state(self.device, state["random"])
        self.sampling.set_state(state["sampling"])
        self.epoch, self.step, self.part_names = state["epoch"], state["step"], state["parts"]
        self.earlier = state["seconds"]
        self.records = state["records"].to(self.device)
        self.history = state["history"]
        self.selections = {
            name: Selection(epoch, value, Scores(probabilities.numpy(), relevance.numpy()))
            for name, (epoch, value, probabilities, relevance) in state["selections"].items()
        }
        log.info("resumed at epoch %d, step %d of %d", self.epoch, self.step + 1, self.steps)


def _arrays(scores: Scores) -> tuple[np.ndarray, np.ndarray]:
    return scores.probabilities, scores.relevance
