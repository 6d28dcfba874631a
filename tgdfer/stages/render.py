"""Render another data set like the embedded one, with other people, light or shares of the classes."""

from tgdfer.config import dependencies
from tgdfer.config.params import Params
from tgdfer.core import paths
from tgdfer.core.errors import UserError
from tgdfer.core.locks import writes
from tgdfer.stages.render_demo import render


@writes(lambda params, name, workers=None: [paths.rendered(name).parent])
def run(params: Params, name: str, workers: int | None = None) -> None:
    """Render ``renders.<name>`` into data/raw/<name>.

    Raises:
        UserError: it is not in the parameters.
    """
    if name not in params.renders:
        raise UserError(f"params.yaml: renders: no '{name}'; known: {', '.join(params.renders) or 'none'}")
    made_by = dependencies.made_by("render", dependencies.settings(params, "render", rendered=name), {})
    render(paths.rendered(name).parent, params.renders[name], made_by, workers)
