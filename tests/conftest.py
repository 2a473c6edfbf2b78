"""Settings that every test shares; this file's folder is on the path: `from patients import …`."""

import os

# Before torch is imported: small tensors gain nothing from threads, and nothing may be downloaded.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
