"""Convolutional networks as Flax modules."""

from jaxcnn.models import layers as layers
from jaxcnn.models.classic import ClassicCNN as ClassicCNN
from jaxcnn.models.classic import LeNet5 as LeNet5
from jaxcnn.models.classic import SmallVGG as SmallVGG
from jaxcnn.models.efficientnet import EfficientNet as EfficientNet
from jaxcnn.models.inception import InceptionV3 as InceptionV3
from jaxcnn.models.registry import create as create
from jaxcnn.models.registry import info as info
from jaxcnn.models.registry import names as names
from jaxcnn.models.resnet import ResNet as ResNet
from jaxcnn.models.vgg import VGG as VGG
from jaxcnn.models.weights import Pretrained as Pretrained
from jaxcnn.models.weights import WeightSource as WeightSource
from jaxcnn.models.weights import imagenet_classes as imagenet_classes
from jaxcnn.models.weights import load_pretrained as load_pretrained
from jaxcnn.models.weights import save_pretrained as save_pretrained
