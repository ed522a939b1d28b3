"""Files of public weights: downloaded once, checked by the hash in their names."""

import hashlib
import re
from http.client import HTTPException
from pathlib import Path

import torch

from sightline.errors import SightlineError


def fetch(url: str, name: str) -> Path:
    """The file behind ``url`` in PyTorch's cache, downloaded if it is not there.

    torchvision's names end in the first digits of their SHA-256, ``model-258fb6c6.pth``.

    Raises:
        SightlineError: it cannot be downloaded, or is not what its name says.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path))
        except (OSError, HTTPException) as error:
            raise SightlineError(
                f"{name}: cannot download {url} ({error}); offline, give the path of a copy"
            ) from error
    check_hash(path)
    return path


def check_hash(path: Path) -> None:
    """Compare the file with the hash in its name, where there is one.

    Raises:
        SightlineError: they differ; or the file cannot be read.
    """
    named = re.search(r"-([0-9a-f]{8,})\.", path.name)
    if named is None:  # Detectron2's have none
        return
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(named[1]):
        raise SightlineError(f"{path}: cut short or damaged (its hash differs); delete it")
