"""Is the covariance of images too large to compute?

All pixels of all training images: their covariance, its eigenvalues, and the images whitened by it
(ZCA). On CIFAR-10 that is a matrix of 3072 by 3072, which one core makes and takes apart in
seconds; a few hundred directions hold nearly all of the variance. What does not fit is the
covariance at the size of ImageNet, 150,528 squared.
"""

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from isograd.lab import figures
from isograd.lab.expected import below, between, near
from isograd.lab.experiment import Answer, Experiment, Measured

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from isograd.lab.bench import Bench
    from isograd.lab.result import Result


@dataclass(frozen=True)
class ImageCovariance(Experiment):
    code: ClassVar[str] = "image-covariance"
    data: ClassVar[tuple[str, ...]] = ("cifar10", "digits")
    answers: ClassVar[tuple[Answer, ...]] = (
        Answer(
            "S3.45",
            "wrong",
            "Not for images of 32 by 32 in color: seconds. At 224 by 224 the matrix would take 91 "
            "GB. What speaks against whitening is that convolutions and batch norm do not need it.",
            (
                below("minutes", 2.0, "CPU time of one core, rounded up to 0.1"),
                near("gigabytes_224", 90.63, "4 x 150,528^2 bytes", abs=0.01),
                below("not_identity", 0.01, "covariance of whitened images minus the identity, "
                      "on the directions that are kept; float32"),
            ),
        ),
        Answer(
            "X10",
            "true",
            "And most of it is redundant: 30 of 3072 directions hold four fifths of the variance.",
            (
                below("minutes", 2.0, "CPU time of one core, rounded up to 0.1"),
                near("share_30", 0.796, "a property of the data; a part of it is used", abs=0.01,
                     on=("cifar10",)),
                between("directions_99", 300, 700, "of 3072, for 99 percent", on=("cifar10",)),
                between("directions_99", 20, 45, "of 64, for 99 percent", on=("digits",)),
            ),
        ),
    )  # fmt: skip
    scales: ClassVar = {"fast": {"images": 1400}}

    images: int = 20_000
    """Training images used."""
    ridge: float = 1e-3
    """Added to every eigenvalue before dividing by its root, relative to their mean."""

    def run(self, bench: "Bench") -> Measured:
        data = bench.data.scaled().take(self.images)
        shape = data.inputs.shape[1:]
        x = data.inputs.flatten(1)
        started = time.process_time()
        mean = x.mean(0)
        x = x - mean
        covariance = x.T @ x / len(x)
        values, vectors = torch.linalg.eigh(covariance)
        seconds = time.process_time() - started
        values, vectors = values.flip(0).clamp_min(0), vectors.flip(1)
        shares = values.double().cumsum(0) / values.double().sum()
        numbers: dict[str, Any] = {
            "pixels": float(data.size),
            "minutes": math.ceil(seconds / 6) / 10,
            "gigabytes_224": 4 * (224 * 224 * 3) ** 2 / 1e9,
            "share_30": shares[min(29, len(shares) - 1)],
        }
        for percent in (95, 99):
            numbers[f"directions_{percent}"] = (shares < percent / 100).sum() + 1
        kept = int(numbers["directions_99"])
        white = x @ vectors[:, :kept] / values[:kept].sqrt()
        off = white.T @ white / len(x) - torch.eye(kept)
        numbers["not_identity"] = off.abs().max()
        root = (values + self.ridge * values.mean()).rsqrt()
        zca = (x[:8] @ vectors * root) @ vectors.T
        curve = shares[:: max(1, len(shares) // 200)]
        pictures = [
            [squeeze((x[i] + mean).view(shape)), squeeze(spread(zca[i]).view(shape))]
            for i in range(2)
        ]
        series = {"curve": [round(float(v), 4) for v in curve], "pictures": pictures}
        return Measured(numbers, series)

    def figure(self, result: "Result") -> "Figure":
        told, numbers = result.series, result.numbers
        figure, (pictures, curve, sizes) = figures.new(
            f"The covariance of {numbers['pixels']:.0f} pixels takes "
            f"less than {60 * numbers['minutes']:.0f} s, and {numbers['directions_99']:.0f} "
            "directions hold 99 % of the variance",
            3,
            width=4.5,
            height=4.0,
        )
        rows = [torch.cat([torch.tensor(p[kind]) for p in told["pictures"]], 2) for kind in (0, 1)]
        sheet = torch.cat(rows, 1).permute(1, 2, 0).numpy()
        pictures.imshow(sheet if sheet.shape[2] == 3 else sheet[:, :, 0], cmap="gray")
        pictures.axis("off")
        pictures.set_title("images, and whitened (ZCA)")
        step = numbers["pixels"] / len(told["curve"])
        curve.plot([1 + step * k for k in range(len(told["curve"]))], told["curve"])
        curve.axvline(numbers["directions_99"], color="black", linestyle="--", linewidth=1.2)
        curve.annotate(
            f"99 %: {numbers['directions_99']:.0f}", (numbers["directions_99"], 0.5),
            xytext=(6, 0), textcoords="offset points",
        )  # fmt: skip
        curve.set(xscale="log", ylim=(0, 1.03), xlabel="directions", ylabel="share of variance")
        curve.set_title("principal components")
        widths = [28, 32, 64, 96, 128, 224]
        gigabytes = [4 * (3 * w * w) ** 2 / 1e9 for w in widths]
        sizes.plot(widths, gigabytes, "-o", color=figures.COLORS[1])
        sizes.axhline(16, color="black", linewidth=1.2, linestyle=":")
        sizes.set(yscale="log", xlabel="width of a color image", ylabel="covariance, GB")
        sizes.set_title("dotted: 16 GB")
        return figure


def spread(x: torch.Tensor) -> torch.Tensor:
    """Gray in the middle, two standard deviations to either end."""
    return (0.5 + x / (4 * x.std())).clamp(0, 1)


def squeeze(x: torch.Tensor) -> Any:
    """As bytes, so that a result stays small."""
    return (x * 255).round().int().tolist()
