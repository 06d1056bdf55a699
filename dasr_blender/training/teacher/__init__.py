# SPDX-License-Identifier: GPL-3.0-or-later
"""The teacher: one canonical neural field that explains several ordinary videos of a subject, frame by frame.

In the line of BANMo (Yang et al., CVPR 2022) and RAC (Yang et al., CVPR 2023), but started from what the student and
the fit say, which is where those methods are fragile:

    register  student, tracking and fit of every video; bad frames rejected
    frames    pictures, masks, flow and surface maps of all frames as tensors
    rig       root poses, joints, proportions and bone lengths: what moves
    skinning  Gaussian bones: posed points to rest and back
    fields    signed distance, colours, visibility, residual morphology
    rays, render, losses, optimise   the volume rendering and what it is compared by
    mesh, consensus, product         the mesh finish, and pseudo ground truth for the student
    run       all of it, from videos to a dataset
"""
