"""Commands: callable dataclasses whose fields are the flags."""

from jaxcnn.commands.datasets import InspectData as InspectData
from jaxcnn.commands.datasets import Prepare as Prepare
from jaxcnn.commands.listing import Models as Models
from jaxcnn.commands.saved import Evaluate as Evaluate
from jaxcnn.commands.saved import Export as Export
from jaxcnn.commands.saved import Features as Features
from jaxcnn.commands.saved import Inspect as Inspect
from jaxcnn.commands.saved import Predict as Predict
from jaxcnn.commands.timing import Benchmark as Benchmark
from jaxcnn.commands.training import FindLearningRate as FindLearningRate
from jaxcnn.commands.training import Train as Train
