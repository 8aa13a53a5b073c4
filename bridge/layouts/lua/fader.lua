-- The fader of such a row.

function onValueChanged(key)
  if key == 'x' then
    self.parent:notify('moved', self.values.x)
  end
end
