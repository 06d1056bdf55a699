# SPDX-License-Identifier: GPL-3.0-or-later
"""Imported before numpy: one thread for each of its matrix products.

Frames are shared out among threads of our own (`predict/fit_solve.py`), and products of small matrices that start
threads of their own besides take three times the processors' time. Whoever sets the variable decides.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
