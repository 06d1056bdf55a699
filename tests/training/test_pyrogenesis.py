# SPDX-License-Identifier: GPL-3.0-or-later
"""A small animal written in the game's formats: what is read back is the same animal, right-handed and Z up."""

from __future__ import annotations

import dataclasses
import io
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from toy import toy_category_in_memory

from dasr_blender.core.mesh import volume
from dasr_blender.core.rotation import matrix_to_quat, rotvec_to_matrix
from dasr_blender.training.__main__ import main as training
from dasr_blender.training.errors import TrainingError
from dasr_blender.training.synth import bake as baking
from dasr_blender.training.synth import pyrogenesis, rigs_game
from dasr_blender.training.synth.rig import known_animals, load_rig, rig_map
from dasr_blender.training.synth.rigs_game import GAME_RIGS, GameRig

NAMES = ["rump", "breast", "neck", "head", *(f"{leg}{i}_{s}" for leg in "fh" for s in "lr" for i in range(4))]
PARENTS = [-1, 0, 1, 2, *([1, 4, 5, 6, 1, 8, 9, 10]), *([0, 12, 13, 14, 0, 16, 17, 18])]
RATE = 30.0
SWAP = np.eye(3)[[0, 2, 1]]  # Z up and right-handed to Y up and left-handed, and back


def bones_at_rest() -> np.ndarray:
    """(20, 4, 4) looking along -Y, left is +X, as the project's bodies do."""
    places = [(0, 1, 2), (0, -1, 2), (0, -1.4, 2.3), (0, -1.8, 2.8)]
    for y in (-1.0, 1.0):
        for x in (0.3, -0.3):
            places += [(x, y, z) for z in (1.8, 1.2, 0.6, 0.1)]
    out = np.tile(np.eye(4), (len(places), 1, 1))
    out[:, :3, 3] = places
    out[:, :3, :3] = rotvec_to_matrix(np.random.default_rng(1).normal(size=(len(places), 3)))
    return out


def motion() -> np.ndarray:
    """(7, 20, 4, 4): the animal turns about Z and lifts its left foreleg."""
    rest, frames = bones_at_rest(), []
    for k in range(7):
        whole, leg = np.eye(4), np.eye(4)
        whole[:3, :3] = rotvec_to_matrix(np.array([0, 0, 0.1 * k]))
        whole[:3, 3] = [0.2 * k, 0, 0]
        hip = rest[4, :3, 3]
        leg[:3, :3] = rotvec_to_matrix(np.array([-0.1 * k, 0, 0]))
        leg[:3, 3] = hip - leg[:3, :3] @ hip
        frames.append([whole @ (leg if 4 <= b < 8 else np.eye(4)) @ rest[b] for b in range(len(rest))])
    return np.array(frames)


def states(matrices: np.ndarray) -> np.ndarray:
    quat = matrix_to_quat(SWAP @ matrices[..., :3, :3] @ SWAP)
    return np.concatenate([matrices[..., :3, 3] @ SWAP, quat[..., [1, 2, 3, 0]]], -1).astype("<f4")


def box_of(bone: int, centre: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A small cube (8, 3) round a bone's head and its faces (12, 3), outwards."""
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * 0.12
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = [t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))]
    return corners + centre, np.array(faces) + 8 * bone


SOCKET = np.array([0.1, 0.2, 0.3, 0.0, 0.6, 0.0, 0.8])  # place and xyzw, from the bone of the head


def pmd(inside_out: bool = False, socket: bytes = b"") -> bytes:
    rest = bones_at_rest()
    boxes = [box_of(b, rest[b, :3, 3]) for b in range(len(rest))]
    vertices, faces = (np.concatenate(x) for x in zip(*boxes, strict=True))
    vertices = np.concatenate([vertices, np.eye(3) * 50])  # a triangle that no bone holds
    faces = np.concatenate([faces, np.arange(3)[None] + 8 * len(rest)])
    out = [struct.pack("<I", len(vertices)), struct.pack("<I", 2)]
    for i, place in enumerate(vertices @ SWAP):
        # the first of two texture maps counts: left half of the picture for the trunk, right half for the legs
        out.append(struct.pack("<3f3f2f2f", *place, 0, 1, 0, 0.25 if i < 32 else 0.75, 0.25, 0.9, 0.9))
        out.append(struct.pack("<4B4f", i // 8 if i < 8 * len(rest) else 255, 255, 255, 255, 1, 0, 0, 0))
    out += [struct.pack("<I", len(faces)), faces[:, :: -1 if inside_out else 1].astype("<u2").tobytes()]
    out += [struct.pack("<I", len(rest)), states(rest).tobytes(), struct.pack("<I", bool(socket)), socket]
    body = b"".join(out)
    return b"PSMD" + struct.pack("<II", 4, len(body)) + body


def socket_of(name: bytes = b"head", bone: int = 3) -> bytes:
    return struct.pack("<I", len(name)) + name + struct.pack("<7fB", *SOCKET, bone)


def head_pmd() -> bytes:
    """A tetrahedron without bones, one unit along each of the file's axes."""
    out = [struct.pack("<II", 4, 1)]
    out += [struct.pack("<3f3f2f4B4f", *p, 0, 1, 0, 0.75, 0.25, *[255] * 4, *[0] * 4) for p in HEAD]
    faces = np.array([[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2]], "<u2")
    out += [struct.pack("<I", 4), faces.tobytes(), struct.pack("<II", 0, 0)]
    body = b"".join(out)
    return b"PSMD" + struct.pack("<II", 4, len(body)) + body


HEAD = np.vstack([np.zeros(3), np.eye(3)])


def psa(poses: np.ndarray, rate: float = RATE) -> bytes:
    body = (
        struct.pack("<I4sfII", 4, b"walk", 1000 / rate, poses.shape[1], len(poses)) + states(poses).tobytes()
    )
    return b"PSSA" + struct.pack("<II", 1, len(body)) + body


def xml() -> bytes:
    def inside(parent: int) -> str:
        return "".join(
            f'<bone name="{n}">{inside(i)}</bone>'
            for i, (n, p) in enumerate(zip(NAMES, PARENTS, strict=True))
            if p == parent
        )

    return f'<skeletons><standard_skeleton id="toy">{inside(-1)}</standard_skeleton></skeletons>'.encode()


def dds() -> bytes:
    from PIL import Image

    pixels = np.zeros((4, 8, 3), np.uint8)
    pixels[2:, :4], pixels[2:, 4:] = (200, 100, 50), (10, 20, 30)  # the lower half: v runs upwards
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "DDS")
    return out.getvalue()


@pytest.fixture
def toy(monkeypatch) -> GameRig:
    spec = rigs_game.animal_spec(
        ("rump", ("rump", "breast"), "breast"),
        ("neck", "head"),
        tuple(f"f{i}_l" for i in range(4)),
        tuple(f"h{i}_l" for i in range(4)),
        swaps=(("_l", "_r"),),
    )
    rig = GameRig("toy", "toy", "toy", ("toy_",), spec)
    for name in list(GAME_RIGS):
        monkeypatch.delitem(GAME_RIGS, name)
    monkeypatch.setitem(GAME_RIGS, "0ad_toy", rig)
    return rig


def files(**changed: bytes) -> dict[str, bytes]:
    return {
        "art/meshes/skeletal/toy.dae.cached.pmd": changed.get("mesh", pmd()),
        "art/skeletons/toy.xml": changed.get("bones", xml()),
        "art/animation/quadraped/toy_walk.dae.cached.psa": changed.get("walk", psa(motion())),
        "art/animation/quadraped/toy_other.psa": psa(motion()[:, :5]),  # another skeleton's
        "art/textures/skins/skeletal/toy.png.cached.dds": dds(),
    }


def packed(path: Path, content: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


def test_the_game_s_animal_moves_as_it_did(tmp_path, toy):
    source = packed(tmp_path / "public.zip", files())
    assert baking.main_bake([str(source), "--out", str(tmp_path / "rigs"), "--fps", "30"]) == 0
    rig = load_rig(tmp_path / "rigs/0ad_toy.npz")
    assert rig.bone_names == tuple(NAMES) and list(rig.bone_parents) == PARENTS
    assert rig.clip_names == ("toy_walk",) and rig.fps == 30 and len(rig.pose) == 7

    scale = 0.6 / 2.0  # the torso of the file is two units long
    heads = bones_at_rest()[:, :3, 3]
    low = heads[:, 2].min() - 0.12
    middle = (heads[:, 1].min() + heads[:, 1].max()) / 2
    np.testing.assert_allclose(rig.bone_heads, (heads - [0, middle, low]) * scale, atol=1e-5)

    outwards = len(NAMES) * (0.24 * scale) ** 3
    np.testing.assert_allclose(volume(rig.vertices, rig.faces), outwards, rtol=1e-4)

    own = rig.skin_index[np.arange(len(rig.vertices)), rig.skin_weight.argmax(1)]
    np.testing.assert_allclose(np.abs(rig.vertices - rig.bone_heads[own]), 0.12 * scale, atol=1e-5)
    np.testing.assert_allclose(rig.colours[own < 4], np.tile([200, 100, 50], (32, 1)) / 255, atol=1e-6)
    np.testing.assert_allclose(rig.colours[own >= 4], np.tile([10, 20, 30], (128, 1)) / 255, atol=1e-6)

    # the skin's transforms are those of the motion, seen from the baked body's place
    true = motion() @ np.linalg.inv(bones_at_rest())
    offset = np.array([0, middle, low])
    place = rig.vertices / scale + offset
    true = true[:, own]
    moved = np.einsum("tnij,nj->tni", true[..., :3, :3], place) + true[..., :3, 3]
    got = rig.skin_transforms(slice(0, 7))[:, own]
    baked = np.einsum("tnij,nj->tni", got[..., :3, :3], rig.vertices) + got[..., :3, 3]
    np.testing.assert_allclose(baked, (moved - offset) * scale, atol=1e-4)


def test_a_head_made_apart_sits_where_the_mesh_has_its_place(tmp_path, toy, monkeypatch):
    rig = dataclasses.replace(toy, head=("toy_head", "toy_face"))
    monkeypatch.setitem(rigs_game.GAME_PEOPLE, "0ad_toy", rig)
    content = files(mesh=pmd(socket=socket_of())) | {
        "art/meshes/props/toy_head.dae.cached.pmd": head_pmd(),
        "art/textures/skins/props/head/toy_face.png.cached.dds": dds(),
    }
    found = pyrogenesis.read_game_rig(pyrogenesis.GameFiles(packed(tmp_path / "a.zip", content)), rig, 30)
    place, weight, colour = (found[k][-12:] for k in ("position", "weight", "colour"))
    corners = np.unique(place.round(6), axis=0)
    turn = rotvec_to_matrix(
        np.array([0, 2 * np.arcsin(0.6), 0])
    )  # the quaternion's, left-handed as the file is
    at_rest = states(bones_at_rest()[3:4])[0].astype(np.float64)
    bone = pyrogenesis.to_matrices(at_rest)
    expected = (SWAP @ (HEAD @ turn.T + SOCKET[:3]).T).T @ bone[:3, :3].T + bone[:3, 3]
    np.testing.assert_allclose(corners, np.unique(expected.round(6), axis=0), atol=2e-6)
    assert (weight[:, 3] == 1).all() and (weight.sum(1) == 1).all()
    np.testing.assert_allclose(colour, np.tile([10, 20, 30], (12, 1)) / 255, atol=1e-6)
    assert len(found["position"]) - 12 == len(
        pyrogenesis.read_game_rig(pyrogenesis.GameFiles(packed(tmp_path / "b.zip", content)), toy, 30)[
            "position"
        ]
    )
    for name, socket in {"none": b"", "nowhere": socket_of(bone=255)}.items():
        content["art/meshes/skeletal/toy.dae.cached.pmd"] = pmd(socket=socket)
        with pytest.raises(TrainingError, match="no bone that carries the head"):
            pyrogenesis.read_game_rig(
                pyrogenesis.GameFiles(packed(tmp_path / f"{name}.zip", content)), rig, 30
            )


def test_people_are_baked_when_they_are_asked_for(tmp_path, toy, monkeypatch):
    for name in list(rigs_game.GAME_PEOPLE):
        monkeypatch.delitem(rigs_game.GAME_PEOPLE, name)
    monkeypatch.setitem(rigs_game.GAME_PEOPLE, "0ad_toy_person", toy)
    source = packed(tmp_path / "public.zip", files())
    assert baking.main_bake([str(source), "--people", "--out", str(tmp_path / "rigs")]) == 0
    assert [p.name for p in (tmp_path / "rigs").iterdir()] == ["0ad_toy_person.npz"]


def test_a_surface_inside_out_is_turned(tmp_path, toy):
    volumes = []
    for name, mesh in {"kept": pmd(), "turned": pmd(inside_out=True)}.items():
        baking.bake_game(packed(tmp_path / f"{name}.zip", files(mesh=mesh)), tmp_path / name)
        rig = load_rig(tmp_path / name / "0ad_toy.npz")
        volumes.append(volume(rig.vertices, rig.faces))
    assert volumes[0] > 0
    np.testing.assert_allclose(volumes[1], volumes[0], rtol=1e-6)


def test_a_folder_serves_as_well_and_what_is_done_is_left(tmp_path, toy):
    for name, data in files().items():
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (done,) = baking.bake_game(tmp_path / "data", tmp_path / "rigs", fps=30)
    before = done.stat().st_mtime_ns
    assert baking.bake_game(tmp_path / "data", tmp_path / "rigs") == [done]
    assert done.stat().st_mtime_ns == before


def test_another_rate_keeps_time_and_place():
    bones = states(motion()).astype(np.float64)
    slower = pyrogenesis.at_rate(bones, RATE, 20.0)
    assert len(slower) == 5  # 0, 1.5, 3, 4.5, 6 of seven frames
    np.testing.assert_allclose(slower[2], bones[3], atol=1e-6)
    half = pyrogenesis.to_matrices(slower[1:2])[0]
    between = motion()[1, 0, :3, :3] @ rotvec_to_matrix(bones_at_rest()[0, :3, :3].T @ [0, 0, 0.05])
    np.testing.assert_allclose(half[0, :3, :3], between, atol=1e-5)
    np.testing.assert_allclose(slower[1, :, :3], (bones[1, :, :3] + bones[2, :, :3]) / 2, atol=1e-6)


def test_the_command_says_what_is_missing(tmp_path, toy, capsys):
    (tmp_path / "empty").mkdir()
    for name, reason in (
        ("none.zip", "none.zip does not exist; Debian's package"),
        ("empty", "empty holds no rig that is known"),
        ("nope", "nope: there is no such folder"),
    ):
        assert training(["bake", str(tmp_path / name), "--out", str(tmp_path / "rigs")]) == 1
        assert reason in capsys.readouterr().err


def test_what_is_wrong_with_a_file_is_said(tmp_path, toy):
    with pytest.raises(TrainingError, match=r"no \.pmd mesh"):
        pyrogenesis.read_pmd(b"PSSA" + pmd()[4:])
    with pytest.raises(TrainingError, match="version 7"):
        pyrogenesis.read_pmd(b"PSMD" + struct.pack("<I", 7) + pmd()[8:])
    with pytest.raises(TrainingError, match="mesh is cut short"):
        pyrogenesis.read_pmd(pmd()[:-40])
    with pytest.raises(TrainingError, match=r"no \.psa animation"):
        pyrogenesis.read_psa(pmd())
    with pytest.raises(TrainingError, match="animation is cut short"):
        pyrogenesis.read_psa(psa(motion())[:-4])
    with pytest.raises(TrainingError, match="lists no bones"):
        pyrogenesis.read_bones(b"<skeletons/>")
    other = packed(tmp_path / "other.zip", files(bones=xml().replace(b'<bone name="head"></bone>', b"")))
    with pytest.raises(TrainingError, match="toy has 20 bones and toy 19"):
        baking.bake_game(other, tmp_path / "rigs")
    content = files()
    del content["art/meshes/skeletal/toy.dae.cached.pmd"]
    with pytest.raises(FileNotFoundError, match=r"holds no art/meshes/skeletal/toy"):
        baking.bake_game(packed(tmp_path / "less.zip", content), tmp_path / "rigs")
    (tmp_path / "broken.zip").write_bytes(b"PK, but no archive")
    with pytest.raises(TrainingError, match=r"broken\.zip is no zip archive"):
        baking.bake_game(tmp_path / "broken.zip", tmp_path / "rigs")
    with pytest.raises(FileNotFoundError, match=r"none\.zip does not exist"):
        baking.bake_game(tmp_path / "none.zip", tmp_path / "rigs")
    assert not (tmp_path / "rigs").exists()  # nothing half-written


def test_a_baked_animal_of_the_game_can_be_mapped(tmp_path, toy):
    category = toy_category_in_memory()
    baking.bake_game(packed(tmp_path / "public.zip", files()), tmp_path / "rigs")
    rig = load_rig(tmp_path / "rigs/0ad_toy.npz")
    mapped = rig_map(rig, category.skeleton.names, category.body.joints)
    names = category.skeleton.names
    for joint in rigs_game.LEGS:
        left, right = (mapped.point[names.index(f"{joint}.{s}")] for s in "LR")
        np.testing.assert_allclose(left * [-1, 1, 1], right, atol=1e-6)
        assert left[0] > 0


def test_the_shipped_tables_are_of_both_sides_alike():
    for name, rig in GAME_RIGS.items():
        links = rig.spec.links
        assert known_animals()[name] is rig.spec
        for joint in rigs_game.LEGS:
            left, right = links[f"{joint}.L"], links[f"{joint}.R"]
            assert set(left.bones).isdisjoint(right.bones), (name, joint)
            assert (left.point is None) == (right.point is None)
        assert len(rig.spec.sides) == 2
    for rig in rigs_game.GAME_PEOPLE.values():
        for joint in ("upper_arm", "thigh"):
            left, right = (rig.spec.links[f"{joint}.{s}"].bones[0] for s in "LR")
            assert left == right.replace("_R", "_L") != right
