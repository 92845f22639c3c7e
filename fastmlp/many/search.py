"""`search` looks for the best settings of a network and its fit."""
