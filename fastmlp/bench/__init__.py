"""Measuring: this machine's limits, other libraries, and networks beside them. What ``fastmlp bench`` is made of."""
