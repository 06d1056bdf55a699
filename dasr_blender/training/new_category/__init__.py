# SPDX-License-Identifier: GPL-3.0-or-later
"""`dasr train new-category NAME --skeleton TREE.json --videos DIR`: a category from nothing but videos.

1. A body from the template; 2. rendered clips of it in random motion, and a first student; 3. that student follows
the subject through the videos, which agree on one shape; 4. the body takes on that shape and the subject's colours, and
the student is trained on with new clips and the videos. Every step is kept and not done twice.
"""

from __future__ import annotations


def main(argv: list[str] | None = None) -> int:
    """Make a category; returns the exit status."""
    import tyro

    from .config import NewCategoryConfig
    from .run import new_category

    config = tyro.cli(NewCategoryConfig, args=argv, prog="dasr train new-category", description=__doc__)
    category = new_category(config, lambda text: print(text, flush=True))
    print(f"{category.path}: dasr reconstruct CLIP --category {category.path}")
    return 0
