"""What the show can be told to do, in words: address → what it takes and does, for documentation and for programs."""

from __future__ import annotations

from bridge.ramp import RAMP_CURVES

ACTS = {
    "look/recall": "`NAME [seconds] [curve] [beat or bar]`: go to a look, now or with the next beat or bar. Curves: "
    + ", ".join(RAMP_CURVES)
    + ".",
    "look/save": "`NAME`: keep the running state as a look in your own folder.",
    "look/delete": "`NAME`: delete a look of your own.",
    "look/list": "Answered with the looks' names.",
    "show/load": "`NAME`: put a cue list on; nothing fires yet.",
    "show/new": "Take the cue list off; the next insert begins a new one.",
    "show/save": "`NAME`: keep the cue list, as it was edited, in your own folder.",
    "show/list": "Answered with the cue lists' names.",
    "cue/jump": "`CUE`: fire this one, by its name or its number from 1.",
    "cue/hold": "`[1 or 0]`: let no time pass for the cue list, or let it pass again.",
    "cue/list": "Answered with the cues' names, in order.",
    "cue/insert": "`CUE LOOK [move] [wait]`: a new cue before this one; 0 puts it at the end. Where no list is on, it "
    "begins one.",
    "cue/set": "`CUE KEY VALUE`: change a cue's name, look, move, curve, wait, next, times or quantise.",
    "cue/move": "`CUE PLACE`: put it where this one is, or at this number.",
    "cue/remove": "`CUE`: take it out of the list.",
    "schedule/<parameter>": "`TEXT [length]`: move this parameter by a schedule; an empty text ends it (docs/show.md).",
    "schedule/release": "`[parameter]`: after a move by hand a schedule has its parameter again; without a name, all.",
    "schedule/list": "Answered with parameter and text of each schedule in turn.",
    "in/<name>": "A number, or 0 and 1, for schedules: `in.<name>`.",
    "downbeat": "A bar begins now.",
    "record/start": "`[NAME] [mp4, mkv or png] [input]`: record what goes out into a folder of its own; `input` keeps "
    "what comes in too, for `livelatent replay` (docs/recording.md).",
    "record/stop": "End the recording.",
    "record": "`[1 or 0]`: start as configured, or stop; without a number, the other of the two.",
    "still": "`[NAME] [input]`: save the picture that goes out, with its settings; `input` saves what came in too.",
    "next/beat/<address>": "What any other address does (a parameter, a cue, a schedule), with the next beat.",
    "next/bar/<address>": "The same with the next bar: `/ll/next/bar/strength 0.7 2`, `/ll/next/bar/cue/go`.",
    "midi/learn": "`ADDRESS [argument ...]`: the controller that moves next is bound to it (docs/show.md); without an "
    "address, learn no more.",
    "midi/forget": "`ADDRESS [argument ...]`: no controller moves it any more, or does it with these arguments.",
    "midi/load": "`NAME`: take the bindings of this file.",
    "midi/list": "Answered with the names of the files of bindings.",
    "midi/bindings": "Answered with what is bound: controller and address of each in turn.",
}
COMMANDS = {
    "cue/go": "Fire the next cue.",
    "cue/back": "Fire the cue before.",
    "tap": "Tap the tempo in.",
}
"""What takes no arguments, and has a button on the page."""

RECORDING = frozenset({"record", "record/start", "record/stop", "still"})
"""Acts on the deck alone: no frame waits for the director's lock while a folder is made on a slow disc."""
