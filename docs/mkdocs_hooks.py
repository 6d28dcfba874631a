"""Adds a page for each data set card to the navigation, those that `tgdfer new-dataset` wrote included."""

from pathlib import Path
from typing import Any


def on_config(config: Any) -> Any:
    """Fill the section "Data sets" of the navigation, which mkdocs.yml leaves empty."""
    root = Path(config["docs_dir"])
    cards = sorted(path.relative_to(root).as_posix() for path in root.glob("datasets/*.md"))
    for section in config["nav"]:
        if isinstance(section, dict) and "Data sets" in section:
            section["Data sets"] = cards
    return config
