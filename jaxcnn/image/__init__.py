"""Image processing on the device: batched pure functions of images in [0, 1]."""

from jaxcnn.image.preprocess import Preprocess as Preprocess
from jaxcnn.image.preprocess import normalize as normalize
from jaxcnn.image.preprocess import to_float as to_float
