"""The settings of a variant, read from its parameters: the left columns of the ablation tables."""

from collections.abc import Callable

from tgdfer.config.architectures import ARCHITECTURES
from tgdfer.config.params import Params
from tgdfer.config.training import ModelParams

YES, NO = "✓", "–"
APPLIES: dict[str, Callable[[ModelParams], bool]] = {
    "window": lambda model: model.temporal in ("short", "both"),
    "context_tokens": lambda model: model.text != "none",
    "context": lambda model: model.text != "none" and model.context_tokens > 0,
    "top_k": lambda model: model.aggregation == "top-k",
}
"""When a key of ``model`` has a meaning, for keys that depend on others."""


def setting(params: Params, variant: str, key: str, tick: bool = False) -> str:
    """The parameter ``key`` (``model.window``) of ``variant`` as in params.yaml; a dash where it has no meaning.

    With ``tick``: a tick unless the value switches the part off.
    """
    section, name = key.split(".")
    run = params.run(variant)
    reads = ARCHITECTURES[run.model.architecture].reads
    if section == "model" and name != "architecture":
        read = reads is None or name in reads
        if not read or (name in APPLIES and not APPLIES[name](run.model)):
            return NO
    value = getattr(getattr(run, section), name)
    if tick:
        return NO if value in ("none", 0) else YES
    return f"{value:g}" if isinstance(value, float) else str(value)
