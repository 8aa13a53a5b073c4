-- A name out of many: arrows leaf through them, and only the button `set` sends. ADDRESS, NAMES and NOW,
-- the default, stand above.

local at = 1

local function find()
  for i = 1, #NAMES do
    if NAMES[i] == NOW then
      at = i
    end
  end
end

local function show(text)
  self.children.value.values.text = text
end

find()

function onReceiveNotify(key, value)
  if key == 'told' then
    NOW = value
    find()
    show(NOW)
  elseif value == 'set' then
    NOW = NAMES[at]
    show(NOW)
    sendOSC({ADDRESS, {{tag = 's', value = NOW}}})
  else
    at = (at - 1 + tonumber(value)) % #NAMES + 1
    show(NAMES[at] == NOW and NOW or NAMES[at] .. ' ?')
  end
end
