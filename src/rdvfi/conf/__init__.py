"""Recipes: which components make a model, by registered name, and the few values that differ."""
