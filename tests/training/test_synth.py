# SPDX-License-Identifier: GPL-3.0-or-later
"""Synthetic clips: labels must sit on the picture, exactly; damage must stay what it says; runs must resume."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import toy

from dasr_blender.core.camera import project, transform
from dasr_blender.core.motion import Motion
from dasr_blender.core.raster import silhouette

pytest.importorskip("scipy")

from dasr_blender.training.errors import TrainingError
from dasr_blender.training.synth import bodies, clips, corrupt, subjects
from dasr_blender.training.synth import camera as cameras
from dasr_blender.training.synth.coat import random_coat
from dasr_blender.training.synth.render import Light, NormalSolver, Renderer, RenderUnavailable

CLEAN = corrupt.CorruptConfig(
    occluder=0, exposure=0, noise=0, clean_mask=1, low_light=0, defocus=0, small=0, shaken=0
)


@pytest.fixture(scope="module")
def renderer():
    pytest.importorskip("moderngl")
    try:
        made = Renderer()
    except RenderUnavailable as error:
        pytest.skip(str(error))
    yield made
    made.close()


@pytest.fixture(scope="module")
def category():
    return toy.toy_category_in_memory()


def a_rig(category, seed: int = 0, frames: int = 30) -> subjects.MappedRig:
    """The toy body itself as a rig, posed by known rotations, its root moving through the world."""
    from dasr_blender.core.rotation import rotvec_to_matrix
    from dasr_blender.core.skeleton import skin_transforms

    rng = np.random.default_rng(seed)
    beta = rng.normal(0, 0.1, len(category.morphology))
    rest, joints = category.body.shaped(beta)
    rotations = toy.toy_rotations(category.skeleton, frames, seed=seed)
    world = np.tile(np.eye(4), (frames, 1, 1))
    world[:, :3, :3] = rotvec_to_matrix(np.linspace(0, 1, frames)[:, None] * rng.normal(0, 0.5, 3))
    world[:, :3, 3] = np.linspace(0, 0.5, frames)[:, None] * rng.normal(size=3) + [0, 0, 0.5]
    return subjects.MappedRig(
        "toy",
        rest,
        category.body.faces,
        category.body.appearance_mean,
        category.body.skin_index,
        category.body.skin_weight,
        world[:, None] @ skin_transforms(category.skeleton, joints, rotations),
        ("walk",),
        np.array([[0, frames]]),
        world,
        rotations,
        beta,
        np.ones(len(category.skeleton)),
    )


def config(tmp_path: Path, **changes) -> clips.SynthConfig:
    return clips.SynthConfig(
        **{
            "rigs": tmp_path,
            "out": tmp_path / "set",
            "workers": 1,
            "frames": 4,
            "blur_share": 0.0,
            "hair_share": 0.0,
            "corrupt": CLEAN,
            **changes,
        }
    )


def test_render_covers_the_same_pixels_as_the_numpy_rasteriser(renderer, category):
    body, size = category.body, (160, 120)
    matrix = cameras.look_at(
        np.array([[1.2, -1.5, 0.8], [-1.0, 1.6, 0.1]]), np.zeros((2, 3)), np.array([0.0, 0.3])
    )
    seen = transform(matrix, body.vertices)
    focal, centre = np.array([150.0, 140.0]), np.array([85.0, 55.0])
    rng = np.random.default_rng(0)
    rgba = renderer.render(
        seen.astype(np.float32),
        body.faces,
        focal,
        centre,
        size,
        random_coat(rng, body.vertices),
        Light(np.array([0, 0, 1.0]), np.ones(3), np.ones(3) * 0.3, np.zeros(3)),
        matrix,
        NormalSolver(body.vertices, body.faces)(seen),
    )
    pixels = np.concatenate([project(seen, focal, centre), seen[..., 2:]], axis=-1)
    expected = silhouette(pixels, body.faces, size)
    assert expected.sum() > 2000
    assert ((rgba[..., 3] > 0) != expected).mean() < 5e-4
    assert rgba[..., :3][rgba[..., 3] > 0].std() > 2


@pytest.mark.parametrize(("source", "least"), [("rig", 0.95), ("body", 0.99), ("skin", 0.8)])
def test_labels_lie_on_the_picture(renderer, category, tmp_path, source, least):
    settings = config(tmp_path, rig_share=float(source == "rig"), skin_share=float(source == "skin"))
    rigs = [a_rig(category)]
    for number in range(6):
        clip = clips.make_clip(number, settings, category, rigs, renderer)
        motion = clip.motion.validate(category)
        points = transform(motion.camera_from_root, category.posed_vertices(motion))
        pixels = np.concatenate(
            [project(points, motion.focal_px, motion.principal_point), points[..., 2:]], -1
        )
        drawn = silhouette(
            pixels, category.body.faces, (int(motion.image_size[0]), int(motion.image_size[1]))
        )
        masks = clip.masks > 127
        iou = (drawn & masks).sum((1, 2)) / (drawn | masks).sum((1, 2))
        # Between two stored poses a rig's vertices move in straight lines and its labels on arcs; a skin goes
        # along with several vertices of the body, and this toy's are far apart.
        assert clip.meta["source"] == source and iou.min() > least


def test_the_cameras_up_is_up_and_left_is_on_the_right_seen_from_the_front(category):
    """Front view: the animal looks at us, so its left (+X) is on the picture's right."""
    matrix = cameras.look_at(np.array([[0, -3.0, 0.3]]), np.zeros((1, 3)), np.zeros(1))
    left, top = transform(matrix, np.array([[1.0, 0, 0], [0, 0, 1.0]]))[0]
    assert left[0] > 0.9 and top[1] < -0.9


def test_cameras_frame_the_subject(category):
    rng = np.random.default_rng(5)
    vertices = np.tile(category.body.vertices, (6, 1, 1)).astype(np.float64)
    settings = cameras.CameraConfig(cut_share=0.0)
    inside, pitch = [], []
    for _ in range(60):
        path = cameras.random_camera(rng, vertices, np.arange(6) / 24, (320, 240), settings)
        seen = transform(path.camera_from_world, vertices)
        assert seen[..., 2].min() > 0
        pixel = project(seen, path.focal_px, path.principal_point)
        inside.append(((pixel > -5) & (pixel < [325, 245])).all(-1).mean())
        eye = -path.camera_from_world[0, :3, :3].T @ path.camera_from_world[0, :3, 3]
        pitch.append(np.degrees(np.arctan2(eye[2], np.hypot(eye[0], eye[1]))))
    assert np.mean(inside) > 0.93
    assert min(pitch) > -30 and max(pitch) < 70 and np.mean(np.abs(np.subtract(pitch, 12.5)) < 20) > 0.6


def test_occluders_and_mask_errors(category):
    mask = np.zeros((3, 120, 160), np.uint8)
    mask[:, 30:90, 40:120] = 255
    image = np.zeros((3, 120, 160, 3), np.uint8)
    changed = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        images, masks = corrupt.occluders(rng, image, mask, corrupt.CorruptConfig())
        assert not (masks & ~mask).any() and (mask[0] == mask[2]).all()
        assert (masks > 0).sum() >= corrupt.CorruptConfig().least_visible * (mask > 0).sum()
        changed += bool((masks != mask).any())
        lost = (mask > 0) & (masks == 0)
        assert images[~lost & (mask > 0)].max(initial=0) == 0  # what is still subject was not painted over
    assert changed > 20
    overlap = []
    parts = np.tile(np.array([[45.0, 88, 9], [115, 88, 9]]), (3, 1, 1))
    for seed in range(60):
        out = corrupt.mask_errors(np.random.default_rng(seed), mask, parts, corrupt.CorruptConfig())
        assert set(np.unique(out)) <= {0, 255}
        overlap.append(((out > 0) & (mask > 0)).sum() / ((out > 0) | (mask > 0)).sum())
    assert 0.2 < np.mean(np.array(overlap) == 1) < 0.7 and np.mean(overlap) > 0.8 and min(overlap) > 0.25


def test_random_bodies_stay_within_range_and_limits(category):
    low, high = category.morphology_range.T
    for seed in range(40):
        rng = np.random.default_rng(seed)
        subject = bodies.body_subject(rng, category, [a_rig(category, seed)], 3, 24.0)
        assert (subject.morphology >= low).all() and (subject.morphology <= high).all()
        from dasr_blender.core.rotation import quat_to_rotvec

        vectors = quat_to_rotvec(subject.joint_rotations)
        limits = category.skeleton.limits
        assert (vectors >= limits[..., 0] - 1e-6).all() and (vectors <= limits[..., 1] + 1e-6).all()
        assert np.allclose(subject.joint_rotations[:, 0], [1, 0, 0, 0])


def test_a_rigs_surface_takes_on_other_proportions_and_motions(category):
    from dasr_blender.training.synth import skins

    rig = a_rig(category, 3)
    skin = skins.skin_of(rig, category)
    size = float(np.ptp(category.body.vertices, axis=0).max())
    rest = category.body.shaped(rig.morphology)[0]
    apart = np.linalg.norm(skin.vertices - rest, axis=1)
    assert np.median(apart) < 0.01 * size and np.percentile(apart, 95) < 0.04 * size
    other = a_rig(category, 8)  # what the category's own body does with these is the truth
    labels = other.morphology * 2.0, other.joint_rotations, other.world_from_root
    _, wanted = subjects.body_in_world(category, *labels)
    _, found = skin.in_world(category, *labels)
    apart = np.linalg.norm(found - wanted, axis=-1)
    moved = np.linalg.norm(subjects.body_in_world(category, rig.morphology, *labels[1:])[1] - wanted, axis=-1)
    assert np.median(apart) < 0.015 * size and np.median(apart) < np.median(moved)
    subject = bodies.body_subject(np.random.default_rng(0), category, [rig, other], 3, 24.0, skin)
    assert subject.source == "skin" and subject.vertices.shape == (3, len(rig.vertices), 3)


def test_some_animals_go_crouched_and_only_by_their_legs(category):
    drawn = [bodies._bearing(np.random.default_rng(seed), category.skeleton) for seed in range(60)]
    legs = np.array([name.startswith(("front_", "hind_")) for name in category.skeleton.names])
    still = [not vectors.any() for vectors in drawn]
    assert 15 < sum(still) < 45
    assert not any(vectors[0, ~legs].any() or vectors[..., 1:].any() for vectors in drawn)
    bent = np.stack([v[0, category.skeleton.names.index("hind_lower.L"), 0] for v in drawn if v.any()])
    assert bent.min() < 0 < bent.max() and bent.max() > np.deg2rad(25)
    left, right = (category.skeleton.names.index(f"hind_foot.{side}") for side in "LR")
    assert all(np.array_equal(v[0, left], v[0, right]) for v in drawn)


def test_generation_is_whole_seeded_and_goes_on_where_it_stopped(renderer, tmp_path, monkeypatch):
    pytest.importorskip("torch")
    from dasr_blender.training.synth import mapped

    path = toy.save_toy_category(tmp_path / "bundle")
    category = clips.load_category(path)
    monkeypatch.setattr(mapped, "load_mapped_rigs", lambda *_: [a_rig(category)])
    settings = config(tmp_path, category=str(path), clips=3, corrupt=corrupt.CorruptConfig(), blur_share=0.5)
    assert clips.generate(settings) == 3
    first = clips.clip_folder(settings.out, 1)
    before = (first / "motion.npz").read_bytes(), (first / "frames" / "00002.jpg").read_bytes()
    assert len(list((first / "frames").iterdir())) == len(list((first / "masks").iterdir())) == 4
    mask = cv2.imread(str(first / "masks" / "00000.png"), cv2.IMREAD_GRAYSCALE)
    assert set(np.unique(mask)) == {0, 255}
    meta = json.loads((first / "meta.json").read_text())
    assert {"rig", "source", "split", "seed"} <= set(meta)
    Motion.load(first / "motion.npz").validate(category)
    assert (settings.out / "body.npz").exists()
    import shutil

    shutil.rmtree(first)
    (settings.out / ".000001.part1").mkdir()
    assert clips.generate(settings) == 1
    assert not list(settings.out.glob(".*"))
    assert (first / "frames" / "00002.jpg").read_bytes() == before[1]
    assert np.array_equal(Motion.load(first / "motion.npz").camera_from_root[0].shape, (4, 4))
    # more clips of the same settings, made by other workers, go beside them; those of others do not
    assert clips.generate(replace(settings, clips=4, workers=1, gl="auto")) == 1
    with pytest.raises(TrainingError, match=r"00000. was made with other settings: choose another --out"):
        clips.generate(replace(settings, blur_share=0.1))
    assert clips.generate(replace(settings, blur_share=0.1, first=10, clips=1)) == 1


def test_a_clip_of_one_frame_may_be_blurred_too(renderer, category, tmp_path):
    settings = config(tmp_path, frames=1, blur_share=1.0, corrupt=corrupt.CorruptConfig())
    clip = clips.make_clip(0, settings, category, [a_rig(category)], renderer)
    assert clip.meta["sub_frames"] == 3 and clip.frames.shape[0] == len(clip.motion) == 1


def test_a_split_without_a_rig_is_refused(category, tmp_path, monkeypatch):
    """Its clips would all show the category's own body, and pass for clips of rigs that were held out."""
    pytest.importorskip("torch")
    from dasr_blender.training.errors import TrainingError
    from dasr_blender.training.synth import makers, mapped

    monkeypatch.setattr(mapped, "mapped_names", lambda folder: ["wolf"])
    with pytest.raises(TrainingError, match="holds no rig of the split 'held-out'"):
        makers.maker_for(category).rigs(config(tmp_path, split="held-out", hold_out=("Husky",)), category)


def test_dispatcher_names_every_command_and_refuses_others(capsys):
    from dasr_blender.training.__main__ import COMMANDS, main

    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in COMMANDS)
    assert main(["no-such"]) == 2
    assert "no-such" in capsys.readouterr().err


def test_a_mapped_rig_comes_in_the_categorys_units(category, tmp_path, monkeypatch):
    """A rig stored twice as large as the body, with its mapping, must lie where its labels say."""
    pytest.importorskip("torch")
    from dasr_blender.training.synth import mapped, mapping, mapping_check, rigs

    known = a_rig(category, seed=4)
    joints = category.body.shaped(known.morphology)[1]
    names, count = category.skeleton.names, len(category.skeleton)
    rest = np.tile(np.eye(4), (count, 1, 1))
    rest[:, :3, 3] = 2 * joints
    pose = known.skin_pose.copy()
    pose[..., :3, 3] *= 2
    np.savez(
        tmp_path / "made.npz",
        vertices=2 * known.vertices,
        faces=known.faces,
        colours=known.colours,
        point_index=np.arange(len(known.vertices)),
        skin_index=known.skin_index,
        skin_weight=known.skin_weight,
        bone_names=np.array(names),
        bone_parents=category.skeleton.parents,
        bone_rest=rest,
        bone_heads=rest[:, :3, 3],
        bone_tails=rest[:, :3, 3],
        clip_names=np.array(["walk", "broken"]),
        clip_start=np.array([0, 20, 30]),
        pose=pose @ rest,
        fps=24.0,
    )
    motion = mapping.RigMotion(
        "made",
        category.name,
        category.version,
        2.0,
        known.morphology,
        known.joint_rotations,
        known.world_from_root,
        np.array(["walk", "broken"]),
        np.array([0, 20, 30]),
        0.0,
        0.0,
        mapping_check.body_hash(category),
    )
    motion.save(tmp_path / "made.mapping.npz")
    links = {n: rigs.Link((n,), n) for n in names if not n.startswith("ear")}
    spec = rigs.RigSpec(links=links, skip_clips=("broken",))
    monkeypatch.setitem(rigs.RIGS, "made", spec)
    assert mapped.mapped_names(tmp_path) == ["made"]
    assert mapped.load_mapped_rigs(tmp_path, category, "train", ("made",)) == []
    (loaded,) = mapped.load_mapped_rigs(tmp_path, category, "held-out", ("made",))
    assert loaded.clip_names == ("walk",) and loaded.clip_range.tolist() == [[0, 20]]
    low = {n for n, c in zip(names, loaded.joint_confidence, strict=True) if c < 1}
    assert low == {"ear.L", "ear.R"}
    subject = subjects.rig_subject(np.random.default_rng(0), category, loaded, 5, 24.0)
    body = category.posed_vertices(subject.morphology, subject.joint_rotations)
    body = transform(subject.world_from_root, body)
    assert np.abs(body - subject.vertices).max() < 0.02
    with pytest.raises(FileNotFoundError, match="map"):
        mapped.mapped_names(tmp_path / "nowhere")


def test_an_opengl_that_is_not_there_is_named(renderer):
    assert renderer.name
    with pytest.raises(TrainingError, match="platform"):
        Renderer("opengl")
    with pytest.raises(RenderUnavailable, match="egl"):
        Renderer("egl:99")


def test_hair_grows_the_outline_where_it_is_long_and_frays_it(renderer, category):
    body, size = category.body, (160, 120)
    matrix = cameras.look_at(np.array([[1.6, -0.9, 0.4]]), np.zeros((1, 3)), np.zeros(1))
    seen = transform(matrix, body.vertices[None]).astype(np.float32)
    normals = NormalSolver(body.vertices, body.faces)(seen)
    light = Light(np.array([0, 0, 1.0]), np.ones(3), np.ones(3) * 0.3, np.zeros(3))

    def covered(hair: np.ndarray | None) -> np.ndarray:
        coat = replace(random_coat(np.random.default_rng(1), body.vertices, hair=hair), droop=0.0)
        centre, focal = np.array([80.0, 60.0]), np.array([150.0])
        pixels = renderer.render(
            seen, body.faces, focal, centre, size, coat, light, matrix, normals, closed=True
        )
        return pixels[0, ..., 3] > 0

    bare, none, long = (covered(h) for h in (None, np.zeros(len(seen[0])), np.full(len(seen[0]), 0.06)))
    assert (bare != none).mean() < 1e-3 and not (bare & ~long).any()
    assert 1.1 < long.sum() / bare.sum() < 1.8

    def swollen(by: float) -> np.ndarray:
        points = seen + by * normals
        pixel = project(points, np.array([150.0]), np.array([80.0, 60.0]))
        return silhouette(np.concatenate([pixel, points[..., 2:]], -1), body.faces, size)[0]

    fringe = swollen(0.06 * 0.9) & ~swollen(0.06 * 0.25)
    assert fringe.sum() > 300 and 0.15 < long[fringe].mean() < 0.85  # single hairs, neither bare nor solid


def test_each_gait_moves_its_legs_in_its_own_order(tmp_path):
    from dasr_blender.core.category import load_category
    from dasr_blender.training.synth import gait

    skeleton = load_category("quadruped").skeleton
    legs = gait.legs_of(skeleton)
    seconds = np.arange(480) / 60
    for name in ("trot", "pace", "bound"):
        same = {"trot": (0, 3), "pace": (0, 2), "bound": (0, 1)}[name]
        agree = []
        for seed in range(12):
            vectors, kind = gait.gait(np.random.default_rng(seed), skeleton, seconds, name)
            assert np.abs(np.delete(vectors, legs.reshape(-1), axis=1)).max() == 0
            assert np.abs(np.diff(vectors, axis=0)).max() < 0.5  # no foot jumps
            upper = vectors[:, legs[:, 0], 0]
            if kind == name:
                agree.append(np.corrcoef(upper[:, same[0]], upper[:, same[1]])[0, 1])
        assert len(agree) > 6 and np.mean(agree) > 0.8


def test_made_poses_lie_within_limits_mostly_and_tails_are_carried_every_way():
    from dasr_blender.core.category import load_category
    from dasr_blender.training.synth import gait, species

    category = load_category("quadruped")
    limits, low = category.skeleton.limits, []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        joints, vectors = gait.tail(rng, category.skeleton, np.zeros(1))
        low.append(float(vectors[0, 0, 0]))
        head, turned = gait.head_carriage(rng, category.skeleton, np.zeros(1))
        outside = [
            (v < limits[j, :, 0]) | (v > limits[j, :, 1])
            for j, v in ((joints, vectors[0]), (head, turned[0]))
        ]
        assert np.mean(np.concatenate(outside)) < 0.35
        beta = species.random_morphology(rng, category, [])
        assert (beta >= category.morphology_range[:, 0]).all() and (
            beta <= category.morphology_range[:, 1]
        ).all()
    assert np.mean(np.array(low) < 0.2) > 0.3 and np.mean(np.array(low) > 0.6) > 0.15


def test_sheets_show_stills_and_rows_of_clips(renderer, category, tmp_path):
    from dasr_blender.training.synth.sheet import clip_strips, contact_sheet

    settings = config(tmp_path)
    folders = []
    settings.out.mkdir()
    for number in range(2):
        folders.append(clips.clip_folder(settings.out, number))
        clips.write_clip(
            clips.make_clip(number, settings, category, [a_rig(category)], renderer), folders[-1]
        )
    contact_sheet(folders, category, tmp_path / "stills.png", columns=2, tile=(80, 60))
    clip_strips(folders, category, tmp_path / "rows.png", columns=4, size=(80, 60))
    stills, rows = (cv2.imread(str(tmp_path / f"{n}.png")) for n in ("stills", "rows"))
    assert stills.shape == (60, 320, 3) and rows.shape == (120, 320, 3)
    assert stills.std() > 5 and rows[:60].std() > 5 and rows[60:].std() > 5
