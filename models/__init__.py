"""The fixed models. This file makes the folder a package, which comes before others of its name on Python's path."""
