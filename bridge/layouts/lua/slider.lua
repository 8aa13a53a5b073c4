-- A row with a fader and its value in figures. ADDRESS, LOW, HIGH, FORMAT and POWER, of the fader's travel, stand above.
-- Where the travel is even (POWER 1) the fader's own message sends and hears, and this only writes the figures.

function onReceiveNotify(key, value)
  local children = self.children
  if key == 'told' then
    if POWER ~= 1 and not children.fader.values.touch then
      children.fader.values.x = math.clamp((value - LOW) / (HIGH - LOW), 0, 1) ^ (1 / POWER)
    end
  elseif key == 'moved' then
    local at = LOW + (HIGH - LOW) * value ^ POWER
    children.value.values.text = string.format(FORMAT, at)
    if POWER ~= 1 and children.fader.values.touch then
      sendOSC({ADDRESS, {{tag = 'f', value = at}}})
    end
  end
end
