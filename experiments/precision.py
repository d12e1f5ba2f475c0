"""bfloat16 vs. float32: the default job and a small VGG with batch norm, three seeds each.

Claim: computing in bfloat16 (with parameters, statistics, outputs and loss in float32) lowers the
mean test accuracy by at most 0.005.

Command: ``python experiments/precision.py``
Result: the table in experiments/README.md, written from results/precision.json.
"""

import dataclasses

from results import measure, write_results

from jaxcnn.experiment import Experiment

SEEDS = range(3)
KEPT = ("train_accuracy", "test_accuracy")
# Only two for the small VGG: without bfloat16 convolutions, a CPU takes minutes per epoch.
EPOCHS = {"classic_cnn": 10, "small_vgg": 2}
CONTENDERS = {
    f"{experiment.model} {experiment.precision}": experiment
    for model, epochs in EPOCHS.items()
    for single in [Experiment(model=model, epochs=epochs)]
    for experiment in (single, dataclasses.replace(single, precision="bfloat16"))
}


if __name__ == "__main__":
    write_results("precision", measure(CONTENDERS, SEEDS, KEPT))
