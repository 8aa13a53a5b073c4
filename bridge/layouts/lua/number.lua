-- A whole number with buttons that step it. ADDRESS, LOW, HIGH and NOW, the default, stand above. A button's tag is its
-- step, or ? for any number.

function init()
  math.randomseed(getMillis())
end

function onReceiveNotify(key, value)
  if key == 'told' then
    NOW = value
  elseif value == '?' then
    NOW = LOW + math.floor(math.random() * (HIGH - LOW)) -- random(LOW, HIGH) fails where they are 31 bits apart
  else
    NOW = math.clamp(NOW + tonumber(value), LOW, HIGH)
  end
  self.children.value.values.text = string.format('%.0f', NOW)
  if key == 'pressed' then
    sendOSC({ADDRESS, {{tag = 'i', value = NOW}}})
  end
end
