"""A disk for each city: ext4 on an image that is mounted by loop, and what can happen to it.

A kill leaves the page cache, so it says nothing of durability; a power cut does. Here: the node is stopped, the image
is copied (it holds what the block device was given, and nothing of the page cache of the file system on it), the node
is killed, and the copy takes the image's place. The file system's own journal recovers it, as after any power cut.
"""

import os
import shutil
from pathlib import Path

from tests.chaos.machine import run

SIZE_MB = 384
MOUNT = "loop,noatime,commit=300"  # no journal commit of its own while the image is copied: only the node's syncs count


class Disk:
    """The disk under one folder, whose content it takes over."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._image = folder.with_name(folder.name + ".image")
        self._filler = folder / "filler"
        kept = folder.rename(folder.with_name(folder.name + ".first"))
        folder.mkdir()
        with self._image.open("wb") as file:
            file.truncate(SIZE_MB * 2**20)
        run("mkfs.ext4", "-q", "-F", self._image)
        self._mount()
        (folder / "lost+found").rmdir()
        shutil.copytree(kept, folder, dirs_exist_ok=True)
        run("sync", "-f", folder)
        shutil.rmtree(kept)

    # ------------------------------------------------------------ power

    def picture(self) -> Path:
        """A copy of what the block device holds now."""
        copy = self._image.with_suffix(".cut")
        run("cp", "--sparse=always", self._image, copy)
        return copy

    def go_on_with(self, picture: Path) -> None:
        """Everything since that picture never happened. No process may use the disk."""
        run("umount", self._folder)
        picture.replace(self._image)
        self._mount()

    def _mount(self) -> None:
        run("mount", "-o", MOUNT, self._image, self._folder)

    # ------------------------------------------------------------ space

    def fill(self) -> None:
        """Take every byte that is left."""
        with self._filler.open("wb", buffering=0) as file:
            for size in (1 << 24, 1 << 20, 1 << 16, 1 << 12):
                try:
                    while True:
                        os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, size)
                except OSError:
                    continue

    def free(self) -> None:
        """The end of `fill`."""
        self._filler.unlink()
