"""`crosshead info`: versions, devices and implementations."""


def info() -> None:
    """Show versions, devices, and which implementations of the attention are ready."""
    from rich.table import Table

    from crosshead.cli.console import Terminal
    from crosshead.measure.stamp import hardware, versions

    console = Terminal()
    table = Table(title="Versions")
    table.add_column("package")
    table.add_column("version")
    for package, found in versions().items():
        table.add_row(package, found or "not installed")
    console.print(table)

    machine = hardware()
    table = Table(title="Machine")
    table.add_column("what")
    table.add_column("value")
    for what in ("system", "processor", "cores", "threads"):
        table.add_row(what, str(machine[what]))
    table.add_row("accelerators", "\n".join(machine["accelerators"]) or "none that torch can use")
    console.print(table)

    table = Table(title="Implementations of the attention")
    table.add_column("impl")
    table.add_column("ready")
    table.add_column("what it is, or what would make it ready")
    table.add_row("reference", "yes", "the equations, both factors in memory; any device")
    table.add_row("streamed", "yes", "tiles of tokens, memory linear in their number; any device")
    for device, kernel in (
        ("cpu", "C++, float32 and bfloat16"),
        ("cuda", "Triton, float32 and half precision"),
    ):
        missing = _missing(device)
        table.add_row(f"fused on {device}", "no" if missing else "yes", missing or kernel)
    table.add_row(
        "auto", "yes", "fused where it is ready, else streamed above a documented size, else reference"
    )
    console.print(table)


def _missing(device: str) -> str | None:
    import torch

    from crosshead.attention.impl.fused import device_refusal

    if device == "cuda" and not torch.cuda.is_available():
        return "torch finds no NVIDIA GPU"
    return device_refusal(device)
