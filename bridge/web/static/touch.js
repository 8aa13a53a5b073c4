// A finger on a slider. It moves the value by as much as it moves itself, so that scrolling past a slider, or a touch in the
// dark, changes nothing; a drag that goes up or down is the page's, one along the slider never is.

const SLACK_PX = 6;

/** `start()` gives where the knob is (0 to 1), `drag(position)` moves it, `end()` says that the finger is gone. */
export function drags(track, { start, drag, end }) {
  let finger = null;
  track.addEventListener("pointerdown", (event) => {
    // Where a mouse is at home, the knob itself takes it.
    if (event.target !== track || finger) return;
    finger = { id: event.pointerId, x: event.clientX, from: start(), moving: false };
  });
  track.addEventListener("pointermove", (event) => {
    if (event.pointerId !== finger?.id) return;
    const way = event.clientX - finger.x;
    if (!finger.moving) {
      if (Math.abs(way) < SLACK_PX) return;
      // What it took to know that this is a drag does not count.
      finger.moving = true;
      finger.x += Math.sign(way) * SLACK_PX;
      track.setPointerCapture(event.pointerId);
    }
    drag(Math.min(1, Math.max(0, finger.from + (event.clientX - finger.x) / track.clientWidth)));
  });
  for (const kind of ["pointerup", "pointercancel"])
    track.addEventListener(kind, (event) => {
      if (event.pointerId !== finger?.id) return;
      const moved = finger.moving;
      finger = null;
      if (moved) end();
    });
}
