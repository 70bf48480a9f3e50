"""The command ``rdvfi``: one module per command.

It is a package beside `rdvfi`, because importing `rdvfi` imports torch, which takes seconds. So ``rdvfi --help``, wrong
options and shell completion are answered at once, and environment variables that torch reads can be set before it is
loaded. Modules that `rdvfi_cli.main` imports therefore import `rdvfi` inside functions only; a module with the steps of
one command, such as `rdvfi_cli.evaluation_job`, is imported when that command runs.
"""
