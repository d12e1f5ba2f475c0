"""bfloat16 against float32: the main job and a small VGG with batch norm, three seeds each.

Claim: computing in bfloat16 (parameters, statistics, outputs and loss in float32) costs at most
0.005 of mean test accuracy.

Command: ``python experiments/precision.py``
Result: the table in experiments/README.md, written from results/precision.json.
"""

import dataclasses

from results import measure, write_results

from jaxcnn.experiment import Experiment

SEEDS = range(3)
KEPT = ("train_accuracy", "test_accuracy")
# Two epochs of the small VGG, because a CPU without bfloat16 convolutions takes minutes for each.
EPOCHS = {"classic_cnn": 10, "small_vgg": 2}
CONTENDERS = {
    f"{experiment.model} {experiment.precision}": experiment
    for model, epochs in EPOCHS.items()
    for single in [Experiment(model=model, epochs=epochs)]
    for experiment in (single, dataclasses.replace(single, precision="bfloat16"))
}


if __name__ == "__main__":
    write_results("precision", measure(CONTENDERS, SEEDS, KEPT))
