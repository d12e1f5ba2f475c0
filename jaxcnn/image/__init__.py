"""Image processing on the device: batched pure functions of images in [0, 1]."""

from jaxcnn.image.augment import compose as compose
from jaxcnn.image.augment import random_flip_left_right as random_flip_left_right
from jaxcnn.image.augment import random_translate as random_translate
from jaxcnn.image.augment import row_keys as row_keys
from jaxcnn.image.geometry import flip_left_right as flip_left_right
from jaxcnn.image.geometry import translate as translate
from jaxcnn.image.preprocess import Preprocess as Preprocess
from jaxcnn.image.preprocess import normalize as normalize
from jaxcnn.image.preprocess import to_float as to_float
