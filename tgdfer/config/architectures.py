"""The models that ``model.architecture`` can name: the class of each, and the keys of ``model`` that it reads.

The parameters are validated against this table, so nothing heavy is imported here.
"""

from typing import NamedTuple

LOSS = ("label_smoothing", "imbalance")
TRAINED = ("dropout", *LOSS, "adapt", "adapt_blocks", "adapt_rank")
TEXT = ("text", "descriptions_per_class", "context_tokens", "context_place", "context", "apart_weight")


class Architecture(NamedTuple):
    """A model."""

    made_by: str
    """Its class, by its module in tgdfer/model/."""
    reads: tuple[str, ...] | None
    """What a run of it depends on, loss included; with ``text`` it compares frames with words. None: all keys."""


ARCHITECTURES = {
    "tgdfer": Architecture("tgdfer.TGDFER", None),
    "zero-shot": Architecture("zero_shot.ZeroShot", TEXT),
    "linear-probe": Architecture("linear_probe.LinearProbe", TRAINED),
    "transformer-cls": Architecture("transformer_cls.TransformerCls", (*TRAINED, *TEXT, "heads")),
    "bilstm-dmin": Architecture("bilstm_dmin.BiLSTMDMIN", (*TRAINED, "heads")),
    "attention-mil": Architecture("attention_mil.AttentionMIL", TRAINED),
}
"""By the name in params.yaml."""
