-- A button that sends a text which a row shows: livelatent tells nobody of their own changes. ROW, the row's name, and
-- TEXT stand above.

function onValueChanged(key)
  if key == 'x' and self.values.x == 1 then
    self.parent.children[ROW].children.value.values.text = TEXT
  end
end
