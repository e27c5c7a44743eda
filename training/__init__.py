"""How the models that ship with Phosphene were made: data, recipes, evaluation. Not part of the wheel."""
