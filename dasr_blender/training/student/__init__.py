# SPDX-License-Identifier: GPL-3.0-or-later
"""The student network: what it is, what it learns from, and what it is asked to get right."""
