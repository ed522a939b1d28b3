"""Rays and solids: by hand, and against marching along the ray in small steps."""

from collections.abc import Callable

import numpy as np
import pytest

from sightline.data.toybox.solids import CONE_SLOPE, SOLIDS
from sightline.data.toybox.torus import RING, TUBE
from sightline.data.toybox.vectors import Array, Point, Vector

INF = np.inf


def within(shape: str, p: Array) -> Array:
    """How deep inside a solid points [3, ...] are: positive inside; its zero set is the surface."""
    x, y, z = p
    around = np.sqrt(x * x + y * y)
    depths: dict[str, Callable[[], Array]] = {
        "cube": lambda: 0.8 - np.maximum(np.maximum(np.abs(x), np.abs(y)), np.abs(z)),
        "sphere": lambda: 1 - np.sqrt(x * x + y * y + z * z),
        "cylinder": lambda: np.minimum(0.72 - around, 0.85 - np.abs(z)),
        "cone": lambda: np.minimum(CONE_SLOPE * (0.95 - z) - around, z + 0.95),
        "torus": lambda: TUBE - np.sqrt((around - RING) ** 2 + z * z),
    }
    return depths[shape]()


def cast(shape: str, origin: Point, direction: Point) -> float:
    """One ray, as the arrays the solids take."""
    rays: Vector = tuple(np.array([part]) for part in direction)  # type: ignore[assignment]
    return float(SOLIDS[shape].hit(origin, rays)[0])


def random_rays(seed: int, count: int) -> tuple[Array, Array]:
    """Origins on a ball outside every solid, aimed near the middle; directions of any length."""
    rng = np.random.default_rng(seed)
    origins = rng.normal(size=(3, count))
    origins *= rng.uniform(1.5, 12, count) / np.sqrt((origins**2).sum(0))
    targets = rng.uniform(-1, 1, (3, count))
    return origins, (targets - origins) * rng.uniform(0.1, 3, count)


def columns(vectors: Array) -> Vector:
    x, y, z = vectors
    return x, y, z


@pytest.mark.parametrize(
    ("shape", "origin", "direction", "distance"),
    [
        ("sphere", (0.0, -5.0, 0.0), (0.0, 1.0, 0.0), 4.0),  # through the centre, radius 1
        ("sphere", (0.6, -5.0, 0.0), (0.0, 1.0, 0.0), 4.2),  # 0.6, 0.8, 1 is a right triangle
        ("sphere", (0.0, -5.0, 0.0), (0.0, 2.0, 0.0), 2.0),  # in units of the direction
        ("sphere", (0.0, -5.0, 0.0), (0.0, -1.0, 0.0), INF),  # behind
        ("sphere", (1.1, -5.0, 0.0), (0.0, 1.0, 0.0), INF),  # beside
        ("cube", (0.0, -5.0, 0.0), (0.0, 1.0, 0.0), 4.2),
        ("cube", (0.0, 0.0, 5.0), (0.0, 0.0, -1.0), 4.2),
        ("cube", (-1.6, -1.6, 0.0), (1.0, 1.0, 0.0), 0.8),  # onto an edge
        ("cube", (0.81, -5.0, 0.0), (0.0, 1.0, 0.0), INF),
        ("cylinder", (-5.0, 0.0, 0.0), (1.0, 0.0, 0.0), 4.28),
        ("cylinder", (0.3, 0.3, 5.0), (0.0, 0.0, -1.0), 4.15),  # onto its end
        ("cylinder", (0.6, 0.6, 5.0), (0.0, 0.0, -1.0), INF),  # |(0.6, 0.6)| = 0.85 > 0.72
        ("cone", (0.0, 0.0, 5.0), (0.0, 0.0, -1.0), 4.05),  # onto its apex
        ("cone", (-5.0, 0.0, 0.0), (1.0, 0.0, 0.0), 4.55),  # half as wide at half its height
        ("cone", (0.5, 0.0, -5.0), (0.0, 0.0, 1.0), 4.05),  # from below, onto its base
        ("cone", (-5.0, 0.0, 1.5), (1.0, 0.0, 0.0), INF),  # above the apex: the other nappe
        ("torus", (-5.0, 0.0, 0.0), (1.0, 0.0, 0.0), 4.0),  # from outside
        ("torus", (0.0, 0.0, 0.0), (1.0, 0.0, 0.0), 0.44),  # from the hole
        ("torus", (0.72, 0.0, 5.0), (0.0, 0.0, -1.0), 4.72),  # onto the tube
        ("torus", (0.0, 0.0, 5.0), (0.0, 0.0, -1.0), INF),  # through the hole
    ],
)
def test_by_hand(shape: str, origin: Point, direction: Point, distance: float) -> None:
    assert cast(shape, origin, direction) == pytest.approx(distance, abs=1e-9)


@pytest.mark.parametrize("shape", SOLIDS)
def test_hits_are_where_a_march_meets_the_solid(shape: str) -> None:
    origins, directions = random_rays(1, 400)
    steps = np.linspace(0, 1.3, 4001)[:, None]  # 1.3 times the way to the target and beyond
    length = np.sqrt((directions**2).sum(0))
    reach = (np.sqrt((origins**2).sum(0)) + 2) / length
    march = origins[:, None] + directions[:, None] * (steps * reach)
    inside = within(shape, march)
    entered = inside > 0
    first = np.where(entered.any(0), entered.argmax(0), 0)
    hits = SOLIDS[shape].hit(columns(origins), columns(directions))
    clear = np.abs(inside.max(0)) > 0.01  # a graze may fall between two steps
    assert 0.2 < np.isfinite(hits).mean() < 0.9
    assert (np.isfinite(hits) == entered.any(0))[clear].all()
    both = np.isfinite(hits) & entered.any(0)
    step = reach * 1.3 / 4000
    assert (np.abs(hits - first * step) <= step * 1.01)[both & clear].all()


@pytest.mark.parametrize("shape", SOLIDS)
def test_hits_lie_on_the_surface_and_normals_point_out_of_it(shape: str) -> None:
    origins, directions = random_rays(2, 3000)
    hits = SOLIDS[shape].hit(columns(origins), columns(directions))
    found = np.isfinite(hits)
    assert found.mean() > 0.2
    points = origins[:, found] + directions[:, found] * hits[found]
    normals = np.array(SOLIDS[shape].normal(columns(points)))
    assert np.abs(within(shape, points)).max() < 1e-9
    np.testing.assert_allclose((normals**2).sum(0), 1, atol=1e-9)
    assert (within(shape, points - 1e-4 * normals) > 0).mean() > 0.999  # but for edges
    assert (within(shape, points + 1e-4 * normals) < 0).all()
    assert ((normals * directions[:, found]).sum(0) < 1e-9).all()  # one sees the outside


@pytest.mark.parametrize("shape", SOLIDS)
def test_a_solid_blocks_where_it_is_hit(shape: str) -> None:
    origins, directions = columns(random_rays(3, 2000)[0]), columns(random_rays(3, 2000)[1])
    hits = SOLIDS[shape].hit(origins, directions)
    np.testing.assert_array_equal(SOLIDS[shape].blocks(origins, directions), np.isfinite(hits))


@pytest.mark.parametrize("shape", SOLIDS)
def test_one_origin_or_one_direction_for_all_rays(shape: str) -> None:
    origins, directions = random_rays(4, 50)
    origin, direction = columns(origins[:, 0]), columns(directions[:, 0])
    solid = SOLIDS[shape]
    same_origin = solid.hit(columns(np.repeat(origins[:, :1], 50, 1)), columns(directions))
    same_direction = solid.hit(columns(origins), columns(np.repeat(directions[:, :1], 50, 1)))
    np.testing.assert_allclose(solid.hit(origin, columns(directions)), same_origin)
    np.testing.assert_allclose(solid.hit(columns(origins), direction), same_direction)
    none = columns(np.zeros((3, 0)))
    assert len(solid.hit(origin, none)) == len(solid.blocks(none, direction)) == 0


@pytest.mark.parametrize("shape", SOLIDS)
def test_the_ball_holds_the_solid(shape: str) -> None:
    grid = np.stack(np.meshgrid(*[np.linspace(-1.5, 1.5, 61)] * 3))
    inside = grid[:, within(shape, grid) >= 0]
    radius = np.sqrt((inside**2).sum(0)).max()
    assert SOLIDS[shape].radius - 0.15 < radius <= SOLIDS[shape].radius + 1e-9
