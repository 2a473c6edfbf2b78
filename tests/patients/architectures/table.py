"""All families by name."""

from patients.architectures import (
    convnext,
    densenet,
    encoders,
    language,
    mobile,
    perceptrons,
    recurrent,
    resnets,
    vgg,
    vision_transformers,
)
from patients.architectures.family import Family

FAMILIES: dict[str, Family] = {
    **perceptrons.FAMILIES,
    **vgg.FAMILIES,
    **resnets.FAMILIES,
    **densenet.FAMILIES,
    **mobile.FAMILIES,
    **convnext.FAMILIES,
    **vision_transformers.FAMILIES,
    **encoders.FAMILIES,
    **language.FAMILIES,
    **recurrent.FAMILIES,
}
