"""Encoders from torchvision: any of its classification networks."""

from pathlib import Path

from torch import Tensor

from captioner.errors import UsageError, suggestion
from captioner.model.backbones.cut import Backbone, Preprocessing, cut, initialise_convolutions
from captioner.model.backbones.weights import downloaded, load_weights, read_state_dict


def torchvision_backbone(name: str, weights: str) -> Backbone:
    """Build the torchvision network `name` with `weights`, cut after its last feature map.

    Args:
        name: A classification network, such as resnet50 or mobilenet_v2.
        weights: One of torchvision's weight names for it (DEFAULT, IMAGENET1K_V1, ...), the path of
            a state_dict, or `none` for random weights.

    Raises:
        UsageError: The network or weight name is unknown, or the file does not fit the network.
        CaptionerError: The weights could not be downloaded.
    """
    from torchvision import models  # imported here, because it is the slowest import of all

    names = models.list_models(module=models)
    if name not in names:
        raise UsageError(
            f"encoder.name: torchvision has no classification network {name!r}; "
            f"{suggestion(name, names)}"
        )
    available = models.get_model_weights(name)
    # Weights from elsewhere were most likely trained with the classic preprocessing, that of
    # torchvision's first set of weights.
    first = "IMAGENET1K_V1"
    chosen = available[first if first in available.__members__ else "DEFAULT"]
    state: dict[str, Tensor] | None = None
    if weights in available.__members__:
        chosen = available[weights]
        state = downloaded(chosen, f"{weights} of {name}")
    elif weights != "none":
        state = read_state_dict(Path(weights), sorted(available.__members__))
    # Two old networks warn unless random weights are requested explicitly.
    random = {"init_weights": True} if name in ("googlenet", "inception_v3") else {}
    network = models.get_model(name, weights=None, **random).eval()
    if weights == "none":
        initialise_convolutions(network)
    preset = chosen.transforms()
    trunk, feature_size = cut(network, size=preset.crop_size[0])
    if state is not None:
        load_weights(trunk, state, f"{name} and {weights}")
    preprocessing = Preprocessing(
        size=preset.crop_size[0],
        resize=preset.resize_size[0],
        interpolation=preset.interpolation.value,
        mean=tuple(preset.mean),
        std=tuple(preset.std),
    )
    return Backbone(trunk, feature_size, preprocessing)


def torchvision_parameters(name: str) -> int:
    """Count the weights of a torchvision network without building it; return 0 if unknown.

    The count includes the classifier.
    """
    from torchvision import models

    if name not in models.list_models(module=models):
        return 0
    return int(models.get_model_weights(name)["DEFAULT"].meta["num_params"])
