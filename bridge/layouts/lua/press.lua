-- A button that tells its row what it stands for.

function onValueChanged(key)
  if key == 'x' and self.values.x == 1 then
    self.parent:notify('pressed', self.tag)
  end
end
