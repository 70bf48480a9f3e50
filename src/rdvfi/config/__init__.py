"""Recipes: which components make a model, composed and checked by Hydra, and models built from them."""

from rdvfi.config.composition import (
    build,
    build_from,
    compose,
    exchange_parts,
    isolated_hydra,
    model_in_store,
    recipe_in_store,
    search_path,
)
from rdvfi.config.overrides import one_line
from rdvfi.config.recipe_files import RECIPES, list_recipes
from rdvfi.config.recipe_nodes import GROUPS, make_node, nodes_in_store, store_nodes

__all__ = [
    "GROUPS",
    "RECIPES",
    "build",
    "build_from",
    "compose",
    "exchange_parts",
    "isolated_hydra",
    "list_recipes",
    "make_node",
    "model_in_store",
    "nodes_in_store",
    "one_line",
    "recipe_in_store",
    "search_path",
    "store_nodes",
]
