"""Callback of the OSC In DAT: once for each message of the bridge."""


def onReceiveOSC(dat, rowIndex, message, byteData, timeStamp, address, args, peer):
    parent().ext.LiveLatent.Osc(address, args)
