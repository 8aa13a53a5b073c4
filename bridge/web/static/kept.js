// What this browser remembers of how somebody likes the desk. Nothing here is the show's.

const PREFIX = "livelatent.";

export function kept(name, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(PREFIX + name)) ?? otherwise;
  } catch {
    return otherwise; // no storage in a private window, or not ours
  }
}

export function keep(name, value) {
  try {
    localStorage.setItem(PREFIX + name, JSON.stringify(value));
  } catch {
    // it holds until the page is closed
  }
}
