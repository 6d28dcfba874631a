"""What all sections of params.yaml share.

The docstring below a key is its meaning; ``workflow/parameters_page.py`` makes docs/parameters.md from them.
"""

import os
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
# no dots: DVC reads them as steps into params.yaml
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]

# the text stays as it is written otherwise
UserPath = Annotated[str, AfterValidator(os.path.expanduser)]


class Section(BaseModel):
    """A part of params.yaml: no unknown keys, no silent conversions, immutable."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)
