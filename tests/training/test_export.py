# SPDX-License-Identifier: GPL-3.0-or-later
"""From training to use: a minute's student is exported into a bundle, run, and followed."""

from __future__ import annotations

import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from tiny_training import bundle_and_shard, three_steps

from dasr_blender.core import Category, CategoryError, Motion, load_category, mirror_rotations, save_category
from dasr_blender.core.pose_errors import PoseErrors
from dasr_blender.predict import PredictError, Student
from dasr_blender.training import distill, evaluate, export, export_small, pose_errors
from dasr_blender.training.errors import TrainingError
from dasr_blender.training.pack import pack
from dasr_blender.training.student.checkpoint import make_student, start_from
from dasr_blender.training.student.config import StudentConfig
from dasr_blender.training.student.data import NO_AUGMENT, Shard, augment
from dasr_blender.training.student.losses import BodySurface
from dasr_blender.training.student.shipped import read_shipped


@pytest.fixture(scope="module")
def trained(toy_category_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Category:
    """The toy category with a student that was trained for a few steps, in a bundle of its own."""
    folder = tmp_path_factory.mktemp("trained")
    bundle_and_shard(toy_category_folder, folder)
    bundle = folder / "toy"
    short = three_steps(bundle, folder / "shard", clip_batch=2)
    checkpoint = distill.train(replace(short, out=folder / "run", frame_steps=6, clip_steps=6, joint_maps=True))
    assert export.main(["--checkpoint", str(checkpoint), "--category", str(bundle), "--notes", "a test"]) == 0
    return load_category(bundle)


def test_the_bundle_documents_its_network(trained: Category) -> None:
    network, facts = trained.network, trained.training["student"]
    assert network.inputs == {"crops": ("T", 4, 64, 64), "crop_info": ("T", 3)}
    assert network.outputs["root_rotation"] == ("T", 6, 6) and network.opset == export.OPSET
    assert network.temporal_radius >= 6
    assert facts["onnx_difference"] <= 1e-4 and facts["steps"] == {"frames": 6, "clips": 6}
    assert facts["notes"] == "a test" and facts["ms_a_frame_two_cores"] > 0
    assert "predictor.onnx" in trained.hashes
    assert trained.training["made"] == "in code"  # what was known before is kept


def test_onnx_equals_torch_at_every_clip_length(trained: Category) -> None:
    assert trained.path is not None and trained.predictor_path is not None
    student = distill.load_student(checkpoint_of(trained), trained)
    assert export.parity(student, trained.predictor_path, (1, 2, 7, 40)) <= 1e-4


@pytest.mark.parametrize("half", [False, True])
def test_training_goes_on_from_a_bundle(trained: Category, tmp_path: Path, half: bool) -> None:
    assert trained.path is not None and trained.predictor_path is not None
    checkpoint = checkpoint_of(trained)
    old = distill.load_student(checkpoint, trained)
    source = trained.path
    if half:
        source = tmp_path / "predictor.onnx"
        export_small.half_weights(trained.predictor_path, source)
    new = make_student(old.config, trained)
    begun = {name: array.clone() for name, array in new.state_dict().items()}
    taken, left = start_from(new, source)
    before, after = old.state_dict(), new.state_dict()
    anew = {name for name in after if not torch.equal(before[name], after[name])} if not half else set()
    allowed = ("level.num_batches", "joint_maps.turn", "frame_heads.spread", "frame_heads.appearance")
    assert taken > 200 and left < 40 and all(name.startswith(allowed) for name in anew), anew
    assert not torch.equal(after["joint_maps.name"], begun["joint_maps.name"])
    crops, info = (torch.from_numpy(x) for x in crops_and_info(trained))
    with torch.no_grad():
        was, now = (net.eval()(crops.float() / 255, info) for net in (old, new))
    for name in export.OUTPUTS:
        assert (was[name] - now[name]).abs().max() < (5e-3 if half else 1e-5), name


@pytest.mark.parametrize("name", ["quadruped", "human"])
def test_training_can_go_on_from_what_is_shipped(name: str) -> None:
    category = load_category(name)
    assert category.path is not None and category.predictor_path is not None
    _, sizes = read_shipped(category.path)
    student = make_student(sizes, category)
    taken, left = start_from(student, category.path)
    assert taken > 390 and left <= 24
    assert export.parity(student, category.predictor_path, (3,)) <= 1e-4


def test_what_cannot_be_gone_on_from_says_so(trained: Category, tmp_path: Path) -> None:
    import onnx

    assert trained.predictor_path is not None
    model = onnx.load(str(trained.predictor_path))
    del model.metadata_props[:]
    onnx.save(model, str(tmp_path / "old.onnx"))
    new = make_student(distill.load_student(checkpoint_of(trained), trained).config, trained)
    with pytest.raises(TrainingError, match="give the checkpoint"):
        start_from(new, tmp_path / "old.onnx")
    (tmp_path / "text.onnx").write_text("no network")
    with pytest.raises(TrainingError, match="not an ONNX file"):
        start_from(new, tmp_path / "text.onnx")
    with pytest.raises(FileNotFoundError, match="no network at"):
        start_from(new, tmp_path)


def checkpoint_of(trained: Category) -> Path:
    assert trained.path is not None
    return trained.path.parent / "run" / "student.pt"


def crops_and_info(trained: Category) -> tuple[np.ndarray, np.ndarray]:
    assert trained.path is not None
    shard = Shard(trained.path.parent / "shard")
    batch = augment(shard.batch(np.arange(36)), 64, NO_AUGMENT, torch.Generator(), BodySurface(trained).twin)
    return (batch["crops"].numpy() * 255).round().astype(np.uint8), batch["crop_info"].numpy()


def test_features_far_from_zero_keep_their_last_digits(tmp_path: Path) -> None:
    import onnxruntime

    level = torch.nn.BatchNorm1d(8).eval()
    assert level.running_mean is not None and level.running_var is not None
    level.running_mean.fill_(5.0)
    level.running_var.fill_(9e-6)
    x = (5.0 + 0.003 * torch.randn(64, 8, generator=torch.Generator().manual_seed(0))).float()
    path = tmp_path / "level.onnx"
    torch.onnx.export(
        export._Levelled(level), (x,), str(path), input_names=["x"], dynamic_axes={"x": {0: "N"}}, dynamo=False
    )
    found = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {"x": x.numpy()})[0]
    wanted = (x.double() - 5.0) / np.sqrt(float(level.running_var[0]) + level.eps)
    assert wanted.abs().max() > 1 and np.abs(np.asarray(found) - wanted.numpy()).max() < 1e-5


def test_pieces_of_a_clip_give_what_the_whole_gives(trained: Category) -> None:
    crops, info = crops_and_info(trained)
    whole, pieces = (Student(trained, batch=n).run(crops, info) for n in (64, 5))
    for name in ("root_rotation", "root_translation", "root_logprob", "joint_rotations", "morphology"):
        assert np.abs(getattr(whole, name) - getattr(pieces, name)).max() < 1e-4, name
    assert np.allclose(np.exp(whole.root_logprob).sum(1), 1, atol=1e-4)
    assert np.allclose(np.linalg.det(whole.root_rotation), 1, atol=1e-5)
    assert (whole.joint_rotations[:, 0] == [1, 0, 0, 0]).all()
    assert whole.surface_map is not None and whole.surface_map.shape == (36, 16, 16, 3)
    assert whole.surface_confidence is not None and whole.surface_confidence.shape == (36, 16, 16)
    assert 0 <= whole.surface_confidence.min() and whole.surface_confidence.max() <= 1
    low, high = trained.morphology_range.T
    assert (whole.morphology >= low).all() and (whole.morphology <= high).all()


def test_wrong_input_is_refused(trained: Category, toy_category: Category, tmp_path: Path) -> None:
    crops, info = crops_and_info(trained)
    student = Student(trained)
    with pytest.raises(PredictError, match=r"takes \(T, 4, 64, 64\)"):
        student.run(crops[:, :3], info)
    with pytest.raises(PredictError, match="no frames"):
        student.run(crops[:0], info[:0])
    with pytest.raises(PredictError, match="uint8, 0…255, not float32"):
        student.run(crops.astype(np.float32) / 255, info)
    with pytest.raises(PredictError, match="crop_info is finite"):
        student.run(crops, np.full_like(info, np.nan))
    with pytest.raises(PredictError, match="no predictor"):
        Student(toy_category)
    broken = tmp_path / "predictor.onnx"
    broken.write_bytes(b"not a network")
    with pytest.raises(PredictError, match="cannot load"):
        Student(replace(trained, predictor_path=broken))


def test_a_changed_network_is_noticed(trained: Category, tmp_path: Path) -> None:
    assert trained.path is not None
    copied = shutil.copytree(trained.path, tmp_path / "toy")
    with open(copied / "predictor.onnx", "ab") as stream:
        stream.write(b"x")
    with pytest.raises(CategoryError, match="predictor.onnx"):
        load_category(copied)


def test_evaluation_scores_clips_and_its_own_truth(trained: Category, tmp_path: Path) -> None:
    assert trained.path is not None
    dataset = trained.path.parent / "clips"
    status = evaluate.main(
        ["--dataset", str(dataset), "--category", str(trained.path), "--out", str(tmp_path)]
    )
    assert status == 0
    result = evaluate.read(tmp_path / "scores.json")
    assert result["clips"] == 3 and result["frames"] == 36
    table = result["mean"]
    assert (
        0 <= table["iou"] <= 1
        and table["root_best_deg"] <= table["root_chosen_deg"]
        and table["mpjpe_cm"] > 0
    )
    assert (tmp_path / "scores.png").stat().st_size > 5000
    evaluate.publish(trained, result)
    assert trained.path is not None and load_category(trained.path).training["scores"]["mean"] == table
    truth = Motion.load(sorted(dataset.glob("*/motion.npz"))[0])
    perfect = evaluate.compare(trained, truth, truth)
    assert perfect["mpjpe_cm"].max() < 1e-3 and perfect["root_deg"].max() < 1e-3
    assert perfect["translation"].max() < 1e-6 and perfect["joints_deg"].max() < 1e-3


def test_two_opinions_do_not_know_left_from_right(trained: Category) -> None:
    """The mirrored clip gets the mirrored answer, hypotheses in exchanged order."""
    crops, info = crops_and_info(trained)
    crops, info = crops[:10], info[:10]
    student, plain = Student(trained), Student(trained, mirror=False)
    here = student.run(crops, info)
    there = student.run(np.ascontiguousarray(crops[..., ::-1]), info * np.array([-1, 1, 1]))
    assert here.root_rotation.shape == (10, 12, 3, 3) and plain.run(crops, info).root_rotation.shape[1] == 6
    flip = np.array([-1.0, 1.0, 1.0])
    swapped = np.r_[6:12, 0:6]
    assert np.allclose(flip[:, None] * there.root_rotation[:, swapped] * flip, here.root_rotation, atol=1e-4)
    assert np.allclose(there.root_translation[:, swapped] * flip, here.root_translation, atol=1e-4)
    assert np.allclose(np.exp(here.root_logprob).sum(1), 1, atol=1e-4)
    back = mirror_rotations(trained.skeleton, there.joint_rotations)
    assert np.allclose(np.abs((back * here.joint_rotations).sum(-1)), 1, atol=1e-5)
    assert np.allclose(there.morphology, here.morphology, atol=1e-5)


def test_the_networks_errors_come_from_clips_it_was_not_trained_on(
    trained: Category, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert trained.path is not None and trained.pose_errors is None  # exported without a shard
    checkpoint, shard = trained.path.parent / "run" / "student.pt", trained.path.parent / "shard"
    student = distill.load_student(checkpoint, trained)
    assert pose_errors.measure_pose_errors(student, trained, Shard(shard, 2)) is None  # too few frames to say
    monkeypatch.setattr(pose_errors, "LEAST_FRAMES", 1)
    monkeypatch.setattr(pose_errors, "_TURNED", 4.0)
    found = pose_errors.measure_pose_errors(student, trained, Shard(shard, 2))
    assert found is not None and found.problem(len(trained.skeleton)) is None
    folder = tmp_path / "toy"
    shutil.copytree(trained.path, folder)
    monkeypatch.setattr(export, "Shard", lambda path: Shard(path, 2))
    made = export.export(checkpoint, load_category(folder), folder, shard=shard)
    assert made.pose_errors is not None and "errors.npz" in made.hashes
    assert np.allclose(made.pose_errors.scale, found.scale, atol=1e-6)
    gone = export.export(checkpoint, made, folder)
    assert gone.pose_errors is None  # another network's errors are not kept
    assert export.changes(made, gone, None)[0].startswith("errors.npz of the network before is taken away: no --shard")


def test_what_was_true_of_the_network_before_is_dropped_and_said(
    trained: Category, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert trained.path is not None
    checkpoint, shard = trained.path.parent / "run" / "student.pt", trained.path.parent / "shard"
    bundle = Path(shutil.copytree(trained.path, tmp_path / "toy"))
    (bundle / "CARD.md").write_text("what it scores")
    claims = {"scores": {"mean": 1}, "ms_a_frame_two_cores": 4.9, "notes": "hand-made", "refiner": {"steps": 1}}
    before = replace(
        trained, path=bundle, training={**trained.training, **claims}, pose_errors=PoseErrors.unknown(30)
    )
    save_category(before, bundle)
    usual = ["--checkpoint", str(checkpoint), "--category", str(bundle), "--shard", str(shard)]
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert export.main(usual) == 0  # the same network once more
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 2 and "errors.npz of the network before is taken away: the validation clips of" in said[0]
    assert load_category(bundle).training.keys() >= claims.keys()

    state = torch.load(checkpoint, weights_only=True)
    state["student"]["heads.root.bias"] += 0.01
    torch.save(state, tmp_path / "student.pt")
    assert export.main(["--checkpoint", str(tmp_path / "student.pt"), *usual[2:]]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[1] == "no longer in category.json, since of the network before: scores, ms_a_frame_two_cores, notes"
    assert said[2] == f"still of the network before: version {trained.version}, CARD.md"
    facts = load_category(bundle).training
    assert facts.keys() == {"made", "student", "refiner"} and facts["student"]["ms_a_frame_two_cores"] > 0
    assert (bundle / "CARD.md").read_text() == "what it scores"


def test_a_shard_for_other_crops_measures_nothing(trained: Category, tmp_path: Path) -> None:
    assert trained.path is not None
    pack(trained.path.parent / "clips", tmp_path / "shard", trained, crop=32)
    with pytest.raises(TrainingError, match="holds crops of 32 pixels, but the network takes 64"):
        export.export(trained.path.parent / "run" / "student.pt", trained, tmp_path, shard=tmp_path / "shard")


def test_a_bundle_says_what_its_network_is_made_of() -> None:
    plain = StudentConfig(surface=False, hypotheses=1, temporal="none")
    assert export._architecture(plain) == "EfficientNet-Lite0, temporal none"
    assert "resnet18" in export._architecture(StudentConfig(design="dasr", backbone="resnet18"))
