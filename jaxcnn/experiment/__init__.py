"""Experiments: a configuration, plus its runs and sweeps, each in its own folder."""

from jaxcnn.experiment.config import Experiment as Experiment
from jaxcnn.experiment.config import recipe as recipe
from jaxcnn.experiment.execution import Execution as Execution
from jaxcnn.experiment.process import keep_freed_memory as keep_freed_memory
from jaxcnn.experiment.runner import Interrupted as Interrupted
from jaxcnn.experiment.runner import run as run
from jaxcnn.experiment.saved import open_run as open_run
from jaxcnn.experiment.sweeps import run_sweep as run_sweep
