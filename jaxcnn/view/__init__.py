"""Viewing: plots, inspection, attribution, run figures, costs and benchmarks."""

from jaxcnn.view import attribution as attribution
from jaxcnn.view import benchmark as benchmark
from jaxcnn.view import costs as costs
from jaxcnn.view import data_report as data_report
from jaxcnn.view import inspection as inspection
from jaxcnn.view import model_table as model_table
from jaxcnn.view import plots as plots
from jaxcnn.view import predictions as predictions
from jaxcnn.view import progress as progress
from jaxcnn.view import run_figures as run_figures
from jaxcnn.view import tensorboard as tensorboard
