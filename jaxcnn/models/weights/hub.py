"""Weights of timm from the Hugging Face hub."""

import json
from pathlib import Path
from typing import Any

from jaxcnn.image import Preprocess
from jaxcnn.models.registry import entry
from jaxcnn.models.weights.names import Source

_PREFIX = "hf-hub:"


def from_hub(address: str, name: str) -> tuple[Path, Source, Preprocess]:
    """Download one of timm's networks into the hub's cache, or take it from there.

    Args:
      address: ``hf-hub:timm/...``.
      name: the network that it should be, in our words.

    Returns:
      The file, its source, and what the network expects of images.

    Raises:
      ValueError: if it cannot be had, or is another network.
    """
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ImportError:
        raise ValueError(
            f"pretrained {address} needs huggingface_hub: pip install 'jaxcnn[hub]'"
        ) from None
    repository = address.removeprefix(_PREFIX)
    try:
        config = json.loads(
            Path(huggingface_hub.hf_hub_download(repository, "config.json")).read_text()
        )
        path = huggingface_hub.hf_hub_download(repository, "model.safetensors")
    except (errors.HfHubHTTPError, errors.HFValidationError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(
            f"pretrained {address} cannot be downloaded ({reason}). Fetch model.safetensors from "
            f"huggingface.co/{repository} by hand, and name the file"
        ) from error
    source, preprocess = _described(config, address, name)
    return Path(path), source, preprocess


def _described(config: Any, address: str, name: str) -> tuple[Source, Preprocess]:
    try:
        architecture = config["architecture"]
        settings = config.get("pretrained_cfg", config)
        channels, height, width = settings["input_size"]
        preprocess = Preprocess(
            (height, width), channels, tuple(settings["mean"]), tuple(settings["std"])
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"pretrained {address} has a config.json of another kind") from error
    if architecture.removeprefix("tf_") != name:
        raise ValueError(f"pretrained {address} is {architecture}, and not {name}")
    is_tensorflow = architecture.startswith("tf_") and "efficientnet" in architecture
    entry(name)
    return "timm_tf" if is_tensorflow else "timm", preprocess
