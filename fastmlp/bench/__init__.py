"""The measurements of ``fastmlp bench``: the limits of the machine, fastmlp, and other libraries."""
