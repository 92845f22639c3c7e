"""Compiled kernels: the hot core. `README.md` beside this file says what a kernel may expect and must keep."""
