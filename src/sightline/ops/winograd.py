"""3x3 convolution with a quarter of the multiplications. Fast Algorithms for Convolutional Neural
Networks. Lavin, Gray, 2015. https://arxiv.org/abs/1509.09308

F(4x4, 3x3): each tile of 4 x 4 outputs is computed from the 6 x 6 inputs it sees. Tile and weights
are transformed, multiplied element by element (36 products a pair of channels in place of 144) and
transformed back; over the channels those products are 36 matrix products. On a CPU this beats the
direct convolution where channels are many and the transforms cost little beside the products.

The gradients take the same form: of the input, a convolution with the filters turned round; of the
weights, the element-wise products of input tiles and tiles of the output's gradient, summed over
all tiles before they are transformed back.

Letters: T tiles, C channels in, K channels out.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from sightline.shapes import Float

Matrix = tuple[tuple[float, ...], ...]

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

_BACK = tuple(zip(*_OUTPUT, strict=True))  # A, for the gradient

_TILES = 272  # at a time, about: few enough for the cache, enough for the matrix products


def transform_weights(weight: Float[Tensor, "K C 3 3"]) -> Float[Tensor, "36 C K"]:
    """G g G^T of every filter."""
    out_channels, channels = weight.shape[:2]
    filters = weight.permute(2, 3, 1, 0).reshape(9, -1)
    return (_both_ways(_WEIGHT, weight) @ filters).view(36, channels, out_channels)


def winograd_conv3x3(
    x: Float[Tensor, "B C H W"], weights: Float[Tensor, "36 C K"], bias: Float[Tensor, " K"]
) -> Float[Tensor, "B K H W"]:
    """The convolution of stride 1 and padding 1 whose weights have been transformed, channels last;
    no gradient passes. In float32 its error is about five times that of the direct convolution."""
    return torch.ops.sightline.winograd_conv3x3(x, weights, bias)


@torch.library.custom_op("sightline::winograd_conv3x3", mutates_args=())
def _conv3x3(x: Tensor, weights: Tensor, bias: Tensor) -> Tensor:
    batch, _, height, width = x.shape
    down, across, out_channels = -(-height // 4), -(-width // 4), weights.shape[2]
    seen = _bordered(x, down, across)
    given = x.new_empty(batch, down * 4, across * 4, out_channels)
    blocks = _blocks(given)
    for images, rows in _parts(batch, down, across):
        tiles = _tiles(seen[images, rows.start * 4 : rows.stop * 4 + 2])
        part = blocks[images, rows]
        torch.add(_of_tiles(tiles, weights).view(part.shape), bias, out=part)
    return given[:, :height, :width].contiguous().permute(0, 3, 1, 2)


@_conv3x3.register_fake
def _(x: Tensor, weights: Tensor, bias: Tensor) -> Tensor:
    batch, _, height, width = x.shape
    return x.new_empty(batch, height, width, weights.shape[2]).permute(0, 3, 1, 2)


def learning_conv3x3(
    x: Float[Tensor, "B C H W"], weight: Float[Tensor, "K C 3 3"], bias: Float[Tensor, " K"] | None
) -> Float[Tensor, "B K H W"]:
    """The convolution of stride 1 and padding 1, channels last, with gradients to all three."""
    return _Learning.apply(x, weight, bias)


class _Learning(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        shift = weight.new_zeros(len(weight)) if bias is None else bias
        return winograd_conv3x3(x, transform_weights(weight), shift)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = None, None, None
        if ctx.needs_input_grad[0]:
            turned = transform_weights(weight.flip(2, 3).transpose(0, 1))
            of_x = winograd_conv3x3(gradient, turned, gradient.new_zeros(x.shape[1]))
        if ctx.needs_input_grad[1]:
            of_weight = _weight_gradient(x, gradient)
        if ctx.needs_input_grad[2]:
            of_bias = gradient.sum((0, 2, 3))
        return of_x, of_weight, of_bias


def _weight_gradient(
    x: Float[Tensor, "B C H W"], gradient: Float[Tensor, "B K H W"]
) -> Float[Tensor, "K C 3 3"]:
    """G^T [sum over tiles of (B^T d B) * (A y A^T)] G, where y is a tile of the gradient."""
    batch, channels, height, width = x.shape
    down, across, out_channels = -(-height // 4), -(-width // 4), gradient.shape[1]
    seen, given = _bordered(x, down, across), gradient.permute(0, 2, 3, 1)
    if (height, width) != (down * 4, across * 4):
        given = gradient.new_zeros(batch, down * 4, across * 4, out_channels)
        given[:, :height, :width] = gradient.permute(0, 2, 3, 1)
    blocks, total = _blocks(given), x.new_zeros(36, channels, out_channels)
    for images, rows in _parts(batch, down, across):
        left = _transformed(_INPUT, _tiles(seen[images, rows.start * 4 : rows.stop * 4 + 2]))
        y = blocks[images, rows].reshape(-1, 16, out_channels)
        right = _transformed(_BACK, y)
        total.baddbmm_(left.permute(1, 2, 0), right.transpose(0, 1))
    filters = (_both_ways(_WEIGHT, x).T @ total.flatten(1)).view(3, 3, channels, out_channels)
    return filters.permute(3, 2, 0, 1)


def _bordered(x: Float[Tensor, "B C H W"], down: int, across: int) -> Float[Tensor, "B _ _ C"]:
    """Channels last, a zero around, and zeros to whole tiles."""
    batch, channels, height, width = x.shape
    seen = x.new_empty(batch, down * 4 + 2, across * 4 + 2, channels)
    seen[:, 1 : height + 1, 1 : width + 1] = x.permute(0, 2, 3, 1)
    for border in (seen[:, :1], seen[:, height + 1 :], seen[:, :, :1], seen[:, :, width + 1 :]):
        border.zero_()
    return seen


def _parts(batch: int, down: int, across: int) -> Iterator[tuple[slice, slice]]:
    """Images, and rows of tiles, of about as many tiles as are worked on at a time."""
    rows = max(1, min(down, _TILES // across))
    images = max(1, min(batch, _TILES // (across * down)))
    for first in range(0, batch, images):
        for row in range(0, down, rows):
            yield slice(first, first + images), slice(row, min(row + rows, down))


def _tiles(seen: Float[Tensor, "B _ _ C"]) -> Float[Tensor, "T 36 C"]:
    """Tiles of 6 x 6 that begin every 4 pixels."""
    images, height, width, channels = seen.shape
    image, row, column, channel = seen.stride()
    rows, columns = (height - 2) // 4, (width - 2) // 4
    tiles = seen.as_strided(
        (images, rows, columns, 6, 6, channels),
        (image, 4 * row, 4 * column, row, column, channel),
    )
    return tiles.reshape(-1, 36, channels)


def _blocks(given: Float[Tensor, "B _ _ K"]) -> Float[Tensor, "B rows columns 4 4 K"]:
    """A view: blocks of 4 x 4."""
    return given.unflatten(2, (-1, 4)).unflatten(1, (-1, 4)).transpose(2, 3)


def _of_tiles(
    tiles: Float[Tensor, "T 36 C"], weights: Float[Tensor, "36 C K"]
) -> Float[Tensor, "T 16 K"]:
    """A^T [(B^T d B) * U] A (equation 13, the sum over channels as in section 4.1)."""
    product = torch.bmm(_transformed(_INPUT, tiles).transpose(0, 1), weights)
    return _transformed(_OUTPUT, product.transpose(0, 1))


def _transformed(matrix: Matrix, tiles: Float[Tensor, "T N C"]) -> Float[Tensor, "T M C"]:
    """Tile by tile, which keeps to the nearest cache: one product over all is twice as slow."""
    both = _both_ways(matrix, tiles)
    return torch.bmm(both.expand(len(tiles), *both.shape), tiles)


def _both_ways(matrix: Matrix, like: Tensor) -> Tensor:
    """Rows and columns in one: the Kronecker product of the matrix with itself."""
    one_way = torch.tensor(matrix, dtype=torch.float64, device=like.device)
    return torch.kron(one_way, one_way).to(like.dtype)
