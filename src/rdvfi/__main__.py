"""``python -m rdvfi`` is the command ``rdvfi``; the latter starts faster."""

from rdvfi_cli.main import main

main()
