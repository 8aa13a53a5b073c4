-- A row of buttons of which one is on. Each has as its tag what it stands for. ON and OFF, colours, stand above.

function onReceiveNotify(key, value)
  if type(value) == 'number' then
    value = string.format('%.0f', value)
  end
  for i = 1, #self.children do
    local child = self.children[i]
    if child.tag ~= '' then
      child.color = child.tag == value and ON or OFF
    end
  end
end
