# SPDX-License-Identifier: GPL-3.0-or-later
"""The subject's masks: from a folder of images, from the clip's alpha channel, or automatic."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from ..core.errors import counted
from ..core.files import expanded
from ..core.listing import folder_images
from .automatic import AutomaticConfig, automatic_masks
from .mask_store import MaskError, Masks, frame_list
from .sequence import stored_image
from .subject import Subject
from .video import Clip

__all__ = [
    "AutomaticConfig",
    "MaskError",
    "Masks",
    "Subject",
    "automatic_masks",
    "masks_from_alpha",
    "masks_from_folder",
]


def masks_from_folder(folder: str | Path, clip: Clip) -> Masks:
    """Masks from one image a frame, in natural order of their names.

    The folder holds either as many images as the clip was read with, or as many as its source has, of which
    the read frames' are taken. Whatever is not black is the subject (0/1, 0/255, palettes of any colours);
    pictures with many grey levels (soft edges, JPEG) count from half of their maximum. Masks of another size
    are resized. Raises MaskError.
    """
    folder = expanded(folder)
    try:
        files = folder_images(folder)
    except OSError as error:
        raise MaskError(
            f"The mask folder {folder} cannot be listed ({error.strerror}): give a folder of images"
        ) from None
    if len(files) == len(clip):
        pass
    elif len(files) == clip.source_count:
        files = [files[i] for i in clip.frame_index]
    else:
        whole = f" (of {clip.source_count} in the source)" if clip.source_count != len(clip) else ""
        raise MaskError(
            f"The mask folder {folder} has {counted(len(files), 'image')} but the clip has "
            f"{counted(len(clip), 'frame')}{whole}: "
            "give one mask for each frame"
        )
    warnings: list[str] = []
    masks: list[np.ndarray] = []
    for frame, file in zip(clip.frame_index, files, strict=True):
        mask = read_mask(file, int(frame))
        if (mask.shape[1], mask.shape[0]) != clip.size:
            if not warnings and abs(mask.shape[1] * clip.size[1] / (mask.shape[0] * clip.size[0]) - 1.0) > 0.02:
                warnings.append(
                    f"The mask {file.name} is {mask.shape[1]}×{mask.shape[0]} pixels, another shape than the clip's "
                    f"{clip.original_size[0]}×{clip.original_size[1]}: it is stretched"
                )
            shrinks = mask.shape[1] > clip.size[0]
            soft = cv2.resize(
                mask.astype(np.float32), clip.size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
            )
            mask = soft >= 0.5
        masks.append(mask)
    if not any(mask.any() for mask in masks):
        raise MaskError(
            f"The masks in {folder} are empty in every frame: paint the subject white, or leave --masks out"
        )
    full = [i for i, m in enumerate(masks) if m.mean() > 0.995]
    if full:
        warnings.append(
            f"The mask covers the whole picture in {counted(len(full), 'frame')} "
            f"({frame_list(clip.frame_index[full])}): is it the right folder?"
        )
    return Masks.pack(masks, "folder", warnings, clip.cuts, clip.frame_index)


def masks_from_alpha(clip: Clip) -> Masks:
    """Masks from the clip's alpha channel, at least half opaque. Raises MaskError where it has none."""
    if not clip.has_alpha:
        raise MaskError(
            f"{clip.source} has no alpha channel: leave masks out to make them automatically, or give a folder"
        )
    masks = [clip.alpha(i) >= 0.5 for i in range(len(clip))]  # type: ignore[operator]
    if not any(mask.any() for mask in masks):
        raise MaskError(
            f"The alpha channel of {clip.source} is transparent in every frame: give a folder of masks, or the clip "
            "without alpha"
        )
    return Masks.pack(masks, "alpha", cuts=clip.cuts, frame_index=clip.frame_index)


def read_mask(file: Path, frame: int) -> np.ndarray:
    """(H, W) bool at the file's own size."""
    try:
        image = stored_image(file.read_bytes(), file.suffix)
    except OSError as error:
        raise MaskError(f"The mask {file} cannot be read ({error.strerror}): check its permissions") from None
    if image is None:
        raise MaskError(f"The mask {file} (frame {frame}) is damaged or no image: replace it")
    if image.dtype not in (np.uint8, np.uint16):
        image = (np.clip(np.nan_to_num(image), 0.0, 1.0) * 65535.0 + 0.5).astype(np.uint16)
    full = int(np.iinfo(image.dtype).max)
    value, *others = cv2.split(image[..., :3])
    for other in others:
        value = np.maximum(value, other)
    if image.shape[2] == 4 and (image[..., 3] < full).any():
        visible = image[..., 3] > full // 2
        if not value.any() or len(np.unique(value[visible])) == 1:  # the shape is in the alpha alone
            return visible
        value = np.where(visible, value, 0)
    if file.suffix.lower() in {".jpg", ".jpeg"}:  # its black is not quite black
        return value > int(value.max()) // 2
    levels = np.count_nonzero(cv2.calcHist([value], [0], None, [full + 1], [0, full + 1]))
    return value > (int(value.max()) // 2 if levels > 32 else 0)
