"""``python -m tgdfer STAGE ...``."""

from tgdfer.cli import main

main()
