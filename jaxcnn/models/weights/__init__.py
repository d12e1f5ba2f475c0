"""Pretrained networks: reading other libraries' files, and reading and writing jaxcnn's own."""

from jaxcnn.models.weights.array_names import WeightSource as WeightSource
from jaxcnn.models.weights.conventions import imagenet_classes as imagenet_classes
from jaxcnn.models.weights.jaxcnn_files import save_pretrained as save_pretrained
from jaxcnn.models.weights.load import load_pretrained as load_pretrained
from jaxcnn.models.weights.pretrained import Pretrained as Pretrained
from jaxcnn.models.weights.variables_files import load_variables as load_variables
from jaxcnn.models.weights.variables_files import save_variables as save_variables
