"""Every error that livelatent raises on purpose, in one tree.

LiveLatentError
├── ConfigError            a config file or command line is wrong: says which file and key
├── ControlError           a remote said something we refuse (their fault; counted, never fatal)
│   ├── OscError           bytes that are not OSC
│   └── ParamError         unknown address, wrong type, not finite, out of range
├── WireError              bytes on ZMQ or shared memory that break the frame protocol (their fault)
├── DriverError            a source or sink
│   ├── DriverMissing      an optional package is not installed: the message says which
│   ├── SourceError        the device or file is gone or broken: retried with back-off
│   │   └── SourceEnded    a movie without loop is over: not an error of anyone's
│   └── SinkError          the target can't be written: retried with back-off
└── WorkerError            the worker died, stalled, or refused a job

engines.errors.ModelError (a model can't be found, is refused, or is broken) stands apart:
engines may not import bridge.
"""

from __future__ import annotations


class LiveLatentError(Exception):
    """Base of all our errors. `str(error)` is one sentence that a user can act on."""


class ConfigError(LiveLatentError):
    """A config file or an argument is wrong."""


class ControlError(LiveLatentError):
    """A remote peer said something that we refuse."""


class OscError(ControlError):
    """The bytes are not OSC 1.0, or exceed our caps."""


class ParamError(ControlError):
    """No such parameter, or a value that it can't take."""


class WireError(LiveLatentError):
    """A frame message or shared-memory segment breaks the protocol of docs/wire.md."""


class DriverError(LiveLatentError):
    """A source or a sink failed."""


class DriverMissing(DriverError):
    """The driver needs a package that is not installed."""


class SourceError(DriverError):
    """The source is gone or broken; it is closed and opened again after a pause."""


class SourceEnded(SourceError):
    """The source has no more frames and will not have any (a movie without loop)."""


class SinkError(DriverError):
    """The sink can't be written; it is closed and opened again after a pause."""


class WorkerError(LiveLatentError):
    """The worker died, stalled, or refused a job."""
