"""Callbacks of the Script TOP `receive`, whose picture is the component's output."""


def onSetupParameters(scriptOp):
    return


def onCook(scriptOp):
    parent().ext.LiveLatent.Cook(scriptOp)
