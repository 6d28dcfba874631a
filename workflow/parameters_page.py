"""Write docs/parameters.md, the reference of every key of params.yaml, from the models in tgdfer/config/.

Run by `make format`, from the project's root; a test holds the page against the models.
"""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from tgdfer.config.params import Params

PAGE = Path("docs/parameters.md")
HEAD = """\
# Parameters

`params.yaml` is the configuration. This page lists its sections and their keys. Every section but `encoders` must
be there. A key that you leave out has its default; a key without a default must be given. A name consists of letters,
digits, - and _.

Snakemake and DVC know which stage reads which key, and run only what a change affects. A mistake in the file is
reported as one line that names the key. `make format` writes this page from the models in `tgdfer/config/`.
"""
TYPES = {
    "integer": "whole number",
    "number": "number",
    "string": "text",
    "boolean": "true or false",
    "object": "mapping",
}
LIMITS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "above {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "below {}",
    "multipleOf": "a multiple of {}",
}


def page() -> str:
    """The whole page: a table for each section, and one for the lists at the top level."""
    schema = Params.model_json_schema()
    lists = {name: key for name, key in schema["properties"].items() if key.get("type") == "array"}
    parts = [HEAD]
    sections = [(name, key) for name, key in schema["properties"].items() if name not in lists]
    while sections:
        name, key = sections.pop(0)
        entries = key.get("patternProperties")
        (model,) = entries.values() if entries else [key]
        section = schema["$defs"][model["$ref"].rsplit("/", 1)[-1]]
        keys = section["properties"]
        parts += [f"## {name}{'.NAME' if entries else ''}", "", section["description"], "", *_table(keys), ""]
        sections[:0] = [(f"{name}.{inner}", keys[inner]) for inner in keys if "patternProperties" in keys[inner]]
    return "\n".join([*parts, "## Lists", "", *_table(lists), ""])


def _table(keys: dict[str, dict[str, Any]]) -> list[str]:
    rows = [f"| `{name}` | {_value(key)} | {_default(key)} | {key['description']} |" for name, key in keys.items()]
    return ["| key | value | default | meaning |", "|---|---|---|---|", *rows]


def _value(key: dict[str, Any]) -> str:
    if "enum" in key:
        return ", ".join(f"`{value}`" for value in key["enum"])
    if "anyOf" in key:
        return " or ".join("null" if one["type"] == "null" else _value(one) for one in key["anyOf"])
    if "$ref" in key:
        return "mapping"
    if key["type"] == "array":
        return f"list: {_value(key['items'])}"
    plain = "name" if "pattern" in key else TYPES[key["type"]]
    return ", ".join([plain, *(text.format(f"{key[limit]:g}") for limit, text in LIMITS.items() if limit in key)])


def _default(key: dict[str, Any]) -> str:
    if "default" not in key:
        return ""
    value = key["default"]
    if "patternProperties" in key:
        return ""
    if isinstance(value, list):
        return f"`[{', '.join(value)}]`"
    return "null" if value is None else f"`{str(value).lower() if isinstance(value, bool) else value}`"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
