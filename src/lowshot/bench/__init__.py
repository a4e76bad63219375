"""Comparisons: grids of runs under one protocol, and the rivals in them."""
