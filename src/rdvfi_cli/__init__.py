"""The command ``rdvfi``: one module per command.

It is a package beside `rdvfi`, because importing `rdvfi` imports torch. So ``rdvfi --help``, wrong
options and the completion of a shell are answered at once, and what must be set before torch loads
can be set. Modules here import `rdvfi` inside functions only.
"""
