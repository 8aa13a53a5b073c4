"""A named piece of memory that two processes share, on POSIX and Windows."""

from __future__ import annotations

import errno
import os
import secrets
import sys
import threading
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import SharedMemory
from typing import TYPE_CHECKING, Any

from bridge.errors import WireError

if TYPE_CHECKING:
    from collections.abc import Iterator

_attaching = threading.Lock()


def random_name() -> str:
    """A name nobody guesses, 27 characters: macOS takes 30 after its slash."""
    return f"ll_{secrets.token_hex(12)}"


@contextmanager
def _untracked() -> Iterator[None]:
    """Keep what this thread attaches out of the resource tracker.

    Before Python 3.13 every attach registers the segment, and the tracker of the first process to exit then unlinks it
    under everyone else. Unregistering afterwards is no cure: processes of one family share a tracker, so that would
    take away the creator's own entry, which is what cleans up after a kill.
    """
    me = threading.get_ident()
    register = resource_tracker.register

    def skip_mine(name: str, kind: str) -> None:
        if kind != "shared_memory" or threading.get_ident() != me:
            register(name, kind)

    with _attaching:
        resource_tracker.register = skip_mine  # type: ignore[assignment]
        try:
            yield
        finally:
            resource_tracker.register = register


def _attach(name: str) -> SharedMemory:
    if sys.version_info >= (3, 13):
        return SharedMemory(name, track=False)
    with _untracked():
        return SharedMemory(name)


class Segment:
    """Shared memory by name, mode 0600. Its creator owns it, a resource tracker unlinks it if that one is killed."""

    def __init__(self, memory: SharedMemory, owner: bool) -> None:
        self._memory = memory
        self._owner = owner
        self.name = memory.name
        self.size = memory.size

    @classmethod
    def create(cls, size: int, name: str | None = None) -> Segment:
        """`size` zero bytes, not backed by memory until touched. Raises FileExistsError when the name is taken."""
        try:
            return cls(SharedMemory(name or random_name(), create=True, size=size), owner=True)
        except FileExistsError:
            raise
        except (OSError, ValueError) as error:
            raise WireError(f"can't make {size} bytes of shared memory: {error}") from error

    @classmethod
    def attach(cls, name: str) -> Segment:
        """The segment that another process of this user made.

        Raises FileNotFoundError, or WireError when it can't be mapped or is another user's: that one could read along,
        or shorten it under us, which is a SIGBUS.
        """
        try:
            segment = cls(_attach(name), owner=False)
        except FileNotFoundError:
            raise
        except (OSError, ValueError) as error:
            raise WireError(f"can't open shared memory {name!r}: {error}") from error
        if os.name == "posix" and os.fstat(segment._fd).st_uid != os.geteuid():
            segment.close()
            raise WireError(f"shared memory {name!r} belongs to another user")
        return segment

    @property
    def _fd(self) -> int:
        memory: Any = self._memory
        return int(memory._fd)

    @property
    def buf(self) -> memoryview:
        view = self._memory.buf
        if view is None:
            raise WireError("the shared memory is closed")
        return view

    def adopt(self) -> None:
        """Become the owner of a segment whose creator is dead."""
        if not self._owner and os.name == "posix":
            resource_tracker.register(_tracked_name(self._memory), "shared_memory")
        self._owner = True

    def reserve(self, offset: int, length: int) -> None:
        """Make sure that these bytes have memory behind them.

        Touching a page for which a full /dev/shm (64 MB in many containers) has no room is a SIGBUS: it would take the
        process with it. Asking first turns that into a WireError.
        """
        if not sys.platform.startswith("linux"):
            return
        try:
            os.posix_fallocate(self._fd, offset, length)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.ENOMEM):
                raise WireError(f"shared memory is full: no room for {length} bytes more in /dev/shm") from error

    def close(self) -> None:
        """Unmap; while arrays still look at the memory the mapping stays until the last of them is gone. Idempotent."""
        memory: Any = self._memory
        try:
            memory.close()
        except BufferError:
            # The arrays keep the mmap alive. Forgetting it here lets their end unmap it; a second close frees the rest.
            memory._buf = None
            memory._mmap = None
            memory.close()

    def __del__(self) -> None:
        self.close()

    def unlink(self) -> None:
        """Remove the name, as owner; does nothing for others. Who has it mapped keeps it."""
        if self._owner and os.name == "posix":
            with suppress(FileNotFoundError):
                _remove(_tracked_name(self._memory))
        self.disown()

    def disown(self) -> None:
        """Leave the name to whoever took it over: nothing here removes it any more, not even our death."""
        if self._owner and os.name == "posix":
            resource_tracker.unregister(_tracked_name(self._memory), "shared_memory")
        self._owner = False


def remove(name: str) -> None:
    """Remove a stale segment's name, whoever made it; fine if it is gone. Windows removes it with its last user."""
    if os.name == "posix":
        with suppress(FileNotFoundError):
            _remove("/" + name)


def _remove(name: str) -> None:
    from _posixshmem import shm_unlink  # type: ignore[import-not-found]  # what SharedMemory.unlink calls; there it is tied to the tracker

    shm_unlink(name)


def _tracked_name(memory: Any) -> str:
    return str(memory._name)


def process_alive(pid: int) -> bool:
    """Whether a process with this id runs here; one that belongs to another user counts."""
    if not 0 < pid < 2**31:
        return False
    if sys.platform == "win32":
        return _windows_process_alive(pid)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _windows_process_alive(pid: int) -> bool:
    # os.kill(pid, 0) would end the process there.
    import ctypes

    kernel: Any = ctypes.windll.kernel32  # type: ignore[attr-defined,unused-ignore]
    kernel.OpenProcess.restype = ctypes.c_void_p
    synchronize, timed_out = 0x0010_0000, 0x102
    handle = kernel.OpenProcess(synchronize, False, pid)
    if not handle:
        return False
    try:
        return bool(kernel.WaitForSingleObject(ctypes.c_void_p(handle), 0) == timed_out)
    finally:
        kernel.CloseHandle(ctypes.c_void_p(handle))
