"""fetch(): MNIST, Fashion-MNIST and CIFAR-10 from where their authors publish them, by checksum."""

from pathlib import Path

from isograd.errors import DataError

_MNIST = "https://ossci-datasets.s3.amazonaws.com/mnist/"
_FASHION = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"

FILES = {
    "mnist": {
        f"{_MNIST}train-images-idx3-ubyte.gz": "md5:f68b3c2dcbeaaa9fbdd348bbdeb94873",
        f"{_MNIST}train-labels-idx1-ubyte.gz": "md5:d53e105ee54ea40749a09fcbcd1e9432",
        f"{_MNIST}t10k-images-idx3-ubyte.gz": "md5:9fb629c4189551a2d022fa330f9573f3",
        f"{_MNIST}t10k-labels-idx1-ubyte.gz": "md5:ec29112dd5afa0611ce80d1b7f02629c",
    },
    "fashion-mnist": {
        f"{_FASHION}train-images-idx3-ubyte.gz": "md5:8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        f"{_FASHION}train-labels-idx1-ubyte.gz": "md5:25c81989df183df01b3e8a0aad5dffbe",
        f"{_FASHION}t10k-images-idx3-ubyte.gz": "md5:bef4ecab320f06d8554ea6380940ec79",
        f"{_FASHION}t10k-labels-idx1-ubyte.gz": "md5:bb300cfdad3c16e7a12a480ee83cd310",
    },
    "cifar10": {
        # The binary version: the one for Python is a pickle, which can run any code.
        "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz": (
            "md5:c32a1d4ab5d03f1284b67883e8d87530"
        ),
    },
}
"""Address and published checksum of every file, by data set."""

MEGABYTES = {"mnist": 12, "fashion-mnist": 31, "cifar10": 170}


def home() -> Path | None:
    """Where fetched files lie; None without pooch, which is what fetches them."""
    try:
        import pooch
    except ImportError:
        return None
    return Path(pooch.os_cache("isograd"))


def fetch(name: str, folder: Path | None = None) -> Path:
    """Downloads a data set, unless it is there with the right checksum already.

    Args:
        name: a key of FILES.
        folder: where its own folder goes; `home()` where left out.

    Returns:
        The folder of the data set.

    Raises:
        DataError: no such set, pooch is missing, no connection, or another checksum.
    """
    if name not in FILES:
        raise DataError(f"there is no data set {name!r} to fetch; there is {', '.join(FILES)}")
    try:
        import pooch
        import requests
    except ImportError as error:
        raise DataError(
            f"fetching {name} needs pooch ({error}); pip install 'isograd[data]'"
        ) from error
    into = Path(folder or pooch.os_cache("isograd")) / name
    for address, checksum in FILES[name].items():
        unpack = pooch.Untar(extract_dir=".") if address.endswith(".tar.gz") else None
        try:
            pooch.retrieve(
                address,
                known_hash=checksum,
                fname=address.rpartition("/")[2],
                path=into,
                processor=unpack,
            )
        except (OSError, ValueError, requests.RequestException) as error:
            raise DataError(
                f"{name} cannot be fetched from {address}: {error}; put the files into {into} by "
                "hand, or set ISOGRAD_DATA to a folder that has them"
            ) from error
    return into
