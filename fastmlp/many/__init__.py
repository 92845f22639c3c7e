"""Many networks at once: `fit_many` trains them on all cores, `Ensemble` averages them, `search` compares them."""
