"""Metrics as sums under a mask: added up over batches, divided once, so any batch size is exact."""

from jaxcnn.metrics.counts import Counts as Counts
from jaxcnn.metrics.counts import add_counts as add_counts
from jaxcnn.metrics.counts import classification_counts as classification_counts
from jaxcnn.metrics.counts import classification_details as classification_details
from jaxcnn.metrics.counts import label_counts as label_counts
from jaxcnn.metrics.counts import regression_counts as regression_counts
from jaxcnn.metrics.ranking import average_precision as average_precision
from jaxcnn.metrics.ranking import precision_recall_curve as precision_recall_curve
from jaxcnn.metrics.ranking import roc_auc as roc_auc
from jaxcnn.metrics.ranking import roc_curve as roc_curve
from jaxcnn.metrics.scores import Scores as Scores
from jaxcnn.metrics.scores import confusion_matrix as confusion_matrix
from jaxcnn.metrics.scores import precision_recall_f1 as precision_recall_f1
from jaxcnn.metrics.scores import summarize as summarize
