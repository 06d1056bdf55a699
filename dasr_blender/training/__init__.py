# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes predictors: bodies, synthetic clips, teacher, student, scores. The only part that imports torch."""
