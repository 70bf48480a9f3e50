"""Recipes: which components make a model, composed and checked by Hydra, and models built from them."""

from rdvfi.config.composition import (
    another_hydra,
    build,
    build_from,
    compose,
    exchanged,
    search_path,
    stored_model,
    stored_recipe,
)
from rdvfi.config.overrides import one_line
from rdvfi.config.recipe_files import RECIPES, list_recipes
from rdvfi.config.recipe_nodes import GROUPS, node_of, store_nodes, stored_nodes

__all__ = [
    "GROUPS",
    "RECIPES",
    "another_hydra",
    "build",
    "build_from",
    "compose",
    "exchanged",
    "list_recipes",
    "node_of",
    "one_line",
    "search_path",
    "store_nodes",
    "stored_model",
    "stored_nodes",
    "stored_recipe",
]
