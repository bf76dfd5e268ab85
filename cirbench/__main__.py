"""``python -m cirbench`` is ``cirbench``."""

from cirbench.cli import main

main()
