# SPDX-License-Identifier: GPL-3.0-or-later
"""A clip's crops as the tracker sees them: where they are, their masks, and silhouettes drawn into them."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from ..core.camera import CropBox, decode_root, project, ray_rotation, transform
from ..core.raster import silhouette
from .errors import PredictError

Array = np.ndarray


def check_crops(count: int, center: Array, side: Array, masks: Array) -> None:
    """Raise PredictError unless these are the crops of `count` frames: (T, 2), (T,) and (T, S, S), all finite."""
    shapes = tuple(np.shape(a) for a in (center, side, masks))
    if shapes[:2] != ((count, 2), (count,)) or len(shapes[2]) != 3 or shapes[2] != (count, *shapes[2][-1:] * 2):
        raise PredictError(
            f"For {count} frames center, side and the crops' masks are ({count}, 2), ({count},) and ({count}, S, S), "
            f"not {shapes[0]}, {shapes[1]} and {shapes[2]}; cut the crops anew."
        )
    if not (np.isfinite(center).all() and np.isfinite(side).all() and np.min(side) > 0):
        raise PredictError("A crop's center or side is not finite, or its side not above 0; cut the crops anew.")


@dataclass(frozen=True, eq=False)
class CropView:
    """Where the clip's crops are, and what they show: everything but the subject's pose.

    center ``(T, 2)``, side ``(T,)``, focal ``(T,)`` and pp ``(2,)``: pixels.  masks ``(T, S, S)`` bool, at the
    silhouettes' size.  inside ``(T, S, S)`` bool: the part of the crop that lies in the picture.
    """

    center: Array
    side: Array
    focal: Array
    pp: Array
    masks: Array
    inside: Array

    @staticmethod
    def of(
        center: Array, side: Array, focal: Array, pp: Array, masks: Array, image_size: Array, size: int
    ) -> CropView:
        """masks ``(T, H, H)``: uint8 0…255 or 0…1, any size.  image_size: (width, height).  size: S.

        Raises PredictError when the arrays have other shapes or are not finite.
        """
        check_crops(len(focal), center, side, masks)
        if not np.isfinite(focal).all():
            raise PredictError("The focal length is not finite in every frame; give one in pixels.")
        scale = 255.0 if masks.dtype == np.uint8 else 1.0
        small = [cv2.resize(m.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA) for m in masks]
        at = (np.arange(size) + 0.5) / size - 0.5
        x, y = (center[:, k, None] + side[:, None] * at for k in range(2))  # (T, S)
        inside = ((y >= 0) & (y < image_size[1]))[:, :, None] & ((x >= 0) & (x < image_size[0]))[:, None, :]
        return CropView(center, side, focal, pp, np.stack(small) > 0.5 * scale, inside)

    @property
    def size(self) -> int:
        """Side of the silhouettes, pixels."""
        return self.masks.shape[-1]

    def poses(self, rotation: Array, translation: Array, frames: Array) -> Array:
        """``camera_from_root`` ``(n, 4, 4)`` of crop-relative poses ``(n, 3, 3)`` and ``(n, 3)`` of `frames`."""
        place = self.center[frames], self.side[frames], self.focal[frames]
        return decode_root(rotation, translation, *place, self.pp)

    def rays(self, frames: Array) -> Array:
        """``(n, 3, 3)``: camera from crop, the rotation that takes +z to the ray through the crop's centre."""
        return ray_rotation(self.center[frames], self.focal[frames], self.pp)

    def pixels(self, pose: Array, vertices: Array, frames: Array) -> Array:
        """Vertices ``(n, V, 3)`` under poses ``(n, 4, 4)`` of frames ``(n,)``: pixels of the silhouette and depth."""
        seen = transform(pose.astype(vertices.dtype), vertices)
        box = CropBox(self.center[frames], self.side[frames])
        places = box.crop_pixels(project(seen, self.focal[frames], self.pp), self.size)
        return np.concatenate([places, seen[..., 2:]], -1)

    def drawn(self, pose: Array, vertices: Array, faces: Array, frames: Array) -> Array:
        """Visible silhouettes ``(n, S, S)`` of the bodies ``(T, V, 3)`` of `frames` ``(n,)`` under poses (n, 4, 4)."""
        pixels = self.pixels(pose, vertices[frames], frames)
        return silhouette(pixels, faces, (self.size, self.size)) & self.inside[frames]

    def overlap(self, drawn: Array, frames: Array) -> Array:
        """Intersection over union with the mask ``(n,)``, NaN where there is no mask."""
        mask = self.masks[frames]
        union = (mask | drawn).sum((1, 2))
        iou = (mask & drawn).sum((1, 2)) / np.maximum(union, 1)
        return np.where(mask.any((1, 2)), iou, np.nan)

    def mask_box(self, frames: Array) -> tuple[Array, Array]:
        """Ends of the masks ``(n, 2 ends, 2 axes)`` in silhouette pixels, and which lie inside the picture."""
        size = self.size
        ends = np.zeros((len(frames), 2, 2))
        free = np.zeros((len(frames), 2, 2), bool)
        for axis, across in ((0, 1), (1, 2)):  # x: rows collapse; y: columns collapse
            used = self.masks[frames].any(across)
            room = self.inside[frames].any(across)
            ends[:, 0, axis], ends[:, 1, axis] = used.argmax(1), size - used[:, ::-1].argmax(1)
            # a pixel here is a few of the picture's: nearer the border than that, the mask may be cut
            free[:, 0, axis] = used.any(1) & (ends[:, 0, axis] > room.argmax(1) + 0.5)
            free[:, 1, axis] = used.any(1) & (ends[:, 1, axis] < size - room[:, ::-1].argmax(1) - 0.5)
        return ends, free
