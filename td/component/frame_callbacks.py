"""Callbacks of the Execute DAT: the project begins, and a frame begins."""


def onStart():
    parent().ext.LiveLatent.Begin()


def onCreate():
    parent().ext.LiveLatent.Begin()


def onFrameStart(frame):
    parent().ext.LiveLatent.Frame()


def onFrameEnd(frame):
    parent().ext.LiveLatent.FrameEnd()
