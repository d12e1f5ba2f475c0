"""Convolutional networks as Flax modules."""

from jaxcnn.models import layers as layers
from jaxcnn.models.classic import ClassicCNN as ClassicCNN
from jaxcnn.models.classic import LeNet5 as LeNet5
from jaxcnn.models.classic import SmallVGG as SmallVGG
from jaxcnn.models.registry import create as create
from jaxcnn.models.registry import names as names
