"""Operator types with the parameters that the component may use, as TouchDesigner's documentation names them.

(name, style, default, menu). Types and parameters that are not here do not exist in the fake.
"""

from __future__ import annotations

from typing import Any

Row = tuple[str, str, Any] | tuple[str, str, Any, list[str]]

_FILE: list[Row] = [
    ("file", "File", ""),
    ("syncfile", "Toggle", False),
    ("language", "Menu", "input", ["input", "text", "python"]),
]
_EXECUTE: list[Row] = [("active", "Toggle", True), *_FILE]
_NET: list[Row] = [
    ("active", "Toggle", True),
    ("protocol", "Menu", "msging", ["msging", "multicastmsging", "reliablemsging"]),
    ("address", "Str", "localhost"),
    ("port", "Int", 7000),
    ("localaddress", "StrMenu", ""),
    ("shared", "Toggle", False),
]

KINDS: dict[str, list[Row]] = {
    "baseCOMP": [
        ("opviewer", "OP", ""),
        ("parentshortcut", "Str", ""),
        ("opshortcut", "Str", ""),
        ("externaltox", "File", ""),
        ("enableexternaltox", "Toggle", False),
        ("reinitextensions", "Pulse", 0),
        ("initextonstart", "Toggle", False),
        ("ext0object", "Str", ""),
        ("ext0name", "Str", ""),
        ("ext0promote", "Toggle", False),
    ],
    "inTOP": [("label", "Str", "")],
    "outTOP": [("label", "Str", "")],
    "nullTOP": [],
    "transformTOP": [
        ("tx", "Float", 0.0),
        ("ty", "Float", 0.0),
        ("format", "Menu", "useinput", ["useinput", "rgba8fixed", "rgba16float", "rgba32float", "mono8fixed"]),
    ],
    "switchTOP": [("index", "Float", 0.0)],
    "scriptTOP": [("callbacks", "OP", ""), ("setuppars", "Pulse", 0), ("modoutsidecook", "Toggle", False)],
    "moviefileinTOP": [("file", "File", ""), ("play", "Toggle", True)],
    "videodeviceinTOP": [("active", "Toggle", True), ("device", "StrMenu", "")],
    "ndiinTOP": [("active", "Toggle", True), ("name", "StrMenu", "")],
    "ndioutTOP": [("active", "Toggle", True), ("name", "Str", "TouchDesigner")],
    "syphonspoutinTOP": [("sendername", "StrMenu", ""), ("usespoutactivesender", "Toggle", True)],
    "syphonspoutoutTOP": [("active", "Toggle", True), ("sendername", "Str", "TDSyphonSpoutOut")],
    "textDAT": _FILE,
    "tableDAT": _FILE,
    "executeDAT": [
        *_EXECUTE,
        *((name, "Toggle", False) for name in ("start", "create", "exit", "framestart", "frameend", "playstatechange")),
    ],
    "parameterexecuteDAT": [
        *_EXECUTE,
        ("op", "OP", ""),
        ("pars", "Str", ""),
        *((name, "Toggle", False) for name in ("valuechange", "valueschanged", "onpulse", "expressionchange")),
        ("custom", "Toggle", True),
        ("builtin", "Toggle", False),
    ],
    "oscinDAT": [
        *_NET,
        ("addscope", "Str", ""),
        ("typetag", "Toggle", False),
        ("splitbundle", "Toggle", False),
        ("splitmessage", "Toggle", False),
        ("callbacks", "OP", ""),
        ("clamp", "Toggle", True),
        ("maxlines", "Int", 100),
        ("clear", "Pulse", 0),
    ],
    "oscoutDAT": [*_NET, ("localport", "Int", 0)],
}
INPUTS = {
    "switchTOP": 16,
    "scriptTOP": 3,
    "outTOP": 1,
    "nullTOP": 1,
    "transformTOP": 1,
    "ndioutTOP": 1,
    "syphonspoutoutTOP": 1,
}
"""How many wires go in; types that are not named take none (a COMP has those of its In operators)."""
