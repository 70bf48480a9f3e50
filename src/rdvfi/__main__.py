"""``python -m rdvfi`` is the command ``rdvfi``."""

from rdvfi.cli.main import main

main()
