"""Downloads are checked, and their failure is one line."""

import hashlib

import pytest
import torch

from sightline import weights
from sightline.errors import SightlineError
from sightline.weights.download import check_hash, fetch


@pytest.fixture
def cache(tmp_path):
    before = torch.hub.get_dir()
    torch.hub.set_dir(tmp_path / "hub")
    yield tmp_path / "hub" / "checkpoints"
    torch.hub.set_dir(before)


@pytest.fixture
def published(tmp_path):
    """A file on a server of its own: the disk."""
    content = b"weights"
    path = tmp_path / f"model-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    path.write_bytes(content)
    return path


def test_download_once(cache, published):
    path = fetch(published.as_uri(), "model")
    assert path.parent == cache
    assert path.read_bytes() == b"weights"
    published.unlink()
    assert fetch(published.as_uri(), "model") == path, "from the cache"


def test_damaged_copy_in_the_cache(cache, published):
    fetch(published.as_uri(), "model").write_bytes(b"weigh")
    with pytest.raises(SightlineError, match="damaged"):
        fetch(published.as_uri(), "model")


def test_offline(cache, monkeypatch):
    monkeypatch.setattr(
        "sightline.weights.published_url", lambda name: "http://127.0.0.1:9/model-01234567.pth"
    )
    with pytest.raises(SightlineError, match=r"cannot download.*offline") as caught:
        weights.load("fasterrcnn_resnet50_fpn")
    assert "\n" not in str(caught.value)
    assert not list(cache.iterdir()), "nothing half-downloaded stays"


def test_a_cache_that_cannot_be_written(cache, published):
    cache.parent.write_text("a file where the folder should be")
    with pytest.raises(SightlineError, match="cannot download"):
        fetch(published.as_uri(), "model")


def test_hash_in_the_name(tmp_path):
    path = tmp_path / "model-e3b0c442.pth"  # SHA-256 of nothing
    path.touch()
    check_hash(path)
