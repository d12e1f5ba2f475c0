"""jaxcnn: convolutional networks in JAX, functional and reproducible."""

from jaxcnn import data as data
from jaxcnn import image as image
from jaxcnn import losses as losses
from jaxcnn import metrics as metrics
from jaxcnn import models as models
from jaxcnn import ops as ops
from jaxcnn import regularizers as regularizers
from jaxcnn import train as train
