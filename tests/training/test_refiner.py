# SPDX-License-Identifier: GPL-3.0-or-later
"""The refiner: its geometry, its training, its export, and the second look at a clip that it gives."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from tiny_predictor import save_tiny_category
from toy_clips import write_clips
from tracked import Case, case

from dasr_blender.core import Category, CategoryError, Motion, load_category
from dasr_blender.core.camera import decode_root, project, transform
from dasr_blender.core.rotation import matrix_to_quat, quat_multiply, rotvec_to_quat
from dasr_blender.predict import PredictError, Refiner, refine_inputs
from dasr_blender.training.__main__ import main as training
from dasr_blender.training.errors import TrainingError
from dasr_blender.training.refiner import export, learn, train
from dasr_blender.training.refiner.data import POSE, Answers, collect
from dasr_blender.training.refiner.network import solve3
from dasr_blender.training.student import log
from dasr_blender.training.student.body import crop_pixels
from dasr_blender.training.student.rotation import rotvec_to_matrix

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy category with a predictor of a few kilobytes."""
    return save_tiny_category(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def settings(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> train.RefinerTraining:
    """Four steps on four clips of six frames."""
    folder = tmp_path_factory.mktemp("refiner")
    write_clips(load_category(bundle), folder / "clips", 4, frames=8)
    return train.RefinerTraining(
        clips=folder / "clips", out=folder / "run", category=str(bundle), workers=1, steps=4, batch=2, length=6,
        rounds=2, width=32, blocks=1, checkpoint_minutes=1e9, validation_every=4,
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(settings: train.RefinerTraining) -> Path:
    return train.train(settings)


@pytest.fixture(scope="module")
def looking_twice(bundle: Path, trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Category:
    """The category with the refiner of those four steps."""
    folder = Path(shutil.copytree(bundle, tmp_path_factory.mktemp("twice") / "toy"))
    assert export.main(["--checkpoint", str(trained), "--category", str(folder), "--notes", "a test"]) == 0
    return load_category(folder)


def state_of(category: Category, refiner: learn.Refiner, given: Case, motion: Motion) -> learn.State:
    """A clip's evidence, and the pose of `motion` to start from, with that of the case as the truth."""
    points = category.body.vertices[refiner.surface.vertex.numpy()]
    arrays = {
        **refine_inputs.read_evidence(
            points, given.prediction, given.masks, given.center, given.side,
            motion.focal_px, motion.principal_point, motion.image_size,
        ),
        **refine_inputs.read_pose(motion, given.center, given.side),
        "trust": np.ones(len(motion), np.float32),
        "quality": np.ones(len(motion), np.float32), "measured": np.ones(len(motion), np.float32),
    }  # fmt: skip
    truth = refine_inputs.read_pose(given.motion, given.center, given.side)
    arrays |= {f"true_{k}": v for k, v in truth.items()}
    return {k: torch.from_numpy(v) for k, v in arrays.items()}


def bent(category: Category, motion: Motion, size: float = 0.25, seed: int = 1) -> Motion:
    """The motion with every joint but the root turned by about `size` radians, the same way all through the clip."""
    rng = np.random.default_rng(seed)
    turns = rotvec_to_quat(rng.normal(0, size / 3**0.5, (1, len(category.skeleton), 3)))
    turns[:, 0] = [1, 0, 0, 0]
    return replace(motion, joint_rotations=quat_multiply(turns, motion.joint_rotations))


def test_small_systems_are_solved_and_turns_are_turns() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=(20, 3, 3))
    h = a @ a.transpose(0, 2, 1) + 0.1 * np.eye(3)
    b = rng.normal(size=(20, 3))
    flat = np.stack([h[:, 0, 0], h[:, 1, 1], h[:, 2, 2], h[:, 0, 1], h[:, 0, 2], h[:, 1, 2]], -1)
    found = solve3(torch.from_numpy(flat), torch.from_numpy(b)).numpy()
    assert np.allclose(found, np.linalg.solve(h, b[..., None])[..., 0])
    turned = rotvec_to_matrix(torch.from_numpy(b)).numpy()
    assert np.allclose(np.abs((matrix_to_quat(turned) * rotvec_to_quat(b)).sum(-1)), 1)


def test_points_lie_where_the_body_has_them(toy_category: Category) -> None:
    given, refiner = case(toy_category), train.make_refiner(toy_category)
    state = state_of(toy_category, refiner, given, given.motion)
    posed = refiner.surface.posed_points(state)
    seen = crop_pixels(posed["points"], None, state["translation"], state["crop_info"]).numpy()
    camera = transform(given.motion.camera_from_root, toy_category.posed_vertices(given.motion))
    true = project(
        camera[:, refiner.surface.vertex.numpy()], given.motion.focal_px, given.motion.principal_point
    )
    assert np.abs(seen - (true - given.center[:, None]) / given.side[:, None, None]).max() < 1e-4


def test_a_turn_that_the_outline_asks_for_lays_the_body_over_the_mask(toy_category: Category) -> None:
    """With nothing learnt but a share of the step that Gauss and Newton would make, rounds shrink what is measured."""
    given, refiner = case(toy_category), train.make_refiner(toy_category)
    with torch.no_grad():
        refiner.turn.bias[3:] = 0.0
        refiner.turn.bias[-1] = 0.3
    state = state_of(toy_category, refiner, given, bent(toy_category, given.motion))

    def apart(now: learn.State) -> float:
        posed = refiner.surface.posed_points(now)
        at = crop_pixels(posed["points"], None, now["translation"], now["crop_info"])
        weights, pulls = refiner.residuals(posed, at, now)
        return float((pulls.norm(dim=-1).sum((0, 1)) / weights.sum((0, 1)).clamp_min(1e-6))[1:3].sum())

    with torch.no_grad():
        rounds = [state, *learn.refined(refiner, state, 1, 4)]
    found = [apart(now) for now in rounds]
    assert found[4] < 0.8 * found[0] and found[1] < found[0], found


def test_a_refiner_that_learnt_nothing_leaves_the_pose_alone(toy_category: Category) -> None:
    given, refiner = case(toy_category), train.make_refiner(toy_category)
    with torch.no_grad():
        refiner.turn.bias.zero_()
    state = state_of(toy_category, refiner, given, bent(toy_category, given.motion))
    with torch.no_grad():
        last = learn.refined(refiner, state, 1, 3)[-1]
    assert all(float((last[k] - state[k]).abs().max()) < 1e-6 for k in POSE)


def test_a_clip_in_a_mirror_is_refined_in_a_mirror(toy_category: Category) -> None:
    given, refiner = case(toy_category), train.make_refiner(toy_category)
    state = state_of(toy_category, refiner, given, bent(toy_category, given.motion))
    joints, points = train.counterparts(refiner, toy_category)
    other = learn.mirrored(state, joints, points)
    posed, flipped = (refiner.surface.posed_points(s)["points"] for s in (state, other))
    # the toy's vertices have no exact counterparts on its other side, but near ones
    assert float((flipped[:, points] - posed * torch.tensor([-1.0, 1, 1])).norm(dim=-1).mean()) < 0.02
    masks = given.masks[..., ::-1]
    flip = np.array([-1.0, 1.0])
    seen = refine_inputs.read_evidence(
        refiner.surface.vertices.numpy(), given.prediction, np.ascontiguousarray(masks),
        given.center * flip + [float(given.motion.image_size[0]), 0], given.side, given.motion.focal_px,
        given.motion.principal_point, given.motion.image_size,
    )  # fmt: skip
    assert np.abs(seen["distance"] - other["distance"].numpy()).max() < 0.02
    assert np.abs(seen["crop_info"] - other["crop_info"].numpy()).max() < 1e-6
    places, others = (np.sort(o[..., 0], axis=1) for o in (seen["outline"], other["outline"].numpy()))
    assert np.abs(places - others).mean() < 0.02


def test_starts_are_made_worse_and_the_truth_is_not(toy_category: Category) -> None:
    given, refiner = case(toy_category, frames=12), train.make_refiner(toy_category)
    state = state_of(toy_category, refiner, given, given.motion)
    sizes = learn.Mistakes(untouched=0.0)
    worse = learn.mistaken(state, refiner.surface.std, 1, sizes, torch.Generator().manual_seed(3))
    assert all(torch.equal(worse[k], state[k]) for k in state if k.startswith("true_"))
    found = learn.errors(refiner, worse, learn.with_truth(refiner, state), 1)
    assert min(float(found[k]) for k in ("points", "seen", "joints", "root", "depth")) > 1e-3
    same = learn.Mistakes(untouched=1.0)
    kept = learn.mistaken(state, refiner.surface.std, 1, same, torch.Generator().manual_seed(3))
    assert all(torch.allclose(kept[k], state[k], atol=1e-6) for k in POSE)


def test_training_mends_what_it_is_shown(
    settings: train.RefinerTraining, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clips that start at the truth but for bent joints end nearer to it."""
    category = load_category(settings.category)
    blank = train.make_refiner(category)
    (tmp_path / "answers").mkdir()
    for number in range(4):
        given = case(category, frames=6, seed=number)
        state = state_of(category, blank, given, bent(category, given.motion, seed=number))
        del state["trust"]
        np.savez(tmp_path / "answers" / f"00{number:04d}.npz", **{k: v.numpy() for k, v in state.items()})
    still = learn.Mistakes(untouched=1.0)
    config = replace(settings, out=tmp_path, steps=40, rate=4e-3, mistakes=still, validation_every=0)
    monkeypatch.setattr(train, "collect", lambda *_: 4)  # no student gave these answers
    trainer = train.RefinerTrainer(config)
    trainer.run()
    trainer.answers.validation = trainer.answers.training
    after = trainer.validate()
    assert after["val_seen"] < 0.8 * after["start_seen"], after
    assert after["val_points"] < 0.9 * after["start_points"], after


def test_a_clip_in_which_no_frame_counts_is_none_without_errors(
    settings: train.RefinerTraining, tmp_path: Path
) -> None:
    half_written = settings.clips / ".000009.part1"
    half_written.mkdir()
    (half_written / "motion.npz").write_bytes(b"PK")
    trainer = train.RefinerTrainer(replace(settings, out=tmp_path))
    for clip in trainer.answers.clips:
        clip["quality"][:] = 0
    counting = trainer.answers.clips[0]
    counting["quality"][:] = 1
    counting["true_rotation"] = counting["rotation"]  # a start that can be mended
    trainer.answers.validation = [np.arange(1)]
    alone = trainer.validate()
    trainer.answers.validation = [np.arange(4)]
    assert trainer.validate() == pytest.approx(alone) and alone["val_points"] > 0
    half_written.joinpath("motion.npz").unlink()
    half_written.rmdir()


def test_a_run_that_was_stopped_goes_on_to_the_same_weights(
    settings: train.RefinerTraining, trained: Path, tmp_path: Path
) -> None:
    shutil.copytree(settings.out / "answers", tmp_path / "answers")

    def part(steps: int, resume: bool) -> Path:
        # the learning rate follows the share done, so the run is stopped, not made shorter
        trainer = train.RefinerTrainer(replace(settings, out=tmp_path, resume=resume))
        if steps < settings.steps:
            held, trainer.clock.steps = trainer._check, settings.steps

            def stop(tally: list[dict[str, float]]) -> None:
                held(tally)
                if trainer.clock.step >= steps:
                    raise KeyboardInterrupt

            trainer._check = stop
            trainer.config = replace(trainer.config, checkpoint_minutes=0.0)
        try:
            trainer.run()
        except KeyboardInterrupt:
            pass
        return trainer.checkpoint

    part(2, resume=False)
    assert torch.load(tmp_path / "refiner.pt", weights_only=True)["step"] == 2
    (done,) = log.read(tmp_path / "log.csv")[-1:]
    log.append(tmp_path / "log.csv", {**done, "step": "3", "minutes": "99"}, tuple(done))  # past the checkpoint
    again = torch.load(part(settings.steps, resume=True), weights_only=True)
    whole = torch.load(trained, weights_only=True)
    assert again["step"] == whole["step"] == settings.steps
    assert all(torch.equal(again["refiner"][k], whole["refiner"][k]) for k in whole["refiner"])
    rows = log.read(tmp_path / "log.csv")
    assert [row["minutes"] == "99" for row in rows] == [False] * len(rows) and rows[-1]["step"] == str(settings.steps)
    assert done in rows and list(rows[-1]) == list(done)


def test_answers_are_kept_and_split(settings: train.RefinerTraining, trained: Path) -> None:
    assert trained.exists()
    files = sorted((settings.out / "answers").glob("*.npz"))
    times = [f.stat().st_mtime_ns for f in files]
    category = load_category(settings.category)
    assert collect(settings.clips, category, category.body.vertices[:9], settings.out / "answers") == 4
    assert [f.stat().st_mtime_ns for f in files] == times
    answers = Answers([settings.out / "answers"], 6, [4])
    (training,), (validation,) = answers.training, answers.validation
    with pytest.raises(TrainingError, match="each clip is kept for validation"):
        Answers([settings.out / "answers"], settings.length, [1])
    assert len(training) == 3 and len(validation) == 1
    drawn = [answers.drawn(step, 3, seed=0) for step in range(2)]
    assert {c for c, _ in drawn[0]} == {c for c, _ in drawn[1]} == set(training.tolist())
    assert answers.drawn(1, 3, seed=0) == drawn[1]
    with pytest.raises(TrainingError, match="no clip has 99 frames"):
        Answers([settings.out / "answers"], 99, [0])


def test_answers_of_other_clips_or_networks_are_not_kept(settings: train.RefinerTraining, tmp_path: Path) -> None:
    category = load_category(settings.category)
    clips, out = tmp_path / "set", tmp_path / "answers"
    write_clips(category, clips, 3, frames=6, seed=20)

    def made(by: Category) -> dict[str, tuple[int, bytes]]:
        collect(clips, by, category.body.vertices[:9], out)
        return {f.stem: (f.stat().st_mtime_ns, f.read_bytes()) for f in out.glob("*.npz")}

    first = made(category)
    names = sorted(first)
    assert made(category) == first
    write_clips(category, tmp_path / "other", 3, frames=6, seed=21)
    shutil.rmtree(clips / names[0])
    shutil.copytree(sorted((tmp_path / "other").iterdir())[0], clips / names[0])  # another clip of this name
    shutil.rmtree(clips / names[1])
    second = made(category)
    assert sorted(second) == [names[0], names[2]]
    assert second[names[0]][1] != first[names[0]][1] and second[names[2]] == first[names[2]]
    for mask in (clips / names[2] / "masks").iterdir():
        cv2.imwrite(str(mask), np.zeros(cv2.imread(str(mask)).shape[:2], np.uint8))  # which shows nothing any more
    assert sorted(made(category)) == [names[0]]
    shutil.rmtree(clips / names[2])
    second = made(category)
    retrained = load_category(settings.category)
    retrained.hashes = {**retrained.hashes, "predictor.onnx": "another"}
    again = made(retrained)
    assert all(again[name][0] != second[name][0] for name in second)


def test_frames_of_no_quality_teach_nothing(toy_category: Category) -> None:
    """Labels of frames that are not believed may say anything: gradients are those of the others alone."""
    given, refiner = case(toy_category), train.make_refiner(toy_category)
    state = state_of(toy_category, refiner, given, bent(toy_category, given.motion))
    state["quality"][3:] = 0.0
    other = {k: v.clone() for k, v in state.items()}
    other["true_translation"][3:] += 0.2
    other["true_joints"][3:] = other["true_joints"][3:].flip(1)
    weights = learn.RefinerLoss()
    losses = [learn.loss_of(refiner, s, 1, 2, weights)[0] for s in (state, other)]
    grads = [torch.autograd.grad(loss, list(refiner.parameters()), allow_unused=True) for loss in losses]
    assert losses[0].item() > 0 and torch.equal(losses[0], losses[1])
    known = [(a, b) for a, b in zip(*grads, strict=True) if a is not None and b is not None]
    assert known and all(torch.equal(a, b) for a, b in known)


def test_of_a_teachers_clips_sizes_and_distances_are_not_learnt(toy_category: Category) -> None:
    given, refiner = case(toy_category), train.make_refiner(toy_category)
    state = state_of(toy_category, refiner, given, bent(toy_category, given.motion))
    state["true_translation"] = state["true_translation"] + 0.1
    found = learn.errors(refiner, state, learn.with_truth(refiner, state), 1)
    assert min(float(v) for v in found.values()) >= 0 and all(float(found[k]) > 1e-3 for k in learn.METRES)
    state["measured"] = torch.zeros_like(state["measured"])
    taught = learn.errors(refiner, state, learn.with_truth(refiner, state), 1)
    assert all(float(taught[k]) == 0 for k in learn.METRES)
    assert all(torch.equal(taught[k], found[k]) for k in found if k not in learn.METRES)


def test_a_teacher_has_its_share_and_its_own_columns(
    settings: train.RefinerTraining, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every folder of clips gives its share of the stretches, and the log says how each is doing."""
    category = load_category(settings.category)
    write_clips(category, tmp_path / "cat" / "set", 3, frames=8, seed=50)
    shutil.copytree(settings.out / "answers", tmp_path / "run" / "answers")
    config = replace(
        settings, out=tmp_path / "run", teacher=(tmp_path / "cat" / "set",), teacher_share=(0.25,),
        teacher_held_out=3, start=trained,
    )  # fmt: skip
    trainer = train.RefinerTrainer(config)
    assert len(list((tmp_path / "run" / "answers-0-cat-set").glob("*.npz"))) == 3
    own, taught = trainer.answers.training
    drawn = [clip for step in range(20) for clip, _ in trainer.answers.drawn(step, 4, seed=0)]
    assert sum(clip in taught for clip in drawn) == 20 and sum(clip in own for clip in drawn) == 60
    assert sorted(set(drawn)) == sorted([*own, *taught])
    began = torch.load(trained, weights_only=True)["refiner"]
    assert all(torch.equal(p, began[k]) for k, p in trainer.refiner.named_parameters())
    trainer.run()
    said = (tmp_path / "run" / "log.csv").read_text().splitlines()[0]
    assert "val_seen" in said and "val_teacher_seen" in said and "start_teacher_root" in said
    assert "val_points" in said and "val_teacher_points" not in said and "val_teacher_depth" not in said
    assert train.load_refiner(trainer.checkpoint, category)[1]["config"]["teacher"] == (str(config.teacher[0]),)


def test_training_begins_from_a_bundle(
    settings: train.RefinerTraining, trained: Path, looking_twice: Category, bundle: Path, tmp_path: Path
) -> None:
    assert looking_twice.path is not None
    category = load_category(settings.category)
    weights = torch.load(trained, weights_only=True)["refiner"]
    for source in (trained, looking_twice.path, looking_twice.path / "refiner.onnx"):
        refiner = train.make_refiner(category, settings.width, settings.blocks)
        train.start_from(refiner, source, category)
        assert all(torch.equal(p, weights[k]) for k, p in refiner.named_parameters())
    blank = train.make_refiner(category, settings.width, settings.blocks)  # many of its arrays are equal
    export.write_onnx(blank, 2, tmp_path / "blank.onnx")
    train.start_from(refiner, tmp_path / "blank.onnx", category)
    assert all(torch.equal(p, q) for p, q in zip(refiner.parameters(), blank.parameters(), strict=True))
    with pytest.raises(TrainingError, match="a refiner of other sizes than this one; give its --width"):
        train.start_from(train.make_refiner(category), trained, category)
    with pytest.raises(FileNotFoundError, match=r"refiner\.onnx"):
        train.start_from(refiner, bundle, category)
    with pytest.raises(TrainingError, match="a refiner of other sizes"):
        train.start_from(refiner, bundle / "predictor.onnx", category)


def test_bad_input_is_said_in_a_sentence(
    settings: train.RefinerTraining, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.pt").write_bytes(b"no checkpoint")
    torch.save({"student": {}}, tmp_path / "other.pt")
    exporting = ["export-refiner", "--category", settings.category, "--checkpoint"]
    refining = ["refine", "--category", settings.category, "--out", str(tmp_path / "run"), "--clips", str(tmp_path)]
    for arguments, reason in (
        (refining, "no clip folder with labels"),
        ([*refining, "--batch", "0"], "--batch must be at least 1"),
        ([*refining, "--teacher", str(tmp_path), "--teacher-share", "1.5"], "must lie between 0 and 1, not at 1.5"),
        ([*refining, "--teacher", str(tmp_path), str(tmp_path)], "--teacher names 2 and --teacher-share 1"),
        ([*exporting, str(tmp_path / "no.pt")], "no.pt: No such file"),
        ([*exporting, str(tmp_path / "bad.pt")], "bad.pt is no checkpoint"),
        ([*exporting, str(tmp_path / "other.pt")], "other.pt holds no weights of a refiner"),
    ):
        assert training(arguments) == 1
        error = capsys.readouterr().err
        assert reason in error and error.count("\n") == 1


def test_the_bundle_knows_its_refiner(looking_twice: Category) -> None:
    facts = looking_twice.training["refiner"]
    assert facts["onnx_difference"] <= 1e-4 and facts["steps"] == 4 and facts["rounds"] == 2
    assert facts["notes"] == "a test" and facts["answers_of"].startswith("toy ")
    assert "refiner.onnx" in looking_twice.hashes and "predictor.onnx" in looking_twice.hashes
    assert looking_twice.path is not None
    (looking_twice.path / "refiner.onnx").write_bytes(
        data := (looking_twice.path / "refiner.onnx").read_bytes()
    )
    damaged = looking_twice.path / "refiner.onnx"
    damaged.write_bytes(data[:-1] + b"?")
    try:
        with pytest.raises(CategoryError, match=r"refiner\.onnx"):
            load_category(looking_twice.path)
    finally:
        damaged.write_bytes(data)


def test_onnx_equals_torch(looking_twice: Category, trained: Path) -> None:
    refiner, _ = train.load_refiner(trained, looking_twice)
    assert looking_twice.refiner_path is not None
    assert export.parity(refiner, looking_twice.refiner_path, (1, 2, 7, 40)) <= 1e-4


def test_the_second_look_is_what_training_sees(looking_twice: Category, trained: Path) -> None:
    refiner, state = train.load_refiner(trained, looking_twice)
    given = case(looking_twice, frames=12)
    motion = bent(looking_twice, given.motion)
    seen = state_of(looking_twice, refiner, given, motion)
    with torch.no_grad():
        last = learn.refined(refiner, seen, 1, state["rounds"])[-1]
    found = Refiner(looking_twice).run(motion, given.prediction, given.masks, given.center, given.side)
    found.validate(looking_twice)
    assert np.array_equal(found.morphology, motion.morphology)
    pose = decode_root(
        last["rotation"].numpy(), last["translation"].numpy(), given.center, given.side,
        motion.focal_px, motion.principal_point,
    )  # fmt: skip
    assert np.abs(found.camera_from_root - pose).max() < 0.05  # but for the smoothing
    assert np.abs(found.camera_from_root - motion.camera_from_root).max() > 1e-3


def test_long_clips_are_the_same_in_pieces(looking_twice: Category) -> None:
    given = case(looking_twice, frames=40)
    motion = bent(looking_twice, given.motion)
    whole, pieces = (
        Refiner(looking_twice, batch=n).run(motion, given.prediction, given.masks, given.center, given.side)
        for n in (64, 7)
    )
    assert np.abs(whole.camera_from_root - pieces.camera_from_root).max() < 1e-4
    assert np.abs(whole.joint_rotations - pieces.joint_rotations).max() < 1e-4


def test_what_is_no_refiner_says_so(looking_twice: Category, bundle: Path) -> None:
    with pytest.raises(PredictError, match=r"has no refiner\.onnx"):
        Refiner(load_category(bundle))
    wrong = replace(looking_twice, refiner_path=looking_twice.predictor_path)
    with pytest.raises(PredictError, match="not a refiner"):
        Refiner(wrong)
    given, refiner = case(looking_twice), Refiner(looking_twice)
    with pytest.raises(PredictError, match="cut the crops anew"):
        refiner.run(given.motion, given.prediction, given.masks[1:], given.center, given.side)
    usual = given.motion, given.prediction
    with pytest.raises(PredictError, match="one a frame"):
        refiner.run(*usual, given.masks, given.center, given.side, np.zeros(1, bool))
    whole, shares = (refiner.run(*usual, m, given.center, given.side) for m in (given.masks, given.masks / 255.0))
    assert np.abs(whole.camera_from_root - shares.camera_from_root).max() < 1e-5
