"""Structures and functions of libndi's C interface: Processing.NDI.*.h of NDI SDK 6, the same since version 4."""

from __future__ import annotations

from ctypes import POINTER, Structure, c_bool, c_char_p, c_float, c_int, c_int64, c_uint32, c_void_p
from typing import Any


class SourceT(Structure):
    _fields_ = (("name", c_char_p), ("url", c_char_p))


class FindCreate(Structure):
    _fields_ = (("local", c_bool), ("groups", c_char_p), ("ips", c_char_p))


class RecvCreate(Structure):
    _fields_ = (
        ("source", SourceT),
        ("color", c_int),
        ("bandwidth", c_int),
        ("fields", c_bool),
        ("name", c_char_p),
    )


class SendCreate(Structure):
    _fields_ = (("name", c_char_p), ("groups", c_char_p), ("clock_video", c_bool), ("clock_audio", c_bool))


class Video(Structure):
    _fields_ = (
        ("width", c_int),
        ("height", c_int),
        ("fourcc", c_uint32),
        ("rate", c_int),
        ("per", c_int),
        ("aspect", c_float),
        ("format", c_int),
        ("timecode", c_int64),
        ("data", c_void_p),
        ("stride", c_int),
        ("metadata", c_char_p),
        ("timestamp", c_int64),
    )


class Queue(Structure):
    _fields_ = (("video", c_int), ("audio", c_int), ("metadata", c_int))


FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "initialize": (c_bool, ()),
    "version": (c_char_p, ()),
    "find_create_v2": (c_void_p, (POINTER(FindCreate),)),
    "find_wait_for_sources": (c_bool, (c_void_p, c_uint32)),
    "find_get_current_sources": (POINTER(SourceT), (c_void_p, POINTER(c_uint32))),
    "find_destroy": (None, (c_void_p,)),
    "recv_create_v3": (c_void_p, (POINTER(RecvCreate),)),
    "recv_capture_v3": (c_int, (c_void_p, POINTER(Video), c_void_p, c_void_p, c_uint32)),
    "recv_free_video_v2": (None, (c_void_p, POINTER(Video))),
    "recv_get_queue": (None, (c_void_p, POINTER(Queue))),
    "recv_get_no_connections": (c_int, (c_void_p,)),
    "recv_destroy": (None, (c_void_p,)),
    "send_create": (c_void_p, (POINTER(SendCreate),)),
    "send_get_source_name": (POINTER(SourceT), (c_void_p,)),
    "send_get_no_connections": (c_int, (c_void_p, c_uint32)),
    "send_send_video_v2": (None, (c_void_p, POINTER(Video))),
    "send_destroy": (None, (c_void_p,)),
}
