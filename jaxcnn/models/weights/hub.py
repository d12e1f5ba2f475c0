"""Download timm's weights from the Hugging Face Hub."""

import json
from pathlib import Path
from typing import Any

from jaxcnn.image import Preprocess
from jaxcnn.models.registry import info
from jaxcnn.models.weights.array_names import WeightSource

_LARGEST = 1 << 14  # maximum height, width or channels of images
HUB = "hf-hub:"
"""Prefix for repository names."""


def from_hub(address: str, name: str | None) -> tuple[Path, str, WeightSource, Preprocess]:
    """Download one of timm's networks to the Hub's cache, unless it is already there.

    Args:
      address: ``hf-hub:timm/...``.
      name: the expected network, one of `jaxcnn.models.names`; None accepts any.

    Returns:
      The path of the file, and the network's name, source and preprocessing.

    Raises:
      ValueError: if the network cannot be downloaded, or is not the expected one.
    """
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ImportError:
        raise ValueError(f"{address} requires huggingface_hub: pip install 'jaxcnn[hub]'") from None
    repository = address.removeprefix(HUB)
    try:
        config = json.loads(
            Path(huggingface_hub.hf_hub_download(repository, "config.json")).read_text()
        )
        path = huggingface_hub.hf_hub_download(repository, "model.safetensors")
    except (errors.HfHubHTTPError, errors.HFValidationError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(
            f"{address} cannot be downloaded ({reason}). Download model.safetensors "
            f"from huggingface.co/{repository} by hand, and pass its path"
        ) from error
    return Path(path), *_described(config, address, name)


def _described(config: Any, address: str, name: str | None) -> tuple[str, WeightSource, Preprocess]:
    """Return the network's name, source and preprocessing from its configuration."""
    try:
        architecture = str(config["architecture"])
        settings = config.get("pretrained_cfg", config)
        channels, height, width = settings["input_size"]
        if max(channels, height, width) > _LARGEST:
            raise ValueError
        preprocess = Preprocess(
            (height, width), channels, tuple(settings["mean"]), tuple(settings["std"])
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{address} has a config.json that was not written by timm") from error
    found = architecture.removeprefix("tf_")
    if name not in (None, found):
        raise ValueError(f"{address} is {architecture}, not {name}")
    info(found)
    is_tensorflow = architecture.startswith("tf_") and "efficientnet" in architecture
    return found, "timm_tf" if is_tensorflow else "timm", preprocess
