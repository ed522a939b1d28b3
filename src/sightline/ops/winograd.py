"""3x3 convolution with a quarter of the multiplications. Fast Algorithms for Convolutional Neural
Networks. Lavin, Gray, 2015. https://arxiv.org/abs/1509.09308

F(4x4, 3x3): each tile of 4 x 4 outputs is computed from the 6 x 6 inputs it sees. Tile and weights
are transformed, multiplied element by element (36 products a pair of channels in place of 144) and
transformed back; over the channels those products are 36 matrix products. On a CPU this beats the
direct convolution where channels are many and the transforms cost little beside the products.

Letters: T tiles, C channels in, K channels out.
"""

import torch
from torch import Tensor

from sightline.shapes import Float

# Section 4.3, for the points 0, 1, -1, 2, -2 and infinity.
_INPUT = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
_WEIGHT = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
_OUTPUT = (
    (1, 1, 1, 1, 1, 0),
    (0, 1, -1, 2, -2, 0),
    (0, 1, 1, 4, 4, 0),
    (0, 1, -1, 8, -8, 1),
)

_TILES = 272  # at a time, about: few enough for the cache, enough for the matrix products


def transform_weights(weight: Float[Tensor, "K C 3 3"]) -> Float[Tensor, "36 C K"]:
    """Once for a network: G g G^T of every filter, computed in float64."""
    g = torch.tensor(_WEIGHT, dtype=torch.float64, device=weight.device)
    transformed = torch.einsum("ia,kcab,jb->ijck", g, weight.double(), g)
    return transformed.flatten(0, 1).to(weight.dtype).contiguous()


def winograd_conv3x3(
    x: Float[Tensor, "B C H W"], weights: Float[Tensor, "36 C K"], bias: Float[Tensor, " K"]
) -> Float[Tensor, "B K H W"]:
    """The convolution of stride 1 and padding 1 whose weights have been transformed, channels last;
    no gradient passes. In float32 its error is about five times that of the direct convolution."""
    return torch.ops.sightline.winograd_conv3x3(x, weights, bias)


@torch.library.custom_op("sightline::winograd_conv3x3", mutates_args=())
def _conv3x3(x: Tensor, weights: Tensor, bias: Tensor) -> Tensor:
    batch, channels, height, width = x.shape
    down, across, out_channels = -(-height // 4), -(-width // 4), weights.shape[2]
    rows = min(down, max(1, _TILES // across))  # of tiles
    images = min(batch, max(1, _TILES // (across * down)))
    seen = x.new_zeros(batch, down * 4 + 2, across * 4 + 2, channels)
    seen[:, 1 : height + 1, 1 : width + 1] = x.permute(0, 2, 3, 1)
    given = x.new_empty(batch, down * 4, across * 4, out_channels)
    for first in range(0, batch, images):
        for row in range(0, down, rows):
            part = slice(first, first + images)
            tiles = _tiles(seen[part, row * 4 : (row + rows) * 4 + 2])
            given[part, row * 4 : (row + rows) * 4] = _of_tiles(tiles, weights) + bias
    return given[:, :height, :width].contiguous().permute(0, 3, 1, 2)


@_conv3x3.register_fake
def _(x: Tensor, weights: Tensor, bias: Tensor) -> Tensor:
    batch, _, height, width = x.shape
    return x.new_empty(batch, height, width, weights.shape[2]).permute(0, 3, 1, 2)


def _tiles(seen: Float[Tensor, "B _ _ C"]) -> Float[Tensor, "6 6 B rows columns C"]:
    """A view: tiles of 6 x 6 that begin every 4 pixels."""
    images, height, width, channels = seen.shape
    image, row, column, channel = seen.stride()
    return seen.as_strided(
        (6, 6, images, (height - 2) // 4, (width - 2) // 4, channels),
        (row, column, image, 4 * row, 4 * column, channel),
    )


def _of_tiles(
    tiles: Float[Tensor, "6 6 B rows columns C"], weights: Float[Tensor, "36 C K"]
) -> Float[Tensor, "B H W K"]:
    """A^T [(B^T d B) * U] A (equation 13, the sum over channels as in section 4.1). A transform of
    rows and columns in one: the Kronecker product of its matrix with itself."""
    images, rows, columns, channels = tiles.shape[2:]
    seen, kept = (_both_ways(matrix, tiles) for matrix in (_INPUT, _OUTPUT))
    transformed = (seen @ tiles.reshape(36, -1)).view(36, -1, channels)
    product = torch.bmm(transformed, weights)
    given = (kept @ product.flatten(1)).view(4, 4, images, rows, columns, -1)
    return given.permute(2, 3, 0, 4, 1, 5).reshape(images, rows * 4, columns * 4, -1)


def _both_ways(matrix: tuple[tuple[int, ...], ...], like: Tensor) -> Tensor:
    one_way = torch.tensor(matrix, dtype=like.dtype, device=like.device)
    return torch.kron(one_way, one_way)
