# SPDX-License-Identifier: GPL-3.0-or-later
"""Labelled clips from rigged models: bake, map to the category, render, damage, write."""
