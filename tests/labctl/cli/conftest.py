"""A network that commands about attacks are quickly done with."""

from __future__ import annotations

import numpy as np
import pytest

from labctl.data.models import Network, save_network


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the file of a network for MNIST images that is quickly carried as light."""
    random = np.random.default_rng(0)
    layers = [random.standard_normal(size).astype(np.float32) for size in ((12, 784), (10, 12))]
    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    save_network(Network(tuple(layers), "small", {}), path)
    return str(path)
