# SPDX-License-Identifier: GPL-3.0-or-later
"""The subject's mesh: vertex groups, UVs, morphology as shape keys, appearance as a colour attribute or a texture."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import bpy
import numpy as np

from . import compat

COLOUR_ATTRIBUTE = "Appearance"


@dataclass(frozen=True)
class ShapeKeyPlan:
    """A named proportion: offsets (V, 3) metres from the basis at value 1, and its slider."""

    name: str
    offsets: np.ndarray
    value: float
    minimum: float
    maximum: float


@dataclass(frozen=True)
class MeshPlan:
    """The mesh in armature space.

    vertices: (V, 3) the basis, before the shape keys.  faces: (F, 3).  uv: (F, 3, 2) per corner.
    colours: (V, 3) sRGB 0…1.  groups: bone names.  skin_index, skin_weight: (V, 4).  texture: picture in the UV map, in
    place of the colours.
    """

    name: str
    vertices: np.ndarray
    faces: np.ndarray
    uv: np.ndarray
    colours: np.ndarray
    groups: tuple[str, ...]
    skin_index: np.ndarray
    skin_weight: np.ndarray
    shape_keys: tuple[ShapeKeyPlan, ...]
    texture: Path | None = None


def write_mesh(
    plan: MeshPlan, collection: bpy.types.Collection, armature: bpy.types.Object
) -> bpy.types.Object:
    """Make the mesh object, a child of `armature` and deformed by it."""
    data = bpy.data.meshes.new(plan.name)
    data.from_pydata(plan.vertices.tolist(), [], plan.faces.tolist())
    data.polygons.foreach_set("use_smooth", np.ones(len(plan.faces), dtype=bool))
    data.uv_layers.new(name="UVMap").uv.foreach_set("vector", plan.uv.astype(np.float32).ravel())
    image = _load_texture(plan) if plan.texture is not None else None
    if image is not None:
        plan = replace(plan, colours=_colours_of(image, plan))
    _write_colours(data, plan, image)
    data.update()
    mesh = bpy.data.objects.new(plan.name, data)
    collection.objects.link(mesh)
    _write_weights(mesh, plan)
    _write_shape_keys(mesh, plan)
    mesh.parent = armature
    modifier = mesh.modifiers.new("Armature", "ARMATURE")
    modifier.object = armature
    modifier.use_deform_preserve_volume = False  # linear blending, as in glTF, FBX and our own skinning
    return mesh


def _load_texture(plan: MeshPlan) -> bpy.types.Image:
    """The texture as a part of the .blend; OSError where Blender cannot read it."""
    image = bpy.data.images.load(str(plan.texture), check_existing=False)
    if not image.size[0]:
        raise OSError(f"{plan.texture} is no picture")
    image.name = plan.name
    image.pack()
    return image


def _colours_of(image: bpy.types.Image, plan: MeshPlan) -> np.ndarray:
    """The vertices' colours (V, 3) in a texture, sRGB 0…1."""
    width, height = image.size
    pixels = np.empty(4 * width * height, np.float32)
    image.pixels.foreach_get(pixels)
    column = np.clip((plan.uv[..., 0] * width).astype(int), 0, width - 1)
    row = np.clip((plan.uv[..., 1] * height).astype(int), 0, height - 1)  # Blender's first row is the lowest
    corners = pixels.reshape(height, width, 4)[row, column, :3]  # (F, 3, 3)
    count = np.maximum(np.bincount(plan.faces.ravel(), minlength=len(plan.vertices)), 1)
    sums = [np.bincount(plan.faces.ravel(), corners[..., c].ravel(), len(plan.vertices)) for c in range(3)]
    return np.stack(sums, 1) / count[:, None]


def _write_colours(data: bpy.types.Mesh, plan: MeshPlan, image: bpy.types.Image | None) -> None:
    colours = data.color_attributes.new(COLOUR_ATTRIBUTE, "BYTE_COLOR", "POINT")
    rgba = np.ones((len(plan.vertices), 4), dtype=np.float32)
    rgba[:, :3] = np.clip(plan.colours, 0, 1)
    colours.data.foreach_set("color_srgb", rgba.ravel())
    data.color_attributes.active_color = colours
    data.color_attributes.render_color_index = 0

    material = compat.node_material(plan.name)
    nodes, links = material.node_tree.nodes, material.node_tree.links
    shader = next(node for node in nodes if node.type == "BSDF_PRINCIPLED")
    shader.inputs["Roughness"].default_value = 0.9
    if image is not None:
        source = nodes.new("ShaderNodeTexImage")
        source.image = image
        nodes.active = source  # what the viewport's solid shading shows by texture
    else:
        source = nodes.new("ShaderNodeVertexColor")
        source.layer_name = COLOUR_ATTRIBUTE
    source.location = (shader.location.x - 300, shader.location.y)
    links.new(source.outputs["Color"], shader.inputs["Base Color"])
    # The viewport's solid shading is linear. FBX and USD cannot say that a material takes the vertices' colours.
    material.diffuse_color = shader.inputs["Base Color"].default_value = (*rgba[:, :3].mean(0) ** 2.2, 1.0)
    data.materials.append(material)


def _write_weights(mesh: bpy.types.Object, plan: MeshPlan) -> None:
    groups = [mesh.vertex_groups.new(name=name) for name in plan.groups]
    for j, group in enumerate(groups):
        vertex, slot = np.nonzero((plan.skin_index == j) & (plan.skin_weight > 0))
        for v, w in zip(vertex.tolist(), plan.skin_weight[vertex, slot].tolist(), strict=True):
            group.add([v], w, "ADD")  # a joint may be named twice at a vertex


def _write_shape_keys(mesh: bpy.types.Object, plan: MeshPlan) -> None:
    mesh.shape_key_add(name="Basis", from_mix=False)
    mesh.data.shape_keys.name = plan.name  # else "Key", as everybody's
    for key in plan.shape_keys:
        block = mesh.shape_key_add(name=key.name, from_mix=False)
        block.data.foreach_set("co", (plan.vertices + key.offsets).astype(np.float32).ravel())
        # the limits first: a value outside them is cut off
        block.slider_min, block.slider_max = key.minimum, key.maximum
        block.value = key.value
    mesh.active_shape_key_index = 0
