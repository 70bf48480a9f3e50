"""``python -m rdvfi`` is the command ``rdvfi``."""

from rdvfi.cli import main

main()
