"""`Ensemble`: networks that differ by their seeds, and predict their mean."""
