"""Recipes: one file a training, found by its name. See docs/recipes.md for how to write one."""
