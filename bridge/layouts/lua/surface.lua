-- The layout as a whole: asks livelatent to tell every change, and hands what it tells to the row that shows it.
-- PREFIX and PORT stand above.

local RENEW_MS = 20000
local LEASE_S = 90.0
local rows = {}
local renewed

local function find(control)
  for i = 1, #control.children do
    local child = control.children[i]
    if child.tag:sub(1, 1) == '/' then
      rows[child.tag] = child
    end
    find(child)
  end
end

local function subscribe()
  renewed = getMillis()
  sendOSC({PREFIX .. '/subscribe', {{tag = 'i', value = PORT}, {tag = 'f', value = LEASE_S}}})
end

function init()
  find(self)
  subscribe()
  sendOSC({PREFIX .. '/get', {}})
end

function update()
  if getMillis() - renewed > RENEW_MS then
    subscribe()
  end
end

function onReceiveOSC(message)
  local row, argument = rows[message[1]], message[2][1]
  if row and argument then
    row:notify('told', argument.value)
  end
end
