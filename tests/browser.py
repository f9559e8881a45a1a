"""A headless Chromium for tests, by its own protocol: opens pages, asks them, and takes pictures of them."""

import asyncio
import base64
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
PICTURES = Path(__file__).parent / "output"
"""Where pictures are kept, for people to look at; not in the repository."""

PATIENCE = 180.0
"""Seconds after which a page is taken to hang: no measure of speed."""

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")


class Page:
    """A page in a tab of the browser."""

    def __init__(self, tab: Any) -> None:
        self._tab = tab

    async def ask(self, expression: str) -> Any:
        """The value of an expression in JavaScript."""
        answer = await self._tab.send_command(
            "Runtime.evaluate", {"expression": expression, "returnByValue": True, "awaitPromise": True}
        )
        if "error" in answer:  # the page was just left for another
            return None
        result = answer["result"]
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    async def until(self, expression: str) -> Any:
        """The value of an expression, as soon as it is one that counts as true."""
        try:
            async with asyncio.timeout(PATIENCE):
                while not (value := await self.ask(expression)):
                    await asyncio.sleep(0.2)
                return value
        except TimeoutError:
            shown = await self.ask("document.body.innerText")
            raise AssertionError(f"{expression} never came true; the page shows:\n{shown}") from None

    async def shows(self, *texts: str) -> None:
        """Wait until all these texts can be read on the page."""
        for text in texts:
            await self.until(f"document.body?.innerText.includes({text!r})")

    async def go(self, address: str) -> None:
        """Open another address."""
        await self._tab.send_command("Page.navigate", {"url": address})

    async def picture(self, name: str) -> Path:
        """Keep a picture of what is seen; its file."""
        answer = await self._tab.send_command("Page.captureScreenshot", {"format": "png"})
        PICTURES.mkdir(exist_ok=True)
        path = PICTURES / f"{name}.png"
        path.write_bytes(base64.b64decode(answer["result"]["data"]))
        return path


def browse(visit: Callable[[Page], Awaitable[None]], address: str, width: int = 1400, height: int = 1000) -> None:
    """Open an address in a browser of its own and visit it.

    Args:
        visit: an async function of a `Page`.
        address: to be opened.
        width: of the window, in CSS pixels.
        height: of the window.
    """

    async def session() -> None:
        from choreographer import Browser

        async with Browser(path=CHROMIUM, headless=True) as browser:
            tab = await browser.create_tab("about:blank")
            size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
            await tab.send_command("Emulation.setDeviceMetricsOverride", size)
            page = Page(tab)
            await page.go(address)
            await visit(page)

    asyncio.run(session())
