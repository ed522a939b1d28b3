"""What every backbone is to the models: maps from fine to coarse, their channels and strides."""

from collections.abc import Sequence

from torch import Tensor, nn

from sightline.shapes import Float


class Backbone(nn.Module):
    """A network of one of the libraries, its chosen maps brought to one form.

    ``body`` gives a list of maps; those at ``levels`` of it are kept. Entry i of the result has
    ``channels[i]`` channels and one row for ``strides[i]`` rows of the picture. ``stage_names`` are
    the modules of ``body``, in the order in which the picture meets them, in groups: first the
    stem, then one group a level.
    """

    def __init__(
        self,
        body: nn.Module,
        channels: Sequence[int],
        strides: Sequence[int],
        levels: Sequence[int],
        stage_names: Sequence[Sequence[str]],
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        self.body = body
        self.channels = list(channels)
        self.strides = list(strides)
        self._levels = tuple(levels)
        self._stage_names = tuple(tuple(names) for names in stage_names)
        self._channels_last = channels_last  # the body gives [B, H, W, C]

    def forward(self, pixels: Float[Tensor, "B 3 H W"]) -> list[Float[Tensor, "B _ _ _"]]:
        maps = self.body(pixels)
        features = [maps[level] for level in self._levels]
        if self._channels_last:
            features = [feature.permute(0, 3, 1, 2) for feature in features]
        return features

    def stages(self) -> list[nn.Module]:
        """The stem first, then stage by stage: what ``--freeze 2`` counts. Together they hold every
        parameter once; one that belongs to no module of its own (a position embedding) counts as
        part of the stem."""
        stages = [
            nn.ModuleList(self.body.get_submodule(name) for name in names)
            for names in self._stage_names
        ]
        held = {id(parameter) for stage in stages for parameter in stage.parameters()}
        loose = [p for p in self.body.parameters() if id(p) not in held]
        if loose:
            stages[0].append(nn.ParameterList(loose))
        return list(stages)
