# SPDX-License-Identifier: GPL-3.0-or-later
"""A small dog described as for MuJoCo, packed as a wheel: it comes out the same, and moves within its limits."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dasr_blender.core.mesh import volume
from dasr_blender.training.__main__ import main as training
from dasr_blender.training.synth import bake as baking
from dasr_blender.training.synth.rig import load_rig
from dasr_blender.training.synth.rigs_game import animal_spec
from dasr_blender.training.synth.rigs_mujoco import MUJOCO_RIGS, MujocoRig

pytest.importorskip("mujoco", reason="mujoco is part of the training extras only")

LEG = ("upper", "lower", "foot", "toe")
HALF = 0.04


def bodies() -> dict[str, tuple[str | None, np.ndarray]]:
    """Parent and place of every body: X forwards, Y to the left, as MuJoCo's animals look."""
    out: dict[str, tuple[str | None, np.ndarray]] = {
        "torso": (None, np.array([0, 0, 0.7])),
        "pelvis": ("torso", np.array([-0.4, 0, 0.7])),
        "neck": ("torso", np.array([0.3, 0, 0.8])),
        "skull": ("neck", np.array([0.4, 0, 0.9])),
        "tail": ("pelvis", np.array([-0.6, 0, 0.7])),
    }
    for side, y in (("L", 0.1), ("R", -0.1)):
        for end, x, above in (("front", 0.2, "torso"), ("hind", -0.4, "pelvis")):
            for i, part in enumerate(LEG):
                out[f"{end}_{part}_{side}"] = (
                    f"{end}_{LEG[i - 1]}_{side}" if i else above,
                    np.array([x, y, 0.6 - 0.18 * i]),
                )
    return out


def description(inside: str | None = None) -> str:
    """The nested bodies as MJCF; every body but the torso turns about Y, by -30° to 50°."""
    places, text = bodies(), ""
    for name, (parent, place) in places.items():
        if parent != inside:
            continue
        shift = place - (places[parent][1] if parent else 0)
        joint = (
            f'<joint name="{name}" type="hinge" axis="0 1 0" range="-30 50" limited="true"/>'
            if parent
            else "<freejoint/>"
        )
        text += (
            f'<body name="{name}" pos="{shift[0]} {shift[1]} {shift[2]}">{joint}'
            f'<geom type="sphere" size=".01"/>{description(name)}</body>'
        )
    return text


def skin() -> bytes:
    """A cube round every body's place; the front half of the picture for those before the middle."""
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * HALF
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = np.array([t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))])
    places = np.array([place for _, place in bodies().values()])
    vertices = (places[:, None] + corners).reshape(-1, 3)
    uv = np.where(vertices[:, :1] > 0, [[0.75, 0.25]], [[0.25, 0.25]])
    out = [struct.pack("<4i", len(vertices), len(vertices), 12 * len(places), len(places))]
    out += [vertices.astype("<f4").tobytes(), uv.astype("<f4").tobytes()]
    out += [(faces + 8 * b).astype("<i4").tobytes() for b in range(len(places))]
    for b, (name, place) in enumerate(zip(bodies(), places, strict=True)):
        out.append(struct.pack("<40s3f4fi", name.encode(), *place, 1, 0, 0, 0, 8))
        out.append(np.arange(8 * b, 8 * b + 8, dtype="<i4").tobytes() + np.ones(8, "<f4").tobytes())
    return b"".join(out)


def wheel(folder: Path, xml: str | None = None) -> Path:
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:4, :4], pixels[:4, 4:], pixels[4:] = (200, 100, 50), (10, 20, 30), 255
    Image.fromarray(pixels).save(folder / "fur.png")
    path = folder / "animals-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            "animals/dog.xml",
            xml
            or '<mujoco><asset><texture name="fur" type="2d" file="fur.png"/><material name="fur" texture="fur"/>'
            f'<skin name="skin" file="dog.skn" material="fur"/></asset><worldbody>{description()}</worldbody></mujoco>',
        )
        archive.writestr("animals/dog.skn", skin())
        archive.write(folder / "fur.png", "animals/fur.png")
    return path


@pytest.fixture(autouse=True)
def toy(monkeypatch) -> MujocoRig:
    front, hind = (tuple(f"{end}_{part}_L" for part in LEG) for end in ("front", "hind"))
    spec = animal_spec(("pelvis", "torso", "torso"), ("neck", "skull"), front, hind, ("tail",))
    rig = MujocoRig("animals/dog.xml", "animals/", spec)
    for name in list(MUJOCO_RIGS):
        monkeypatch.delitem(MUJOCO_RIGS, name)
    monkeypatch.setitem(MUJOCO_RIGS, "dm_toy", rig)
    return rig


def test_the_dog_comes_out_as_it_is_described(tmp_path):
    assert baking.main_bake([str(wheel(tmp_path)), "--out", str(tmp_path / "rigs")]) == 0
    rig = load_rig(tmp_path / "rigs/dm_toy.npz")
    names = list(bodies())
    assert list(rig.bone_names) == names
    assert [names[p] if p >= 0 else None for p in rig.bone_parents] == [p for p, _ in bodies().values()]

    places = np.array([place for _, place in bodies().values()])
    turned = places[:, [1, 0, 2]] * [1, -1, 1]  # left to +X, forwards to -Y; the torso is 0.6 long already
    off = (rig.bone_heads - turned)[0]
    np.testing.assert_allclose(rig.bone_heads, turned + off, atol=1e-6)
    own = rig.skin_index[np.arange(len(rig.vertices)), rig.skin_weight.argmax(1)]
    np.testing.assert_allclose(np.abs(rig.vertices - rig.bone_heads[own]), HALF, atol=1e-6)
    np.testing.assert_allclose(volume(rig.vertices, rig.faces), len(names) * (2 * HALF) ** 3, rtol=1e-4)
    before = rig.vertices[:, 1] - off[1] < 0
    np.testing.assert_allclose(rig.colours[before] * 255, np.tile([10, 20, 30], (before.sum(), 1)), atol=1e-4)
    np.testing.assert_allclose(rig.colours[~before] * 255, np.tile([200, 100, 50], ((~before).sum(), 1)), atol=1e-4)


def test_it_moves_within_its_limits_and_keeps_its_bones_together(tmp_path):
    baking.bake_mujoco(wheel(tmp_path), tmp_path / "rigs", fps=12)
    rig = load_rig(tmp_path / "rigs/dm_toy.npz")
    assert len(rig.pose) == len(rig.clip_names) * 60 and rig.fps == 12
    np.testing.assert_allclose(rig.pose[:, :, 2, 3].min(1), rig.pose[:, :, 2, 3].min(), atol=1e-6)
    turns = rig.skin_transforms(slice(None))[..., :3, :3]
    rest = rig.bone_heads
    angles = []
    for b, p in enumerate(rig.bone_parents):
        if p < 0:
            continue
        relative = np.swapaxes(turns[:, p], -1, -2) @ turns[:, b]
        np.testing.assert_allclose(relative[:, 0, 0], 1, atol=1e-5)  # about the axis across the animal alone
        angles.append(np.arctan2(relative[:, 2, 1], relative[:, 1, 1]))
        apart = np.einsum("tij,j->ti", turns[:, p], rest[b] - rest[p])
        np.testing.assert_allclose(rig.pose[:, b, :3, 3] - rig.pose[:, p, :3, 3], apart, atol=1e-5)
    angles = np.rad2deg(angles)
    assert angles.min() >= -30 - 1e-3 and angles.max() <= 50 + 1e-3
    assert angles.max(1).min() - angles.min(1).max() > 10  # every joint moves
    assert np.abs(np.diff(angles.reshape(len(angles), len(rig.clip_names), -1), axis=-1)).max() < 25  # smoothly


def test_what_is_wrong_is_said(tmp_path, capsys):
    out = ["--out", str(tmp_path / "rigs")]
    assert training(["bake", str(tmp_path / "none.whl"), *out]) == 1
    assert "none.whl does not exist; `pip download --no-deps dm_control` fetches it." in capsys.readouterr().err
    (tmp_path / "broken.whl").write_bytes(b"PK, but no archive")
    assert training(["bake", str(tmp_path / "broken.whl"), *out]) == 1
    assert "broken.whl is no wheel" in capsys.readouterr().err
    with zipfile.ZipFile(tmp_path / "other.whl", "w") as archive:
        archive.writestr("other/model.xml", "<mujoco/>")
    assert training(["bake", str(tmp_path / "other.whl"), *out]) == 1
    assert "holds no animals/dog.xml" in capsys.readouterr().err
    assert training(["bake", str(wheel(tmp_path, "<mujoco/>")), *out]) == 1
    assert "has 0 skins, not one" in capsys.readouterr().err
    assert not (tmp_path / "rigs").exists()
