"""Viewing: plots, inspection, attribution, figures for runs, costs and benchmarks.

Import the module you need, as in ``from jaxcnn.view import plots``; modules that draw load
matplotlib.
"""
