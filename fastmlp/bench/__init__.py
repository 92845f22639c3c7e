"""What ``fastmlp bench`` runs: it measures the limits of the machine, fastmlp, and other libraries."""
