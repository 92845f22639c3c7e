"""Row formats: one file for each; `__init__` lists them."""
