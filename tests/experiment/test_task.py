"""The task of an experiment: which labels it accepts."""

import numpy as np
import pytest

from jaxcnn.experiment.task import TaskConfig, check_labels

NAMES = ("a", "b")
LABELS = {
    "classes": np.array([0, 1, 1]),
    "labels": np.array([[0, 1], [1, 1], [0, 0]]),
    "targets": np.array([[0.5], [1.5], [-2.0]], np.float32),
}


@pytest.mark.parametrize(
    ("task", "kind"),
    [
        ("multi_class", "classes"),
        ("binary", "classes"),
        ("multi_label", "labels"),
        ("regression", "targets"),
    ],
)
def test_labels_of_another_task_are_rejected(task, kind):
    config = TaskConfig(task=task)
    check_labels(config, LABELS[kind], NAMES)
    for labels in (LABELS[name] for name in LABELS if name != kind):
        with pytest.raises(ValueError, match=f"task {task} needs labels that are .* got"):
            check_labels(config, labels, NAMES)


def test_binary_needs_two_classes():
    with pytest.raises(ValueError, match="task binary needs 2 classes, got 3: a, b, c"):
        check_labels(TaskConfig(task="binary"), LABELS["classes"], ("a", "b", "c"))
