"""How a model computes: what ``predict`` and ``evaluate`` can be told alike."""

from dataclasses import dataclass
from typing import Annotated, Any

from cyclopts import Parameter


@Parameter(name="*")  # --batch, not --computing.batch
@dataclass(frozen=True)
class Computing:
    batch: int = 8
    """Photos of one shape that go through the model together."""
    device: str | None = None
    """cpu, cuda, cuda:1 ...; left out, the GPU if there is one."""
    fast: bool = True
    """Fold the model's normalisation and lay it out for speed first; the answers stay."""
    bf16: Annotated[bool, Parameter(negative=())] = False
    """Compute in bfloat16: much faster where the processor or GPU has it, less exact."""
    compile: Annotated[bool, Parameter(negative=())] = False
    """Hand the model to torch.compile: minutes for the first photos, then faster on a GPU."""

    def open(self, model: str) -> Any:
        """The model of a file or public name, to compute so."""
        from sightline.runtime import open_model

        return open_model(model, self.device, self.fast, self.bf16, self.compile)


AS_USUAL = Computing()
