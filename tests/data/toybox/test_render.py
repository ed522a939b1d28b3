"""Light, shadow, texture and smoothing."""

from dataclasses import replace

import numpy as np
import pytest

from sightline.data.toybox import Toybox, render, textures
from sightline.data.toybox.camera import Dots, pixels
from sightline.data.toybox.compose import compose
from sightline.data.toybox.description import GROUNDS, Description, Light, Thing
from sightline.data.toybox.draws import Draws
from sightline.data.toybox.outline import outlines
from sightline.data.toybox.shadow import LIFT, patches, sky_open, sunlit
from sightline.data.toybox.solids import CYLINDER_HALF, SOLIDS
from sightline.data.toybox.torus import RING, TUBE
from sightline.data.toybox.vectors import Array, Axes, Point, add, pick, times
from sightline.data.toybox.visible import GROUND, SKY, into_thing, look, on_ground

UPRIGHT: Axes = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
SIZE = (96, 128)


def solid(shape: str, x: float, y: float, height: float) -> Thing:
    return Thing(
        shape, "red", "rubber", "large", 1.0, "upright", (x, y, height), UPRIGHT, (0.5, 0.1, 0.1)
    )


def scene(*things: Thing, towards: Point = (0.0, 0.0, 1.0)) -> Description:
    """On some ground, the sun where we want it."""
    description = compose(0, 0, SIZE, (0, 0))
    light = replace(description.light, towards=towards)
    return replace(description, things=things, light=light)


def sun_on_ground(description: Description, x: list[float], y: list[float]) -> Array:
    """How lit places of the ground are, seen or not: all things but their shadows are ignored."""
    across, down, _ = description.camera.project((np.array(x), np.array(y), np.zeros(len(x))))
    dots = Dots(np.asarray(across), np.asarray(down))
    seen = look(description.camera, (), [], dots)
    assert (seen.what == GROUND).all()
    found = outlines(description.camera, description.things)
    return sunlit(description, dots, seen, patches(description, found, dots, seen))


def test_the_shadow_of_a_ball_under_a_high_sun_is_a_disc() -> None:
    description = scene(solid("sphere", 0.0, 8.0, 3.0))
    lit = sun_on_ground(
        description, [0.0, 0.99, 1.01, 0.0, 0.0, 0.7], [8.0, 8.0, 8.0, 8.99, 9.01, 8.7]
    )
    assert lit.tolist() == [0, 0, 1, 0, 1, 0]


def test_a_slanting_sun_moves_and_stretches_the_shadow() -> None:
    """Under 45 degrees from the left: the centre at height 1 shades the ground 1 to the right, and
    the ellipse reaches sqrt(2) that way but 1 the other."""
    slant = 0.5**0.5
    description = scene(solid("sphere", 0.0, 8.0, 1.0), towards=(-slant, 0.0, slant))
    x = [1.0, 1 + 1.41, 1 + 1.42, 1 - 1.41, 1 - 1.42, 1.0, 1.0]
    lit = sun_on_ground(description, x, [8.0, 8.0, 8.0, 8.0, 8.0, 8.99, 9.01])
    assert lit.tolist() == [0, 0, 1, 0, 1, 0, 1]


def test_the_sun_shines_through_the_hole_of_a_torus() -> None:
    description = scene(solid("torus", 0.0, 8.0, TUBE))
    lit = sun_on_ground(description, [0.0, RING - TUBE - 0.01, RING, 1.01], [8.0] * 4)
    assert lit.tolist() == [1, 1, 0, 1]


def test_one_thing_shades_another() -> None:
    """A ball straight above the end of a cylinder: the end is dark, and lit without the ball."""
    below, above = solid("cylinder", 0.0, 8.0, CYLINDER_HALF), solid("sphere", 0.0, 8.0, 6.0)
    for things, expected in (((below,), 1.0), ((below, above), 0.0)):
        description = scene(*things)
        found = outlines(description.camera, things)
        top = description.camera.project((0.0, 8.0, 2 * CYLINDER_HALF))
        dot = Dots(np.array([float(top[0])]), np.array([float(top[1])]))
        seen = look(description.camera, things, found, dot)
        assert seen.what.tolist() == [0]
        shown = patches(description, found, dot, seen)
        np.testing.assert_allclose(shown[0].facing, 1)
        assert sunlit(description, dot, seen, shown).tolist() == [expected]


def test_shadows_are_those_of_rays_to_every_thing() -> None:
    """The naive twin looks at every thing from every place, in no rectangle and near or far."""
    box, points, dark = Toybox(8, seed=6, size=SIZE), pixels(SIZE), 0
    for index in range(len(box)):
        description = box.description(index)
        things, sun = description.things, description.light.towards
        found = outlines(description.camera, things)
        seen = look(description.camera, things, found, points)
        shown = patches(description, found, points, seen)
        expected = np.ones(len(points.x))
        ground = np.flatnonzero(seen.what == GROUND)
        places = [(ground, on_ground(description.camera, points, ground), None)]
        for receiver, patch in zip(things, shown, strict=True):
            towards = np.flatnonzero(patch.facing > 0)
            place = add(pick(patch.place, towards), times(pick(patch.normal, towards), LIFT))
            places.append((patch.rows[towards], place, receiver))
        for rows, place, receiver in places:
            for caster in things:
                if caster is not receiver or caster.shape == "torus":
                    shaded = SOLIDS[caster.shape].blocks(*into_thing(caster, place, sun))
                    expected[rows[shaded]] = 0
        np.testing.assert_array_equal(sunlit(description, points, seen, shown), expected)
        dark += int((expected == 0).sum())
    assert dark > 1000


def test_less_sky_reaches_the_ground_near_a_thing() -> None:
    description = scene(solid("sphere", 0.0, 8.0, 1.0))
    across, down, _ = description.camera.project(
        (np.array([0.5, 1.0, 1.5, 2.0, 4.0]), np.full(5, 8.0), np.zeros(5))
    )
    dots = Dots(np.asarray(across), np.asarray(down))
    share = sky_open(description, dots, look(description.camera, (), [], dots))
    assert (np.diff(share) > 0).all()
    assert share[0] < 0.7
    assert share[-1] == 1


def test_the_horizon_divides_ground_and_sky() -> None:
    description = scene()
    what = look(description.camera, (), [], pixels(SIZE)).what.reshape(SIZE)
    rows = np.arange(SIZE[0]) + 0.5
    np.testing.assert_array_equal(what[:, 0] == SKY, rows <= description.camera.horizon)
    assert (what == what[:, :1]).all()
    depth = description.camera.ground_depth(np.array([90.5]))
    below = description.camera.rays(np.array([64.0]), np.array([90.5]))
    assert description.camera.position[2] + depth[0] * np.asarray(below[2])[0] == pytest.approx(0)


def test_smoothing_touches_the_borders_only() -> None:
    """Pixels whose neighbours show the same, equally lit, are the colour at their centre."""
    description = Toybox(1, size=SIZE, seed=4).description(0)
    found = outlines(description.camera, description.things)
    seen = look(description.camera, description.things, found, pixels(SIZE))
    smooth = render.render(description, found, seen).reshape(3, -1).astype(int)
    behind = render.backdrop(description).reshape(3, -1)
    plain, light = render.paint(description, found, pixels(SIZE), seen, behind)
    edges = render._edges(seen.what.reshape(SIZE), light.reshape(SIZE))
    changed = np.flatnonzero((smooth != render._to_bytes(plain)).any(0))
    assert 0 < len(changed) < 0.3 * len(light)
    assert set(changed.tolist()) <= set(edges.tolist())


def test_more_light_is_brighter() -> None:
    description = Toybox(1, size=SIZE, seed=4).description(0)
    found = outlines(description.camera, description.things)
    seen = look(description.camera, description.things, found, pixels(SIZE))
    dusk = Light(description.light.towards, sun=(0.1, 0.1, 0.1), ambient=(0.1, 0.1, 0.1))
    dark = replace(description, light=dusk)
    day, night = (render.render(one, found, seen) for one in (description, dark))
    ground = (seen.what == GROUND).reshape(SIZE)
    assert day[:, ground].mean() > 1.5 * night[:, ground].mean()
    assert (day.astype(int) >= night)[:, ground].all()


@pytest.mark.parametrize("kind", [*GROUNDS, "clouds"])
def test_textures_repeat_and_average(kind: str) -> None:
    texture = textures.texture(kind)
    finest = texture.texels[: textures.SIDE**2].reshape(textures.SIDE, textures.SIDE)
    assert texture.mean == pytest.approx(finest.mean(), abs=1e-4)
    assert finest.std() > 0.05
    # Texel (row 3, column 5) has its centre at u = 5.5, v = 3.5 of the 512.
    u, v = (np.array([[place / textures.SIDE]], dtype=np.float32) for place in (5.5, 3.5))
    level = np.array([0])
    found = textures.look_up(texture, u, v, level)
    np.testing.assert_allclose(found, finest[3, 5], atol=1e-3)
    np.testing.assert_allclose(textures.look_up(texture, u + 2, v - 1, level), found, atol=1e-3)
    halfway = textures.look_up(texture, u + np.float32(0.5 / textures.SIDE), v, level)
    np.testing.assert_allclose(halfway, (finest[3, 5] + finest[3, 6]) / 2, atol=1e-3)
    top = textures.look_up(texture, u, v, np.array([9]))
    np.testing.assert_allclose(top, texture.mean, atol=1e-6)


def test_tones_rise_from_black_to_white_by_the_srgb_curve() -> None:
    assert (render.TONES[0], render.TONES[-1]) == (0, 255)
    assert (np.diff(render.TONES.astype(int)) >= 0).all()
    # Linear 0.2140 is the middle grey of sRGB: 0.5 * 255 = 127.5.
    assert render.TONES[round(0.2140 / 2 * 4095)] in (127, 128)


def test_draws_are_the_documented_bits() -> None:
    """numpy defines ``random()`` as the raw output's upper 53 bits."""
    ours, theirs = Draws(7, 3), np.random.Generator(np.random.PCG64([7, 3]))
    assert [ours.uniform() for _ in range(5)] == theirs.random(5).tolist()
    np.testing.assert_array_equal(ours.array(2, 3), theirs.random((2, 3)))


def test_draws_keep_to_their_ranges() -> None:
    draws = Draws(0)
    assert {draws.integer(2, 4) for _ in range(100)} == {2, 3, 4}
    assert {draws.choice("abc") for _ in range(100)} == set("abc")
    assert all(
        x * x + y * y == pytest.approx(1) for x, y in (draws.direction() for _ in range(100))
    )
    assert sum(draws.chance(0.25) for _ in range(1000)) == pytest.approx(250, abs=50)
