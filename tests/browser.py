"""Pages in a real browser, without a window: Chromium or Chrome, as found; else tests skip."""

import html
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--hide-scrollbars",
    "--enable-logging=stderr",
    # As long as the page has timers of its own to wait for, and no longer.
    "--virtual-time-budget=20000",
)
_LISTEN = """<script>
window.problems = [];
addEventListener("error", (event) => problems.push(String(event.message)));
addEventListener("unhandledrejection", (event) => problems.push(String(event.reason)));
addEventListener("securitypolicyviolation", (event) => {
  problems.push("blocked: " + event.blockedURI);
});
for (const name of ["error", "warn"]) {
  const before = console[name];
  console[name] = (...what) => { problems.push(what.join(" ")); before(...what); };
}
</script>"""
_ANSWER = """<script>
(async () => {
  let found;
  try { found = await (async () => { %s })(); } catch (error) { problems.push(String(error)); }
  const answer = document.createElement("pre");
  answer.id = "answer";
  answer.textContent = JSON.stringify({ found, problems });
  document.body.append(answer);
  if (parent !== window) parent.postMessage(answer.textContent, "*");
})();
</script>"""

_LEAST_WIDTH = 500
"""Of Chromium's window; what is to be narrower is shown in a frame."""
_FRAME = """<!doctype html>
<meta charset="utf-8"><meta name="color-scheme" content="light dark">
<body><iframe src="%s" width="%d" height="800" style="border: 0"></iframe>
<script>
addEventListener("message", (event) => {
  const answer = document.createElement("pre");
  answer.id = "answer";
  answer.textContent = event.data;
  document.body.append(answer);
});
</script>
"""


def find() -> str:
    """The browser's command; skips the test where there is none."""
    asked = os.environ.get("BROWSER_FOR_TESTS")
    found = asked or next((path for name in _NAMES if (path := shutil.which(name))), None)
    if not found:
        pytest.skip("no Chromium or Chrome; scripts/setup.sh --dev installs it where apt can")
    return found


def ask(page: Path, script: str, *, width: int = 1200, dark: bool = False) -> Any:
    """Opens a page, runs a script in it and returns what that returns.

    Args:
      page: the HTML file.
      script: the body of an asynchronous JavaScript function.
      width: of the window, pixels; of a frame where it is less than Chromium's windows have.
      dark: whether the reader prefers dark pages.

    Raises:
      AssertionError: something was written to the console, or thrown, or blocked.
    """
    browser = find()
    text = page.read_text(encoding="utf-8")
    text = text.replace("<head>", f"<head>{_LISTEN}", 1)
    copy = page.with_name(f"asked-{page.name}")
    start, _, end = text.rpartition("</body>")  # the library has one, too, in a string
    copy.write_text(f"{start}{_ANSWER % script}</body>{end}", encoding="utf-8")
    if width < _LEAST_WIDTH:
        frame = page.with_name(f"framed-{page.name}")
        frame.write_text(_FRAME % (copy.as_uri(), width), encoding="utf-8")
        copy = frame
    scheme = ["--blink-settings=preferredColorScheme=0"] if dark else []
    done = subprocess.run(
        [browser, *_FLAGS, *scheme, f"--window-size={width},900", "--dump-dom", copy.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    answer = re.search(r'<pre id="answer">(.*?)</pre>', done.stdout, re.DOTALL)
    assert answer, done.stdout[-2000:] + done.stderr[-2000:]
    told = json.loads(html.unescape(answer[1]))
    said = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    assert not told["problems"] + said, told["problems"] + said
    return told["found"]
