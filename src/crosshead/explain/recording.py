"""What was recorded: the calls of layers, in their order, within a bound of memory."""

from collections.abc import Iterator

from crosshead.explain.call import LayerCall
from crosshead.explain.layers import named

# What a recording may hold by default.
BUDGET = 200 * 2**20


class Recording:
    """The calls of attention layers while a model ran, in their order. `record` makes one.

    Attributes:
        calls: each call of each layer.
        nbytes: the bytes that they hold.
        budget: the most that they may hold.
    """

    def __init__(self, *, budget: int = BUDGET) -> None:
        self.calls: list[LayerCall] = []
        self.nbytes = 0
        self.budget = budget

    def __getitem__(self, layer: int | str) -> LayerCall:
        """The last call of a layer, by its name, or by its place among the layers that were called.

        Raises:
            ValueError: if there is no such layer among these; the nearest is told.
        """
        last = {call.name: call for call in self.calls}
        if not last:
            raise ValueError("no layer has been called yet: call the model inside the block first")
        found = named(layer, list(last))
        if len(found) > 1:
            raise ValueError(f"layer {layer!r} holds {len(found)} layers: name one, such as {found[0]!r}")
        return last[found[0]]

    def __len__(self) -> int:
        return len(self.calls)

    def __iter__(self) -> Iterator[LayerCall]:
        return iter(self.calls)

    def __repr__(self) -> str:
        return f"Recording({len(self.calls)} calls of {self.names}, {self.nbytes / 2**20:.1f} MiB)"

    @property
    def names(self) -> list[str]:
        """The layers that were called, in the order of their first calls."""
        return list(dict.fromkeys(call.name for call in self.calls))

    def one_pass(self) -> list[LayerCall]:
        """The calls, where each layer was called once.

        Raises:
            ValueError: if there are several of a layer, or none at all.
        """
        if not self.calls:
            raise ValueError("no layer has been called yet: call the model inside the block first")
        for name in self.names:
            count = sum(call.name == name for call in self.calls)
            if count > 1:
                raise ValueError(
                    f"layer {name!r} was called {count} times: record one forward pass, of one window where "
                    "large images are seen in windows"
                )
        return self.calls

    def add(self, call: LayerCall) -> None:
        """Takes one more call.

        Raises:
            ValueError: if the recording would hold more than its budget.
        """
        if self.nbytes + call.nbytes > self.budget:
            held, more, most = (bytes / 2**20 for bytes in (self.nbytes, call.nbytes, self.budget))
            raise ValueError(
                f"recording layer {call.name!r} needs {more:.1f} MiB beside {held:.1f} MiB of other calls; "
                f"budget is {most:.1f} MiB: record fewer layers or images at a time, or raise it"
            )
        self.calls.append(call.copy())
        self.nbytes += call.nbytes
