"""Versions and hardware, for the record of a run and for `crosshead info`."""

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from crosshead._version import __version__

PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "segmentation-models-pytorch",
    "lightning",
    "torchmetrics",
    "faster-coco-eval",
    "triton",
    "numpy",
)


def versions() -> dict[str, str | None]:
    """Versions of Python, Crosshead and what it stands on; None for what is not installed."""
    found: dict[str, str | None] = {"crosshead": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def hardware() -> dict[str, Any]:
    """Processor, threads and accelerators."""
    import torch

    devices = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        devices.append("Apple GPU (mps)")
    return {
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "accelerators": devices,
    }


def stamp() -> dict[str, Any]:
    """Time, versions and hardware."""
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "hardware": hardware(),
    }


def stamp_words(separator: str) -> dict[str, str]:
    """The same as text for a table: created, hardware, versions and threads.

    Args:
        separator: between versions, and between accelerators.
    """
    found = stamp()
    machine, installed = found["hardware"], found["versions"]
    return {
        "created": found["created"],
        "hardware": separator.join(
            [f"{machine['processor']}, {machine['cores']} cores", *machine["accelerators"]]
        ),
        "versions": separator.join(f"{name} {number}" for name, number in installed.items() if number),
        "threads": str(machine["threads"]),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
