"""`crosshead models`: the table of registered backbones."""


def models(image_size: int = 224) -> None:
    """Prints parameters, multiply-adds and activations of every backbone.

    Args:
        image_size: height and width in pixels.
    """
    from rich.table import Table

    from crosshead.cli.console import Terminal
    from crosshead.vision import footprint
    from crosshead.vision.variants import VARIANTS

    table = Table(title=f"Backbones at {image_size} x {image_size} pixels")
    table.add_column("model")
    for column in ("parameters", "multiply-adds", "activations"):
        table.add_column(column, justify="right")
    for name in ("ivit_pico", *VARIANTS):
        cost = footprint(name, image_size=image_size)
        table.add_row(
            name,
            f"{cost.parameters / 1e6:.2f} M",
            f"{cost.multiply_adds / 1e9:.2f} G",
            f"{cost.activations / 1e6:.1f} M",
        )
    Terminal().print(table)
