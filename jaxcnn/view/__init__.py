"""Viewing: plots, inspection, attribution, reports, costs and benchmarks."""
