"""Which parts of the model a variant has, read from its parameters: the left columns of the ablation tables."""

from __future__ import annotations

from tgdfer.config.params import Params

COLUMNS: dict[str, list[tuple[str, str]]] = {
    "baselines": [("architecture", "Architecture")],
    "components": [
        ("has_temporal", "Temporal network"),
        ("has_text", "Text"),
        ("has_context", "Learnable prompt"),
        ("has_visual_prompt", "Visual prompt"),
        ("has_coarse", "Coarse branch"),
    ],
    "temporal": [("temporal", "Temporal network"), ("window", "Window")],
    "text": [("text", "Text"), ("context_tokens", "Learnable tokens"), ("context", "Context")],
    "visual-prompt": [("visual_prompt", "Visual prompt")],
    "aggregation": [("aggregation", "Aggregation"), ("top_k", "k")],
}
"""By table: what is shown of a variant's parameters."""

YES, NO = "✓", "–"


def describe(params: Params, variant: str, key: str) -> str:
    """What ``variant`` has in column ``key``, in the words of params.yaml; a dash where it does not apply."""
    model = params.run(variant).model
    if key == "architecture":
        return model.architecture
    if model.architecture != "tgdfer":
        return NO
    short = model.temporal in ("short", "both")
    has_text = model.text != "none"
    prompts = has_text and model.context_tokens > 0
    values = {
        "has_temporal": YES if model.temporal != "none" else NO,
        "has_text": YES if has_text else NO,
        "has_context": YES if prompts else NO,
        "has_visual_prompt": YES if model.visual_prompt != "none" else NO,
        "has_coarse": YES if model.coarse_weight > 0 else NO,
        "temporal": model.temporal,
        "window": str(model.window) if short else NO,
        "text": model.text,
        "context_tokens": str(model.context_tokens) if has_text else NO,
        "context": model.context if prompts else NO,
        "visual_prompt": model.visual_prompt,
        "aggregation": model.aggregation,
        "top_k": str(model.top_k) if model.aggregation == "top-k" else NO,
    }
    return values[key]
