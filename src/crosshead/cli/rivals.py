"""`crosshead rivals`: the tables of attention mechanisms that interactive attention is held against."""


def rivals() -> None:
    """Show rival attention mechanisms: what they cost, what they can take, and where they come from."""
    from rich.table import Table

    from crosshead.cli.console import Terminal
    from crosshead.rivals.registry import INTERACTIVE, MECHANISMS

    facts = {"interactive": INTERACTIVE}
    facts |= {name: attention.mechanism for name, attention in MECHANISMS.items()}

    abilities = Table(
        title="Attention mechanisms",
        pad_edge=False,
        caption="N tokens in R rows and W columns, C channels, H heads of D = C / H,\nL landmarks, m random "
        "features. Key mask: takes padded batches.\nAny length: the same weights serve other grids.",
    )
    abilities.add_column("name", no_wrap=True)
    abilities.add_column("complexity", no_wrap=True)
    for column in ("heads\ntalk", "key\nmask", "any\ngrid", "any\nlength", "linear\ncost"):
        abilities.add_column(column, no_wrap=True)
    origins = Table(title="Where they come from")
    origins.add_column("name", no_wrap=True)
    for column in ("mechanism", "source", "paper"):
        origins.add_column(column, overflow="fold")

    for name, mechanism in facts.items():
        can = mechanism.capabilities
        answers = (mechanism.heads_talk, can.key_mask, can.any_grid, can.any_length, can.linear)
        abilities.add_row(name, mechanism.complexity, *("yes" if answer else "no" for answer in answers))
        origins.add_row(name, mechanism.title, mechanism.source, mechanism.paper)
    console = Terminal()
    console.print(abilities)
    console.print(origins)
