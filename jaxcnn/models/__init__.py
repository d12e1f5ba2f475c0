"""Convolutional networks as Flax modules, created by class or name, or loaded pretrained."""

from jaxcnn.models import layers as layers
from jaxcnn.models.classic import ClassicCNN as ClassicCNN
from jaxcnn.models.classic import LeNet5 as LeNet5
from jaxcnn.models.classic import SmallVGG as SmallVGG
from jaxcnn.models.efficientnet import EfficientNet as EfficientNet
from jaxcnn.models.inception import InceptionV3 as InceptionV3
from jaxcnn.models.network import Network as Network
from jaxcnn.models.network import input_layer as input_layer
from jaxcnn.models.network import offers_features as offers_features
from jaxcnn.models.network import output_layers as output_layers
from jaxcnn.models.network import without_output_layer as without_output_layer
from jaxcnn.models.registry import Entry as Entry
from jaxcnn.models.registry import create as create
from jaxcnn.models.registry import info as info
from jaxcnn.models.registry import names as names
from jaxcnn.models.resnet import ResNet as ResNet
from jaxcnn.models.vgg import VGG as VGG
from jaxcnn.models.weights import Pretrained as Pretrained
from jaxcnn.models.weights import WeightSource as WeightSource
from jaxcnn.models.weights import imagenet_classes as imagenet_classes
from jaxcnn.models.weights import load_pretrained as load_pretrained
from jaxcnn.models.weights import load_variables as load_variables
from jaxcnn.models.weights import save_pretrained as save_pretrained
from jaxcnn.models.weights import save_variables as save_variables
