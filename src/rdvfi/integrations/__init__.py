"""The library inside other programs: one folder each, imported where it is used."""
