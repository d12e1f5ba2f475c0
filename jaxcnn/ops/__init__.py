"""Forward passes of convolutional networks as pure functions of arrays."""

from jaxcnn.ops.conv import conv as conv
from jaxcnn.ops.conv import conv_transpose as conv_transpose
from jaxcnn.ops.conv import depthwise_conv as depthwise_conv
from jaxcnn.ops.conv_pool import conv_relu_max_pool as conv_relu_max_pool
from jaxcnn.ops.dense import dense as dense
from jaxcnn.ops.dense import flatten as flatten
from jaxcnn.ops.implementation import plain_xla as plain_xla
from jaxcnn.ops.norm import batch_norm as batch_norm
from jaxcnn.ops.norm import group_norm as group_norm
from jaxcnn.ops.pool import adaptive_avg_pool as adaptive_avg_pool
from jaxcnn.ops.pool import avg_pool as avg_pool
from jaxcnn.ops.pool import global_avg_pool as global_avg_pool
from jaxcnn.ops.pool import global_max_pool as global_max_pool
from jaxcnn.ops.pool import max_pool as max_pool
from jaxcnn.ops.pool import sum_pool as sum_pool
from jaxcnn.ops.stochastic import drop_path as drop_path
from jaxcnn.ops.stochastic import dropout as dropout
from jaxcnn.ops.stochastic import gaussian_noise as gaussian_noise
from jaxcnn.ops.stochastic import spatial_dropout as spatial_dropout
