"""Data sets, decoding and batches: files and NumPy, no model."""

from jaxcnn.batch import Batch as Batch
from jaxcnn.batch import prefetch as prefetch
from jaxcnn.data.batches import Batches as Batches
from jaxcnn.data.batches import batches as batches
from jaxcnn.data.decode import decode_image as decode_image
from jaxcnn.data.generator import ImageDataGenerator as ImageDataGenerator
from jaxcnn.data.prepare import prepare as prepare
from jaxcnn.data.sources import SPLITS as SPLITS
from jaxcnn.data.sources import ArraySource as ArraySource
from jaxcnn.data.sources import from_arrays as from_arrays
from jaxcnn.data.sources import hold_out as hold_out
from jaxcnn.data.sources import load as load
from jaxcnn.data.sources import take_fold as take_fold
