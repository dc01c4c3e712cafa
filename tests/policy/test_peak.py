"""The rate of a device: by its name where its maker states one, measured where not."""

import pytest
import torch

from rlvr.policy.gpus import GPUS, called
from rlvr.policy.peak import peak_of

NAMES = {
    "NVIDIA H100 80GB HBM3": "H100",
    "NVIDIA H100 PCIe": "H100-PCIe",
    "NVIDIA H100 NVL": "H100-NVL",
    "NVIDIA H200": "H200",
    "NVIDIA B200": "B200",
    "NVIDIA L4": "L4",
    "NVIDIA L40": "L40",
    "NVIDIA L40S": "L40S",
    "NVIDIA A10G": "A10G",
    "NVIDIA A100-SXM4-80GB": "A100-80GB",
    "NVIDIA A100-SXM4-40GB": "A100-40GB",
    "NVIDIA A100 80GB PCIe": "A100-80GB",
    "NVIDIA RTX A6000": "RTX-A6000",
    "NVIDIA GeForce RTX 4090": "RTX-4090",
}
OTHERS = [
    "NVIDIA GH200 480GB",
    "NVIDIA GB200",
    "NVIDIA H200 NVL",
    "NVIDIA H100 80GB HBM3 MIG 1g.10gb",
    "NVIDIA RTX 6000 Ada Generation",
    "NVIDIA GeForce RTX 4090 Laptop GPU",
    "NVIDIA GeForce RTX 3090 Ti",
]


@pytest.mark.parametrize(("name", "kind"), NAMES.items())
def test_a_gpu_is_known_by_torchs_name(monkeypatch, name, kind):
    assert called(name) is GPUS[kind]
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    peak = peak_of(torch.device("cuda"), torch.float32)
    assert peak.flops_per_s == GPUS[kind].flops["bfloat16"]
    assert "its maker's number" in peak.source


@pytest.mark.parametrize("name", OTHERS)
def test_slices_and_variants_are_no_kind(name):
    assert called(name) is None


def test_dense_rates_are_plausible():
    """Tensor cores are twice as fast as the others at least, links slower than memory."""
    for gpu in GPUS.values():
        assert gpu.flops["bfloat16"] >= 1.9 * gpu.flops["float32"]
        assert gpu.link < gpu.bandwidth < gpu.memory_bytes * 100
        assert gpu.source.startswith("NVIDIA ")


def test_a_cpu_is_measured():
    peak = peak_of(torch.device("cpu"), torch.float32)
    assert peak.flops_per_s > 1e8
    assert "float32 products" in peak.source
