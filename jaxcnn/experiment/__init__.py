"""Experiments: one configuration, and runs and sweeps of it in folders of their own."""

from jaxcnn.experiment.config import Experiment as Experiment
from jaxcnn.experiment.config import recipe as recipe
from jaxcnn.experiment.runner import Interrupted as Interrupted
from jaxcnn.experiment.runner import run as run
from jaxcnn.experiment.saved import open_run as open_run
from jaxcnn.experiment.sweeps import run_sweep as run_sweep
