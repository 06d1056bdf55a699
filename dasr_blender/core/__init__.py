# SPDX-License-Identifier: GPL-3.0-or-later
"""What every other part stands on: rotations, skeleton, skinning, camera, rasteriser, category, motion.

Needs numpy and nothing else.
"""

from __future__ import annotations

from .body import Body
from .camera import (
    CropBox,
    Pinhole,
    crop_info,
    decode_root,
    default_focal,
    encode_root,
    project,
    ray_rotation,
    transform,
)
from .category import Category, category_search_path, list_categories, load_category, save_category
from .contacts import ContactConfig, Contacts, find_contacts
from .errors import Cancelled, CategoryError, DasrError, MotionError
from .files import sha256_of, written_atomically
from .ground import Feet, find_feet, find_floor, leg_length
from .motion import Motion, shots_of
from .raster import Raster, rasterize, silhouette
from .schema import NetworkSpec, Proportion
from .shots import one_world
from .skeleton import (
    Skeleton,
    clamp_rotations,
    forward_kinematics,
    local_from_global,
    mirror_rotations,
    skin_transforms,
)
from .skinning import dual_quaternion, linear_blend
from .travel import filmed_by, filmed_following
from .views import View, ViewError, read_views, remove_view, views_path, write_view

__all__ = [
    "Body",
    "Cancelled",
    "Category",
    "CategoryError",
    "ContactConfig",
    "Contacts",
    "CropBox",
    "DasrError",
    "Feet",
    "Motion",
    "MotionError",
    "NetworkSpec",
    "Pinhole",
    "Proportion",
    "Raster",
    "Skeleton",
    "View",
    "ViewError",
    "category_search_path",
    "clamp_rotations",
    "crop_info",
    "decode_root",
    "default_focal",
    "dual_quaternion",
    "encode_root",
    "filmed_by",
    "filmed_following",
    "find_contacts",
    "find_feet",
    "find_floor",
    "forward_kinematics",
    "leg_length",
    "linear_blend",
    "list_categories",
    "load_category",
    "local_from_global",
    "mirror_rotations",
    "one_world",
    "project",
    "rasterize",
    "ray_rotation",
    "read_views",
    "remove_view",
    "save_category",
    "sha256_of",
    "shots_of",
    "silhouette",
    "skin_transforms",
    "transform",
    "views_path",
    "write_view",
    "written_atomically",
]
