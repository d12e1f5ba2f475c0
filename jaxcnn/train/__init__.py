"""Training: a state, a jitted step, a loop, and checkpoints that survive damage."""

from jaxcnn.train.checkpoint import Snapshot as Snapshot
from jaxcnn.train.checkpoint import fingerprint as fingerprint
from jaxcnn.train.checkpoint import restore as restore
from jaxcnn.train.checkpoint import save as save
from jaxcnn.train.loop import DivergedError as DivergedError
from jaxcnn.train.loop import evaluate as evaluate
from jaxcnn.train.loop import fit as fit
from jaxcnn.train.loop import predict as predict
from jaxcnn.train.loop import stop_signals as stop_signals
from jaxcnn.train.state import TrainState as TrainState
from jaxcnn.train.state import create_state as create_state
from jaxcnn.train.state import decay_mask as decay_mask
from jaxcnn.train.state import from_functions as from_functions
from jaxcnn.train.step import make_eval_step as make_eval_step
from jaxcnn.train.step import make_train_step as make_train_step
