"""All families by name."""

from patients.architectures import (
    convnext,
    densenet,
    encoders,
    heads,
    language,
    mobile,
    perceptrons,
    recurrent,
    resnets,
    vgg,
    vision_transformers,
)
from patients.architectures.family import Family
from patients.architectures.held_out import generators, images, pretrained, sequences
from patients.architectures.held_out import perceptrons as held_perceptrons

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
    **heads.FAMILIES,
    **held_perceptrons.FAMILIES,
    **images.FAMILIES,
    **generators.FAMILIES,
    **sequences.FAMILIES,
    **pretrained.FAMILIES,
}
