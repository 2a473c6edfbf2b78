"""Run files that several open for the first time at once."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from isograd.storage._files import open_to_write


def test_all_who_make_a_file_at_once_get_it(tmp_path: Path) -> None:
    """SQLite lets nobody wait who turns the write-ahead log on while another one does."""
    together = threading.Barrier(4)

    def opened(file: Path) -> None:
        together.wait()
        open_to_write(file, durable=False).close()

    with ThreadPoolExecutor(4) as pool:
        for number in range(20):
            list(pool.map(opened, [tmp_path / f"{number}.isograd"] * 4))
