"""A user's own graphs on the command line: their options, and one error for each mistake."""

from typing import TYPE_CHECKING, Any

import click

from supa_cli.options import Choice

if TYPE_CHECKING:
    from supa_gff.batch import Level
    from supa_gff.graph_set import GraphSet
    from supa_gff.names import TargetKind

TARGET_KINDS = ("classification", "regression", "multi-label")


class DataSource(click.ParamType):  # type: ignore[type-arg]  # generic in newer releases only
    """A PyTorch file, or a function as ``module:function``."""

    name = "file.pt or module:function"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check that a value was given."""
        if value == "":
            self.fail("an empty name was given; is a shell variable empty?", param, ctx)
        return str(value)


class ClassWeights(click.ParamType):  # type: ignore[type-arg]
    """``balanced``, or one number for each class, separated by commas."""

    name = "weights"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str | tuple[float, ...]:
        """Convert the text to numbers."""
        if isinstance(value, tuple) or value == "balanced":
            return value  # type: ignore[no-any-return]
        try:
            return tuple(float(part) for part in value.split(","))
        except ValueError:
            self.fail(
                f"{value[:60]!r} was given, but it must be balanced, or one number for each class, such as 1,5.",
                param,
                ctx,
            )


DATA = click.option(
    "--data",
    type=DataSource(),
    help="Your own graphs: a file of torch.save (.pt), or a function as module:function, which is imported and called.",
)
LEVEL = click.option("--level", type=Choice(["graph", "node"]), help="What --data predicts.  [default: graph]")
TARGET_KIND = click.option(
    "--target-kind",
    type=Choice(TARGET_KINDS),
    help="What the targets of --data are.  [default: by their type]",
)
CLASS_WEIGHTS = click.option(
    "--class-weights",
    type=ClassWeights(),
    help="Weight of each class in the loss: balanced, or numbers such as 1,5. For multi-label targets: weight of the "
    "items to which each label applies.  [default: 1]",
)


EDGE_FEATURES = click.option(
    "--edge-features",
    is_flag=True,
    help="Use the features of the edges, with --conv gin (GINE), gatv2, pna or transformer.",
)


def load_set(
    source: str,
    level: "Level",
    kind: "TargetKind | None" = None,
    num_outputs: int | None = None,
    *,
    edge_features: bool = False,
) -> "GraphSet":
    """Load a user's own graphs.

    Args:
        source: File, or function as ``module:function``.
        level: What is predicted.
        kind: Kind of the targets. None: by their type.
        num_outputs: Number of classes, labels or regression targets. None: that of the graphs.
        edge_features: Whether networks use the features of the edges.

    Returns:
        The graphs, on the CPU.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If there are no graphs, or they are not allowed.
    """
    from supa_gff.graph_set import GraphSet
    from supa_gff.own_data.loading import load_graphs

    data = load_graphs(source)
    try:
        return GraphSet.of(data, level=level, target_kind=kind, num_outputs=num_outputs, edge_features=edge_features)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None
